"""Where results go: into a file whole, through a link, into what is no file."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from regraft.cli.output import write_atomically
from regraft.errors import AccessDenied


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    write_atomically(pipe, b"all of it")
    reader.join(10)
    assert read == [b"all of it"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_link_stays_and_its_file_is_new(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/result").write_bytes(b"old")
    (tmp_path / "link").symlink_to("kept/result")
    write_atomically(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "kept/result").read_bytes() == b"new"


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AccessDenied, match="directory"):
        write_atomically(tmp_path, b"x")
