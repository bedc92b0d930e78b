"""Results beside each other: the page first, packages whole or not at all, one reason."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from regraft.errors import AccessDenied
from regraft.workflow.results import write_results


@pytest.fixture
def products(tmp_path: Path) -> Sequence[Path]:
    folder = tmp_path / "store/a/mine"
    folder.mkdir(parents=True)
    for number in range(3):
        (folder / f"weights-{number}.bin").write_bytes(bytes(50_000))
    (tmp_path / "store/b").mkdir()
    (tmp_path / "store/b/mine-onnx").write_text("graph")
    return folder, tmp_path / "store/b/mine-onnx"


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_the_page_and_copies_of_what_was_made(tmp_path: Path, products: Sequence[Path]) -> None:
    out = tmp_path / "out"
    assert write_results(out, "<!doctype html>", products).read_text() == "<!doctype html>"
    made = [f"packages/mine/weights-{number}.bin" for number in range(3)]
    assert names(out) == ["packages/mine-onnx", *made, "report.html"]
    write_results(out, "again", products[1:])
    assert names(out) == ["packages/mine-onnx", "report.html"], "those of an earlier run are gone"
    assert (out / "report.html").read_text() == "again"
    write_results(out, "none", [])
    assert names(out) == ["report.html"]


def test_what_else_lies_there_is_left_alone(tmp_path: Path, products: Sequence[Path]) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/notes.txt").write_text("mine")
    write_results(tmp_path / "out", "page", products)
    assert (tmp_path / "out/notes.txt").read_text() == "mine"


_LIMITED = """
import resource, sys
from pathlib import Path
from regraft.errors import AccessDenied
from regraft.workflow.results import write_results
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    write_results(Path(sys.argv[1]), "a page", [Path(path) for path in sys.argv[2:]])
except AccessDenied as error:
    print(error.what)
"""


def test_what_does_not_fit_is_one_reason_and_leaves_the_page(tmp_path: Path, products: Sequence[Path]) -> None:
    """A limit on the size of files stands for a full disk: both are errors of the system in the midst of copying."""
    out = tmp_path / "out"
    write_results(out, "before", products[1:])
    command = [sys.executable, "-c", _LIMITED, str(out), *map(str, products)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "the results cannot be written: File too large\n", done.stderr
    assert names(out) == ["packages/mine-onnx", "report.html"], "no half of a package, and nothing hidden"
    assert (out / "report.html").read_text() == "a page"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir(mode=0o555)
    with pytest.raises(AccessDenied, match="Permission denied"):
        write_results(tmp_path / "out", "page", [])


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(AccessDenied, match="cannot be written"):
        write_results(tmp_path / "out", "page", [])
    assert (tmp_path / "out").read_text() == "a file"
