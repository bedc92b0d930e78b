"""Archives as files of their own: recognised by content, described without being unpacked."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
import zlib

import pytest

from regraft.errors import Damaged
from regraft.package.formats.archive_formats import Compressed, Sealed, SevenZip, Tar, TorchServe, Zip
from regraft.package.formats.interface import Loading, Probe
from regraft.package.reader import BytesReader


def probe(data: bytes, name: str = "test.bin") -> Probe:
    return Probe(BytesReader(data, where="test"), name)


def zipped(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name.replace("__", "/"), data)
    return buffer.getvalue()


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("a.txt")
        entry.size = 3
        archive.addfile(entry, io.BytesIO(b"abc"))
    return buffer.getvalue()


def test_zip_with_or_without_a_prefix() -> None:
    data = zipped(a=b"1", b=b"22")
    for content in (data, b"#!/bin/sh\n" + data):
        assert Zip().matches(probe(content))
        assert Zip().describe(probe(content)).metadata["members"] == "2"
    assert Zip().describe(probe(data)).metadata["expanded_bytes"] == "3"


def test_a_cut_zip_is_recognised_and_damaged() -> None:
    data = zipped(a=b"1" * 100)[:60]
    assert Zip().matches(probe(data))
    with pytest.raises(Damaged):
        Zip().describe(probe(data))


def test_tar_and_torchserve() -> None:
    assert Tar().matches(probe(tarred()))
    assert Tar().describe(probe(tarred())).metadata["members"] == "1"
    assert not Tar().matches(probe(b"a.txt" + bytes(600)))
    assert TorchServe().matches(probe(zipped(**{"MAR-INF__MANIFEST.json": b"{}", "handler.py": b""})))
    assert not TorchServe().matches(probe(zipped(a=b"")))


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress, zlib.compress])
def test_compressed_files_tell_what_is_inside(compress: object) -> None:
    assert callable(compress)
    assert Compressed().matches(probe(compress(b"text" * 100)))
    assert Compressed().describe(probe(compress(b"text" * 100))).metadata["content"] == "one file"
    assert Compressed().describe(probe(compress(tarred()))).metadata["content"] == "tar"


def test_weak_marks_alone_are_not_believed() -> None:
    assert not Compressed().matches(probe(b"x\x9c is how this text begins" * 20))
    assert not Compressed().matches(probe(b"\x5d\x00\x00\x80\x00" + b"\xff" * 8 + b"nothing compressed" * 9))


def test_sealed_archives_are_unknown() -> None:
    assert SevenZip().matches(probe(b"7z\xbc\xaf\x27\x1c" + bytes(30)))
    assert not Sealed().matches(probe(b"7z\xbc\xaf\x27\x1c" + bytes(30)))
    assert Sealed().matches(probe(b"Rar!\x1a\x07\x01\x00" + bytes(30)))
    assert Sealed().loading is Loading.UNKNOWN
