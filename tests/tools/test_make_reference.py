from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from regraft.trust.scan import all_rules

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_reference", ROOT / "tools/make_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_reference"] = module
    spec.loader.exec_module(module)
    return module


def test_the_published_pages_are_current(tool):
    assert tool.stale_pages(ROOT / "docs/reference") == [], "run `make reference`"


def test_a_page_that_differs_is_stale(tool, tmp_path):
    (tmp_path / "rules.md").write_text("old")
    assert "rules.md" in tool.stale_pages(tmp_path)


def test_every_rule_has_a_section(tool):
    page = tool.rules_page()
    for rule in all_rules():
        assert f"## {rule.id}\n" in page
        assert rule.why in page
        assert rule.fix in page
