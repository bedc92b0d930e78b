"""Pictures of pages by the tool, and what it says of a page that complains."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools/screenshot.py"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not shutil.which("chromium") and not shutil.which("google-chrome"), reason="no Chromium"),
]


def picture_of(page: Path, picture: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TOOL), str(page), str(picture), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(("options", "size"), [((), (600, 3000)), (("--height", "500"), (600, 500))])
def test_a_picture_has_the_whole_page_or_its_top(
    tmp_path: Path, options: tuple[str, ...], size: tuple[int, int]
) -> None:
    page = tmp_path / "page.html"
    page.write_text("<!doctype html><body style='margin:0'><div style='height:3000px;background:teal'></div>")
    done = picture_of(page, tmp_path / "page.png", "--width", "600", *options)
    assert (done.returncode, done.stderr) == (0, "")
    assert struct.unpack(">II", (tmp_path / "page.png").read_bytes()[16:24]) == size


def test_a_page_that_complains_is_told(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<!doctype html><script>console.error('no figure here')</script>")
    done = picture_of(page, tmp_path / "page.png")
    assert done.returncode == 1
    assert "no figure here" in done.stderr
