"""Tesseract's language models."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from regraft.package.formats.interface import Probe
from regraft.package.formats.tesseract import TrainedData
from regraft.package.reader import BytesReader


def directory(*offsets: int, size: int = 400) -> bytes:
    padded = (*offsets, *([-1] * (24 - len(offsets))))
    return (struct.pack("<i24q", 24, *padded)).ljust(size, b"\0")


def test_components() -> None:
    probe = Probe(BytesReader(directory(196, -1, 300), where="x"), "eng.traineddata")
    assert TrainedData().matches(probe)
    assert TrainedData().describe(probe).metadata["components"] == "lang-config, unicharambigs"


@pytest.mark.parametrize("data", [b"", directory(500), directory(300, 196), directory(197), directory(), directory(-5)])
def test_other_content(data: bytes) -> None:
    assert not TrainedData().matches(Probe(BytesReader(data, where="x"), "x.traineddata"))


def test_damage_never_escapes(hammer: Callable[..., int]) -> None:
    hammer(TrainedData(), directory(196, 250, 300))
