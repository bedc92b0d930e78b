"""Programs are recognised anywhere by their structure; a magic number alone, and chance, are nothing."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.trust.corpus.archive_writers import packed_7z, zipped
from tests.trust.corpus.weight_payloads import PROGRAMS, SCRIPT

from regraft.trust.scan.programs import code_in, programs_in

NOISE = random.Random(3).randbytes(1 << 20)
BINARIES = {name: program for name, program in PROGRAMS.items() if name != "Python"}


@pytest.mark.parametrize("at", [0, 1, 77_777])
@pytest.mark.parametrize("name", BINARIES)
def test_a_program_is_found_where_it_begins(name: str, at: int) -> None:
    found = list(programs_in(NOISE[:at] + BINARIES[name] + NOISE[at:]))
    assert [(hidden.offset, hidden.is_program) for hidden in found] == [(at, True)]


@pytest.mark.parametrize("archive", [zipped({"a.bin": b"x" * 50}), packed_7z("a.bin", b"x" * 50)])
def test_an_archive_is_found_and_is_no_program(archive: bytes) -> None:
    found = list(programs_in(NOISE[:999] + archive + NOISE))
    assert [(hidden.offset, hidden.is_program) for hidden in found] == [(999, False)]


@pytest.mark.parametrize(
    "magic", [b"\x7fELF", b"MZ", b"PE\0\0", b"\xcf\xfa\xed\xfe", b"#!/", b"PK\3\4", b"\xca\xfe\xba\xbe", b"\0asm"]
)
def test_a_magic_number_alone_is_nothing(magic: bytes) -> None:
    noise = random.Random(4)
    assert not [hidden for _ in range(500) for hidden in programs_in(magic + noise.randbytes(300))]


def test_noise_holds_nothing() -> None:
    assert not list(programs_in(NOISE))
    assert not list(code_in(NOISE))


def test_code_is_told_from_text() -> None:
    assert [hidden.offset for hidden in code_in(NOISE[:500] + b"\0" + SCRIPT + b"\0" + NOISE)] == [501]
    text = b"import os is what a program would say, and the model card speaks of sockets and shells at length"
    assert not list(code_in(text))


@given(st.binary(max_size=400))
def test_any_bytes_are_searched_without_an_error(data: bytes) -> None:
    for program in BINARIES.values():
        list(programs_in(program[: len(data)] + data))
    list(code_in(data))
