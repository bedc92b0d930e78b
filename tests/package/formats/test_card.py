"""Cards and bookkeeping as file formats."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from regraft.package.formats import recognise
from regraft.package.formats.interface import Probe, Role
from regraft.package.reader import BytesReader, FileReader

Asset = Callable[[str, str, str], Path]
CARD = "---\nlicense: mit\nbase_model: a/b\n---\n# Title\n"


def named(data: bytes | str, name: str) -> str | None:
    member = recognise(Probe(BytesReader(data if isinstance(data, bytes) else data.encode(), where="x"), name))
    return None if member is None else member.name


@pytest.mark.parametrize(
    ("data", "name", "expected"),
    [
        (CARD, "anything", "model-card"),
        (CARD, "README.md", "model-card"),
        ("# Just a readme\n", "sub/readme.md", "model-card"),
        ("# Some notes\n", "notes.md", "markdown"),
        ("---\nlayout: post\n---\n# Blog", "post.md", "markdown"),
        ("Metadata-Version: 2.1\nName: x\n", "PKG-INFO", "wheel-metadata"),
        ('{"name": "x", "version": "1.0.0", "main": "i.js"}', "package.json", "npm-package"),
        ("a.py,sha256=" + "A" * 43 + ",12\na.dist-info/RECORD,,\n", "whatever", "wheel-bookkeeping"),
        ("Wheel-Version: 1.0\n", "WHEEL", "wheel-bookkeeping"),
        ("[console_scripts]\nx = y:z\n", "a-1.dist-info/entry_points.txt", "wheel-bookkeeping"),
    ],
)
def test_what_is_what(data: str, name: str, expected: str) -> None:
    assert named(data, name) == expected


def test_every_wheel_of_the_assets_has_its_metadata(asset: Asset) -> None:
    for package, version in (("silero-vad", "6.2.3"), ("basic-pitch", "0.4.0"), ("spliceai", "1.3.1")):
        folder = next(asset("pypi", package, version).glob("*.dist-info"))
        for name, expected in (("METADATA", "wheel-metadata"), ("RECORD", "wheel-bookkeeping")):
            member = recognise(Probe(FileReader(folder / name), f"{folder.name}/{name}"))
            assert member is not None
            assert member.name == expected
            assert (member.role is Role.CARD) is (name == "METADATA")


def test_the_fields_of_a_card_are_metadata() -> None:
    probe = Probe(BytesReader(CARD.encode(), where="x"), "README.md")
    member = recognise(probe)
    assert member is not None
    metadata = member.describe(probe).metadata
    assert (metadata["licence_spdx"], metadata["base_model"]) == ("MIT", "a/b")


def test_broken_front_matter_is_a_problem() -> None:
    probe = Probe(BytesReader(b"---\nlicense: [\n---\n", where="x"), "README.md")
    member = recognise(probe)
    assert member is not None
    assert member.describe(probe).problems


def test_damage_never_escapes(hammer: Callable[..., int]) -> None:
    from regraft.package.formats.card import ModelCard, NpmPackage, WheelMetadata

    hammer(ModelCard(), CARD.encode(), name="README.md")
    hammer(WheelMetadata(), b"Metadata-Version: 2.1\nName: x\nLicense: MIT\nProject-URL: a, b\n\nbody")
    hammer(
        NpmPackage(), json.dumps({"name": "x", "main": "y", "license": {"type": "MIT"}}).encode(), name="package.json"
    )
