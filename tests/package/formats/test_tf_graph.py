"""A frozen TensorFlow graph."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from regraft.package.formats import recognise
from regraft.package.formats.interface import Port, Probe
from regraft.package.formats.tf_graph import TfGraph, dtype_of
from regraft.package.reader import BytesReader, FileReader

Asset = Callable[[str, str, str], Path]
FROZEN = "package/models/web/ssdlitemobilenetv2/tensorflowjs_model.pb"


def test_a_frozen_graph(asset: Asset) -> None:
    probe = Probe(FileReader(asset("npm", "handtrackjs", "0.1.5") / FROZEN), "x")
    found = recognise(probe)
    assert found is not None
    assert found.name == "tf-graph"
    description = found.describe(probe)
    assert description.inputs == (Port("image_tensor", "uint8", (None, None, None, 3)),)
    assert description.operators["Conv2D"] == 55
    assert sum(description.operators.values()) == 519


def test_element_types() -> None:
    assert [dtype_of(number) for number in (1, 3, 7, 14, 19, 101, 999)] == [
        "float32", "int32", "string", "bfloat16", "float16", "float32", "type_899",
    ]  # fmt: skip


@given(st.binary(max_size=300))
def test_random_bytes_are_no_graph(data: bytes) -> None:
    assert not TfGraph().matches(Probe(BytesReader(data, where="x"), "x.pb"))


def test_damaged_files(asset: Asset, hammer: Callable[..., int]) -> None:
    assert hammer(TfGraph(), (asset("npm", "handtrackjs", "0.1.5") / FROZEN).read_bytes(), rounds=60) > 0
