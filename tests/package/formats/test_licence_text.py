"""Licence texts as files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from regraft.package.formats.interface import Probe
from regraft.package.formats.licence_text import LicenceText
from regraft.package.reader import BytesReader, FileReader


@pytest.mark.parametrize(
    ("registry", "package", "version", "pattern", "spdx"),
    [
        ("pypi", "silero-vad", "6.2.3", "**/LICENSE*", "MIT"),
        ("pypi", "basic-pitch", "0.4.0", "**/LICENSE*", "Apache-2.0"),
        ("pypi", "whisperx", "3.8.6", "**/LICENSE*", "BSD-2-Clause"),
        ("pypi", "batdetect2", "1.3.1", "**/LICENSE*", "CC-BY-NC-4.0"),
        ("npm", "nsfwjs", "4.3.0", "**/LICENSE", "MIT"),
    ],
)
def test_real_licences(
    asset: Callable[[str, str, str], Path], registry: str, package: str, version: str, pattern: str, spdx: str
) -> None:
    path = next(asset(registry, package, version).glob(pattern))
    probe = Probe(FileReader(path), path.name)
    assert LicenceText().matches(probe)
    assert LicenceText().describe(probe).metadata["spdx"] == spdx
    assert LicenceText().matches(Probe(FileReader(path), "terms.txt"))  # by its text alone


def test_an_unknown_licence_says_so() -> None:
    probe = Probe(BytesReader(b"You may look at this on Tuesdays.", where="x"), "LICENSE")
    assert LicenceText().matches(probe)
    assert LicenceText().describe(probe).metadata == {"spdx": "unknown"}


@pytest.mark.parametrize(("data", "name"), [(b"", "LICENSE"), (b"\x00\x01", "LICENSE"), (b"MIT licence", "notes.txt")])
def test_other_files(data: bytes, name: str) -> None:
    assert not LicenceText().matches(Probe(BytesReader(data, where="x"), name))
