"""Media by their signatures."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from regraft.package.formats.interface import Format, Probe
from regraft.package.formats.media import Audio, Image, Media
from regraft.package.reader import BytesReader

PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 640, 480)
WAV = b"RIFF\x24\0\0\0WAVEfmt " + struct.pack("<IHHI", 16, 1, 2, 16000)


@pytest.mark.parametrize(
    ("member", "data", "facts"),
    [
        (Image(), PNG, {"kind": "png", "size": "640 × 480"}),
        (Image(), b"\xff\xd8\xff\xe0", {"kind": "jpeg"}),
        (Image(), b"RIFF\0\0\0\0WEBP", {"kind": "webp"}),
        (Image(), b"BM" + struct.pack("<I", 6), {"kind": "bmp"}),
        (Audio(), WAV, {"kind": "wav", "channels": "2", "sample_rate_hz": "16000"}),
        (Audio(), b"OggS\0\x02", {"kind": "ogg"}),
        (Audio(), b"fLaC\0", {"kind": "flac"}),
        (Media(), b"\0\0\0\x18ftypisom", {"kind": "mp4"}),
        (Media(), b"%PDF-1.7", {"kind": "pdf"}),
        (Media(), b"wOF2\0", {"kind": "woff2"}),
    ],
)
def test_kinds(member: Format, data: bytes, facts: dict[str, str]) -> None:
    probe = Probe(BytesReader(data, where="x"), "no-suffix")
    assert member.matches(probe)
    assert member.describe(probe).metadata == facts
    assert sum(other.matches(probe) for other in (Image(), Audio(), Media())) == 1


@pytest.mark.parametrize("data", [b"", b"BMW is no picture", b"RIFF", b"FORMAT of a text", b"\xff\xfb\x90\x00"])
def test_other_content(data: bytes) -> None:
    probe = Probe(BytesReader(data, where="x"), "x")
    assert not any(member.matches(probe) for member in (Image(), Audio(), Media()))


def test_damage_never_escapes(hammer: Callable[..., int]) -> None:
    for member, data in ((Image(), PNG), (Audio(), WAV), (Media(), b"\0\0\0\x18ftypisom")):
        hammer(member, data, rounds=60)
