"""Shard indices."""

from __future__ import annotations

import json
from typing import Any

import pytest

from regraft.package.formats.interface import Probe
from regraft.package.formats.weight_index import WeightIndex, shard_map
from regraft.package.reader import BytesReader


def probe_of(content: Any) -> Probe:
    return Probe(BytesReader(json.dumps(content).encode(), where="x"), "model.safetensors.index.json")


def test_shards_and_size() -> None:
    probe = probe_of({"metadata": {"total_size": 12}, "weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}})
    assert WeightIndex().matches(probe)
    description = WeightIndex().describe(probe)
    assert description.metadata == {"tensors": "2", "shards": "m-1.safetensors, m-2.safetensors", "total_size": "12"}
    assert not description.problems
    assert shard_map(probe) == {"a": "m-1.safetensors", "b": "m-2.safetensors"}


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "a\\..\\..\\b", "C:\\x", "https://x/y", "~/.ssh/id"]
)
def test_a_shard_outside_of_the_folder_is_a_problem(name: str) -> None:
    assert WeightIndex().describe(probe_of({"weight_map": {"a": name}})).problems[0].kind == "traversal"


@pytest.mark.parametrize("name", ["model.bin", "sub/model.bin", "a..b.bin"])
def test_a_shard_inside_is_none(name: str) -> None:
    assert not WeightIndex().describe(probe_of({"weight_map": {"a": name}})).problems


def test_wrong_types() -> None:
    assert WeightIndex().describe(probe_of({"weight_map": {"a": 3}, "metadata": []})).problems
    assert not WeightIndex().matches(probe_of({"weight_map": []}))
    assert not WeightIndex().matches(probe_of([]))
