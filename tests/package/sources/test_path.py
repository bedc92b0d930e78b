from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from regraft.errors import AccessDenied, NotFound, RegraftError, UsageError
from regraft.package.package import open_package
from regraft.package.reference import ModelRef


def listed(path: Path | str) -> dict[str, str | None]:
    with open_package(ModelRef("path", str(path))) as package:
        return {entry.path: entry.obstacle for entry in package.entries}


def test_a_file_is_a_package_of_one_file(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"abc")
    with open_package(tmp_path / "model.bin") as package:
        assert [(e.path, e.size_bytes) for e in package.entries] == [("model.bin", 3)]
        assert package.open("model.bin").read_at(1, 9) == b"bc"
        with pytest.raises(NotFound):
            package.open("other")


def test_an_archive_without_fragment_is_one_file_and_with_it_its_members(tmp_path, make_wheel):
    (tmp_path / "demo.whl").write_bytes(make_wheel({"demo/model.bin": b"weights", "demo/a.py": b""}))
    with open_package(tmp_path / "demo.whl") as package:
        assert [entry.path for entry in package.entries] == ["demo.whl"]
    with open_package(f"{tmp_path}/demo.whl#demo/model.bin") as package:
        assert [entry.path for entry in package.entries] == ["demo/model.bin"]
        assert package.open("demo/model.bin").read_at(0, 99) == b"weights"
        assert package.manifest().digest_kind == "computed"


def test_something_inside_a_file_that_is_no_archive(tmp_path):
    (tmp_path / "x.bin").write_bytes(b"plain")
    with pytest.raises(NotFound, match="no archive"):
        open_package(f"{tmp_path}/x.bin#inside")


def test_a_missing_path_names_its_nearest_sibling(tmp_path):
    (tmp_path / "model.onnx").touch()
    with pytest.raises(NotFound) as caught:
        open_package(tmp_path / "modle.onnx")
    assert str(tmp_path / "model.onnx") in caught.value.hint
    with pytest.raises(NotFound) as caught:
        open_package(tmp_path / "no" / "such" / "deep")
    assert str(tmp_path) in caught.value.hint


@pytest.mark.parametrize("name", ["a\x00b", "x" * 5000])
def test_what_cannot_be_a_path_is_told_as_such(tmp_path, name):
    with pytest.raises(RegraftError):
        open_package(tmp_path / name)


def test_a_pipe_and_a_device_are_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(AccessDenied):
            open_package(path)


def test_a_link_to_itself_as_reference(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(AccessDenied):
        open_package(tmp_path / "loop")


def test_a_trace_is_a_folder(tmp_path):
    (tmp_path / "trace.json").write_text("{}")
    with open_package(f"trace:{tmp_path}") as package:
        assert [entry.path for entry in package.entries] == ["trace.json"]
    with pytest.raises(NotFound):
        open_package(f"trace:{tmp_path}/trace.json")


def test_code_has_no_files():
    with pytest.raises(UsageError):
        open_package("py:my_module:build")


def test_special_files_are_listed_with_their_obstacle(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as bound:
        monkeypatch.chdir(tmp_path)  # the path of a socket is short
        bound.bind("socket")
        found = listed(tmp_path)
    assert "pipe" in (found["pipe"] or "")
    assert "socket" in (found["socket"] or "")
