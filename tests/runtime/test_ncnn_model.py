"""Graphs written by hand, so that nothing but ncnn itself is needed; conversions are tested where converters are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from regraft.errors import BadFeeds, Crashed, Damaged, NotFound, RegraftError, Unsupported
from regraft.package.formats.ncnn import Layer
from regraft.package.package import open_package
from regraft.runtime import load
from regraft.runtime.ncnn_model import NcnnModel, isolated_ncnn, takes_indices

pytest.importorskip("ncnn")

GRAPH = """7767517
3 3
Input         input    0 1 data
InnerProduct  ip       1 1 data fc 0=3 1=1 2=24
Softmax       softmax  1 1 fc prob 0=0
"""
STATED = {
    "inputs": [["x", "float32", ["batch", 8]]], "outputs": [["y", "float32", ["batch", 3]]], "precision": "float32",
    "blobs": [["data"], ["prob"]], "batch_axes": [[0], [0]],
}  # fmt: skip
_RNG = np.random.default_rng(0)
W, B = _RNG.normal(size=(3, 8)).astype("float32"), _RNG.normal(size=3).astype("float32")
WEIGHTS = bytes(4) + W.tobytes() + B.tobytes()  # the flag 0 says that float32 follows
X = _RNG.normal(size=(5, 8)).astype("float32")


def _expected(x: np.ndarray) -> np.ndarray:
    z = x @ W.T + B
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    (tmp_path / "model.param").write_text(GRAPH)
    (tmp_path / "model.bin").write_bytes(WEIGHTS)
    (tmp_path / "model.json").write_text(json.dumps(STATED))
    return tmp_path


def test_it_computes_in_the_precision_that_it_says() -> None:
    off = {}
    for precision in ("float32", None, "bfloat16"):
        model = NcnnModel(WEIGHTS, graph=GRAPH, stated=json.dumps(STATED), precision=precision, threads=1)
        assert (model.runtime, model.effective_precision) == ("ncnn", precision or "float16")
        off[precision] = float(np.abs(model({"x": X})["y"] - _expected(X)).max())
    # a share in a softmax of sums of 8 products near one: a few units of 2^-24; then of the 2^-12 and 2^-9 that the
    # weights are rounded to
    assert off["float32"] < 1e-6
    assert 1e-5 < off[None] < 1e-3 < off["bfloat16"] < 3e-2
    with pytest.raises(Unsupported, match="does not compute in float64"):
        NcnnModel(WEIGHTS, graph=GRAPH, precision="float64")


def test_taps_are_blobs_and_other_sizes_are_refused_in_one_sentence(package: Path) -> None:
    model = load(open_package(package), precision="float32")
    assert [(port.name, port.shape) for port in model.signature.inputs] == [("x", ("batch", 8))]
    taps = list(model.trace({"x": X[:1]}))
    assert [(tap.name, tap.operator, tap.inputs) for tap in taps] == [
        ("fc", "InnerProduct", ("data",)), ("prob", "Softmax", ("fc",)),
    ]  # fmt: skip
    np.testing.assert_allclose(taps[0].value, X[:1] @ W.T + B, rtol=0, atol=5e-6)  # sums of 9 numbers near one
    with pytest.raises(BadFeeds, match=r"shape \(5, 7\).*axis 1 is fixed"):
        model({"x": X[:, :7]})
    with pytest.raises(Unsupported, match="whole graphs in float64"):
        model.cast("float64")
    model.close()


def test_a_strangers_graph_has_its_blobs_for_ports(package: Path) -> None:
    (package / "model.json").unlink()
    (package / "model.param").write_text(GRAPH.replace("data", "data 0=8", 1))
    model = load(open_package(package), precision="float32")
    assert [(port.name, port.dtype, port.shape) for port in model.signature.inputs] == [("data", "float32", (8,))]
    np.testing.assert_allclose(model({"data": X[0]})["prob"], _expected(X[:1])[0], rtol=0, atol=1e-6)
    model.close()


@pytest.mark.parametrize(
    ("graph", "weights", "stated", "what"),
    [
        (GRAPH.replace("Softmax ", "MyOwn "), WEIGHTS, STATED, "no layer MyOwn"),
        (GRAPH, WEIGHTS[:60], STATED, "cannot read the weights"),
        (GRAPH.replace("3 3", "4 3"), WEIGHTS, STATED, "4 layers, and has 3"),
        (GRAPH.replace("2=24", "2=2000000000"), WEIGHTS, STATED, "cannot read the graph"),
        (GRAPH, WEIGHTS, {**STATED, "blobs": [["data"], ["nowhere"]]}, "no blob 'nowhere'"),
        (GRAPH, WEIGHTS, {**STATED, "batch_axes": [[0], []]}, "more or fewer ports"),
        (GRAPH, WEIGHTS, {**STATED, "batch_axes": [[2], [0]]}, "batch of 'x' is axis 2"),
        (GRAPH, WEIGHTS, {**STATED, "batch_axes": [[0], [-1]]}, "batch of 'y' is axis -1"),
        (GRAPH, WEIGHTS, {**STATED, "batch_axes": [["0"], [0]]}, "blobs cannot be read"),
        (GRAPH, WEIGHTS, {**STATED, "inputs": [["x", "float64", [1, 8]]]}, "is float64, which ncnn does not take"),
    ],
)
def test_what_is_wrong_ends_in_a_sentence(graph: str, weights: bytes, stated: dict[str, object], what: str) -> None:
    with pytest.raises(RegraftError, match=what):
        NcnnModel(weights, graph=graph, stated=json.dumps(stated), where="damaged")


def test_a_graph_that_ncnn_believes_ends_its_own_process() -> None:
    # ncnn 1.0.20261020 computes sizes with what the file says; whatever it comes to, this process goes on
    graph = GRAPH.replace("0=3 1=1 2=24", "0=-3 1=1 2=24")
    with pytest.raises((Crashed, Damaged, Unsupported)):
        isolated_ncnn(graph, WEIGHTS, stated=json.dumps(STATED), where="hostile")({"x": X})


def test_weights_of_eight_bits_are_said_and_missing_ones_missed(package: Path) -> None:
    (package / "model.param").write_text(GRAPH.replace("2=24", "2=24 8=1"))
    with pytest.raises(Unsupported, match="8-bit numbers"):
        NcnnModel(WEIGHTS, graph=(package / "model.param").read_text(), precision="float32")
    (package / "model.bin").unlink()
    with pytest.raises(NotFound, match=r"no model\.bin"):
        load(open_package(package))


def test_integers_that_do_not_fit_are_refused() -> None:
    graph = GRAPH.replace("InnerProduct  ip       1 1 data fc 0=3 1=1 2=24", "Embed e 1 1 data fc 0=3 1=8 3=24")
    stated = {**STATED, "inputs": [["x", "int64", [4]]], "outputs": [["y", "float32", [4, 3]]],
              "batch_axes": [[None], [None]]}  # fmt: skip
    model = NcnnModel(bytes(4) + W.tobytes(), graph=graph, stated=json.dumps(stated), precision="float32")
    assert model({"x": np.array([0, 1, 7, 2])})["y"].shape == (4, 3)
    with pytest.raises(BadFeeds, match="beyond 2147483647"):
        model({"x": np.array([0, 1 << 40, 7, 2])})
    model.close()


def test_integers_that_no_table_takes_go_in_as_numbers() -> None:
    stated = {**STATED, "inputs": [["x", "int64", ["batch", 8]]]}
    model = NcnnModel(WEIGHTS, graph=GRAPH, stated=json.dumps(stated), precision="float32")
    x = np.arange(16).reshape(2, 8) % 3
    np.testing.assert_allclose(model({"x": x})["y"], _expected(x.astype("float32")), rtol=0, atol=2e-6)
    with pytest.raises(BadFeeds, match="beyond 16777216"):
        model({"x": x + (1 << 25)})


def test_a_blob_of_many_paths_is_followed_once() -> None:
    lines = [Layer("Split", "s", (f"b{i}",), (f"l{i}", f"r{i}"), {}) for i in range(60)]
    joined = [Layer("Reshape", "r", (f"l{i}", f"r{i}"), (f"b{i + 1}",), {}) for i in range(60)]
    layers = [layer for pair in zip(lines, joined, strict=True) for layer in pair]
    assert not takes_indices(layers, "b0")
    assert takes_indices([*layers, Layer("Embed", "e", ("b60",), ("y",), {})], "b0")


def test_damage_is_raised_where_it_is_seen() -> None:
    with pytest.raises(Damaged, match="its first two lines"):
        NcnnModel(WEIGHTS, graph="no graph", where="damaged")
