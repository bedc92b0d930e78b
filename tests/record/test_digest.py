"""Digests of bytes, files and packages."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regraft.record.digest import (
    Digest,
    digest_bytes,
    digest_chunks,
    digest_file,
    package_digest,
    parse_digest,
)


def test_known_answer() -> None:
    # FIPS 180-4 example: SHA-256 of "abc"
    assert digest_bytes(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@given(st.lists(st.binary(max_size=50), max_size=10))
def test_chunks_are_their_concatenation(chunks: list[bytes]) -> None:
    assert digest_chunks(chunks) == hashlib.sha256(b"".join(chunks)).hexdigest()


def test_files_keep_the_order_asked_for(tmp_path: Path) -> None:
    sizes = [3 << 20, 0, 1, (1 << 20) + 1, 5]
    paths = []
    for number, size in enumerate(sizes):
        path = tmp_path / str(number)
        path.write_bytes(os.urandom(size))
        paths.append(path)
    expected = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    assert [digest_file(path) for path in paths] == expected


@pytest.mark.parametrize("text", ["", "0" * 63, "0" * 65, "g" * 64, "０" * 64, "0" * 64 + "\n", " " + "0" * 63])
def test_what_is_no_digest_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a sha256 digest"):
        parse_digest(text)


def test_upper_case_is_read() -> None:
    assert parse_digest("AB" * 32) == "ab" * 32


def test_package_digest_goes_by_path_components_not_by_text() -> None:
    a, b = Digest("aa" * 32), Digest("bb" * 32)
    # As texts "m-1/x" < "m/x", as components ("m",) < ("m-1",).
    assert package_digest([("m-1/x", a), ("m/x", b)]) == digest_chunks([bytes.fromhex(b), bytes.fromhex(a)])
    assert package_digest([("m/x", b), ("m-1/x", a)]) == package_digest([("m-1/x", a), ("m/x", b)])
