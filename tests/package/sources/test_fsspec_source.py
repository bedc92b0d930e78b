from __future__ import annotations

import fsspec
import pytest

from regraft.errors import NetworkFailure, NotFound, Offline, ReferenceSyntaxError
from regraft.package.package import open_package
from regraft.package.sources.interface import SourceOptions


@pytest.fixture
def memory():
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pipe({"/bucket/a/model.bin": b"weights", "/bucket/a/sub/config.json": b"{}", "/bucket/a2/other": b"x"})
    yield system
    system.store.clear()


def test_everything_below_a_prefix(memory):
    options = SourceOptions()
    with open_package("memory://bucket/a", options=options) as package:
        assert [entry.path for entry in package.entries] == ["model.bin", "sub/config.json"]
        assert package.open("model.bin").read_at(2, 3) == b"igh"
        assert options.traffic.bytes_read == 3
        assert package.manifest().digest_kind == "computed"


def test_one_file_and_what_is_inside(memory, make_wheel):
    memory.pipe("/bucket/demo.whl", make_wheel({"demo/a": b"x"}))
    with open_package("memory://bucket/a/model.bin") as package:
        assert [(e.path, e.size_bytes) for e in package.entries] == [("model.bin", 7)]
    with open_package("memory://bucket/demo.whl#demo/a") as package:
        assert package.open("demo/a").read_at(0, 9) == b"x"


def test_nothing_there(memory):
    with pytest.raises(NotFound):
        open_package("memory://bucket/nothing")


def test_a_file_that_changes_midway(memory):
    with open_package("memory://bucket/a") as package:
        memory.pipe("/bucket/a/model.bin", b"w")
        with pytest.raises(NetworkFailure, match="changed"):
            package.open("model.bin").read_at(0, 7)
        memory.rm("/bucket/a/model.bin")
        with pytest.raises(NotFound):
            package.open("model.bin").read_at(0, 7)


@pytest.mark.parametrize(
    "reference",
    [
        "nonsense://x",
        "local:///etc",
        "reference://x",
        "simplecache::file://x",
        "zip://x::file:///y",
        "memory://a::file:///etc",
    ],
)
def test_what_is_not_opened(reference):
    with pytest.raises((ReferenceSyntaxError, NotFound)):
        open_package(reference)


def test_offline(memory):
    with pytest.raises(Offline):
        open_package("memory://bucket/a", options=SourceOptions(offline=True))
