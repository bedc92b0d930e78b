"""A package out of a dict, scanned: what the tests of all rule families need."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from regraft.record.evidence import Evidence
from regraft.trust.scan import scan

sys.path.insert(0, str(Path(__file__).parents[3]))
"""The corpus is a package of the tests, `tests.trust.corpus`."""

Content = bytes | str


@pytest.fixture
def scan_files(tmp_path: Path) -> Callable[..., Evidence]:
    """Write files below a folder and scan it: `scan_files({"config.json": "{}"})`."""

    def write_and_scan(files: Mapping[str, Content], **options: object) -> Evidence:
        root = Path(tempfile.mkdtemp(dir=tmp_path)) / "package"
        for name, content in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        root.mkdir(exist_ok=True, parents=True)
        return scan(root, **options)  # type: ignore[arg-type]

    return write_and_scan


@pytest.fixture
def rules_of(scan_files: Callable[..., Evidence]) -> Callable[..., set[str]]:
    """The ids of the rules that a scan of some files reports."""

    def rules(files: Mapping[str, Content]) -> set[str]:
        return {finding.rule for finding in scan_files(files).findings}

    return rules
