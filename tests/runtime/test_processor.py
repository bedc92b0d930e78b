"""Does code for a target run on this machine?"""

from __future__ import annotations

import platform

import pytest

from regraft.runtime.processor import architecture, instruction_sets, why_not_here

HERE = f"{platform.machine()}-unknown-{platform.system().lower()}-gnu"


def test_code_for_what_is_here_runs() -> None:
    assert why_not_here(HERE, sorted(instruction_sets())[:5]) == ""
    assert why_not_here(HERE.replace("x86_64", "amd64"), ()) == ""


@pytest.mark.parametrize(
    ("triple", "features", "why"),
    [
        ("sparc-unknown-linux-gnu", (), f"this machine is {architecture()}, not sparc"),
        (f"{platform.machine()}-pc-windows-msvc", (), f"this system is {platform.system()}"),
        (HERE, ("avx4096", "fpu4096"), "this processor lacks avx4096, fpu4096"),
        ("", (), "this machine is"),
    ],
)
def test_code_for_something_else_does_not(triple: str, features: tuple[str, ...], why: str) -> None:
    assert why_not_here(triple, features).startswith(why)
