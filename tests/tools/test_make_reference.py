from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from regraft.package.formats import formats
from regraft.trust.scan import all_rules

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tool() -> Iterator[ModuleType]:
    sys.path.insert(0, str(ROOT / "tools"))  # as when it is run
    spec = importlib.util.spec_from_file_location("make_reference", ROOT / "tools/make_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_reference"] = module
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(ROOT / "tools"))


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


def test_every_rule_of_the_other_verbs_is_listed_and_exists(tool):
    source = "\n".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    used = set(re.findall(r'"(RG[A-RT-Z]-[A-Z]+-[0-9]{3})"', source))
    for prefix, first, end in re.findall(
        r'f"(RG[A-Z]-[A-Z]+-){number:03}" for number in range\((\d+), (\d+)\)', source
    ):
        used |= {f"{prefix}{number:03}" for number in range(int(first), int(end))}
    used |= set(
        re.findall(
            r'"((?:divergence|precision|feeds|verify|convert|decisions|replicate|fidelity|portability|stage|weights)\.[a-z_]+)"',
            source,
        )
    ) - {"feeds.safetensors", "weights.npz"}
    used |= {"divergence.beyond", "divergence.undecided"}  # made of the names of judgements
    listed = set(re.findall(r"^\| (RG[A-Z]-[A-Z]+-[0-9]{3}|[a-z]+\.[a-z_]+) ", tool.rules_page(), re.MULTILINE))
    assert listed == used


def test_every_error_that_is_raised_has_a_section_with_all_its_parts(tool):
    source = "\n".join(path.read_text() for path in (ROOT / "src/regraft").rglob("*.py") if path.name != "errors.py")
    page = tool.errors_page()
    for error in tool.error_classes():
        if not re.search(rf"\b{error.__name__}\(", source):
            continue
        section = re.search(rf"^## {error.code}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
        assert section, f"{error.__name__} has no page text in tools/reference/errors.py"
        for part in ("What it means", "Why it matters", "Example", "Fix"):
            assert f"**{part}.**" in section[1], (error, part)


def test_every_format_has_a_row_that_says_what_is_described(tool):
    page = tool.formats_page()
    for member in formats():
        assert f"| `{member.name}` | {member.role.value} | {member.loading.value} |" in page
    rows = {line.split("`")[1]: line for line in page.splitlines() if line.startswith("| ") and "`" in line}
    for name in ("onnx", "tflite", "tf-saved-model", "openvino-ir"):
        assert all(word in rows[name] for word in ("tensors", "operators", "inputs", "outputs"))
    assert "tensors, metadata" in rows["safetensors"]
    assert "operators" not in rows["safetensors"]


def test_the_help_of_every_verb_is_shown(tool):
    page = tool.cli_page()
    for verb in ("inspect", "scan", "fetch", "check", "doctor"):
        assert f"\n## {verb}\n" in page
        assert f"Usage: regraft {verb} " in page
    assert "--allow WHAT" in page
