"""R data under every compression."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable

import pytest

from regraft.package.formats import recognise
from regraft.package.formats.interface import Loading, Probe
from regraft.package.formats.rdata import RData
from regraft.package.reader import BytesReader

OBJECT = b"X\n\x00\x00\x00\x03" + bytes(100)


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress, bytes])
@pytest.mark.parametrize(("content", "kind"), [(b"RDX3\n" + OBJECT, "workspace"), (OBJECT, "object")])
def test_workspaces_and_objects(compress: Callable[[bytes], bytes], content: bytes, kind: str) -> None:
    probe = Probe(BytesReader(compress(content), where="x"), "data")
    assert RData().matches(probe)
    description = RData().describe(probe)
    assert (description.metadata["kind"], description.version) == (kind, "3")


def test_it_is_recognised_below_its_compression_and_counts_as_code() -> None:
    member = recognise(Probe(BytesReader(gzip.compress(b"RDX3\n" + OBJECT), where="x"), "data"))
    assert member is not None
    assert member.name == "rdata"
    assert member.loading is Loading.CODE


@pytest.mark.parametrize(
    "data", [b"", gzip.compress(b"text", mtime=0), b"\x1f\x8bnonsense", b"BZh9" + bytes(50), b"\xfd7zXZ\x00"]
)
def test_other_content(data: bytes) -> None:
    assert not RData().matches(Probe(BytesReader(data, where="x"), "x.rda"))


def test_a_bomb_is_opened_by_sixteen_bytes() -> None:
    bomb = gzip.compress(b"RDX2\n" + bytes(50_000_000))
    assert RData().matches(Probe(BytesReader(bomb, where="x"), "x"))


def test_damage_never_escapes(hammer: Callable[..., int]) -> None:
    for compress in (gzip.compress, bz2.compress, lzma.compress):
        hammer(RData(), compress(b"RDX3\n" + OBJECT), rounds=90)
