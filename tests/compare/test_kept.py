"""What was measured of a reference is found again, bit by bit, for the same bytes and feeds, and for no others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from regraft import verify
from regraft.compare.canonical import CanonicalTrace
from regraft.compare.kept import FloorCache
from regraft.compare.layers import PlainTrace
from regraft.compare.localise import localise
from regraft.record.cache import Cache
from regraft.record.digest import digest_bytes
from regraft.runtime.onnx_graph import OnnxGraph
from regraft.runtime.spill import Spill

from .graphs import FEEDS, network, set_weight


def floors(folder: Path, reference: bytes = b"the reference") -> FloorCache:
    return FloorCache(Cache(folder), digest_bytes(reference), {"threads": "1"})


@pytest.mark.parametrize("spill", [None, Spill(kept_bytes=0)], ids=["in memory", "in a file"])
def test_traces_come_back_bit_by_bit(tmp_path: Path, spill: Spill | None) -> None:
    graph = OnnxGraph(network())
    made = CanonicalTrace(graph, FEEDS)
    floors(tmp_path).canonical(graph, FEEDS, precision="float32", spill=spill)
    found = floors(tmp_path).canonical(graph, FEEDS, precision="float32", spill=spill)
    assert list(found.tensors) == list(made.tensors)
    for name, tensor in found.tensors.items():
        other = made.tensors[name]
        np.testing.assert_array_equal(tensor.value, other.value)
        assert (tensor.own, tensor.family, tensor.maker) == (other.own, other.family, other.maker)
        assert tensor.small == other.small
    plain = PlainTrace(graph, FEEDS)
    floors(tmp_path).plain(graph, FEEDS, precision="float32")
    again = floors(tmp_path).plain(graph, FEEDS, precision="float32")
    assert {name: tensor.own for name, tensor in again.tensors.items()} == {
        name: tensor.own for name, tensor in plain.tensors.items()
    }


def test_a_fault_is_found_the_same_with_floors_from_the_disk(tmp_path: Path) -> None:
    candidate = OnnxGraph(network(lambda graph: set_weight(graph, "w1", lambda w: w.T)))
    first = localise(OnnxGraph(network()), candidate, FEEDS, floors=floors(tmp_path))
    second = localise(OnnxGraph(network()), candidate, FEEDS, floors=floors(tmp_path))
    assert [(o.reference, o.cause, o.ratio) for o in second.origins] == [
        (o.reference, o.cause, o.ratio) for o in first.origins
    ]
    assert second.pairs == first.pairs
    assert second.origins[0].cause == "weight_transposed"


def test_other_feeds_bytes_precisions_or_weights_have_floors_of_their_own(tmp_path: Path) -> None:
    graph = OnnxGraph(network())
    moved = {name: value + 1 if value.dtype.kind == "f" else value for name, value in FEEDS.items()}
    floors(tmp_path).canonical(graph, FEEDS, precision="float32")
    floors(tmp_path).canonical(graph, moved, precision="float32")
    floors(tmp_path, b"another").canonical(graph, FEEDS, precision="float32")
    floors(tmp_path).canonical(graph, FEEDS, precision="bfloat16")
    floors(tmp_path).canonical(graph, FEEDS, precision="float32", weights="bfloat16 []")
    assert len(list(tmp_path.iterdir())) == 5


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    right, wrong = tmp_path / "right.onnx", tmp_path / "wrong.onnx"
    onnx.save(network(), str(right))
    onnx.save(network(lambda graph: set_weight(graph, "w1", lambda w: w.T)), str(wrong))
    return str(right), str(wrong)


def test_a_second_verification_runs_the_reference_exactly_no_more(
    files: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = verify(*files, threads=1)
    kept = sorted((tmp_path / "cache" / "floors").iterdir())
    assert len(kept) == 3, "answers, canonical and plain trace"

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the reference is run exactly again")

    with monkeypatch.context() as patched:
        patched.setattr("regraft.compare.measure.exact_model", refuse)
        patched.setattr("regraft.compare.canonical.CanonicalTrace._run", refuse)
        patched.setattr("regraft.compare.layers.PlainTrace._twice", refuse)
        second = verify(*files, threads=1)
    assert (second.verdict, second.findings, second.measurements, second.parameters) == (
        first.verdict, first.findings, first.measurements, first.parameters,
    )  # fmt: skip
    for path in kept:
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:-5])
    assert verify(*files, threads=1).findings == first.findings, "a damaged entry is a miss"
    assert sorted((tmp_path / "cache" / "floors").iterdir()) == kept
