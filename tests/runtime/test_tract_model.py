from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from regraft.deployment.verify import verify
from regraft.errors import BadFeeds, Crashed, Unsupported
from regraft.record.evidence import Verdict
from regraft.workflow.load import load

pytest.importorskip("tract")


def _saved(path: Path, nodes: list[onnx.NodeProto], inputs: dict[str, tuple], weights: dict[str, np.ndarray]) -> Path:
    types = {"ids": TensorProto.INT64}
    ends = [helper.make_tensor_value_info(name, types.get(name, 1), shape) for name, shape in inputs.items()]
    stored = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "g", ends, [helper.make_tensor_value_info("y", 1, None)], stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def _small(path: Path, *, slope: float = 1.0) -> Path:
    """An embedding, a mean whose divisor is computed from a size, and a layer; `slope` plants a fault in the last."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["h"], "embed"),
        helper.make_node("ReduceSum", ["h", "axis"], ["sum"], "sum", keepdims=0),
        helper.make_node("Shape", ["ids"], ["shape"], "shape"),
        helper.make_node("Gather", ["shape", "axis"], ["length"], "length"),
        helper.make_node("Cast", ["length"], ["divisor"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Div", ["sum", "divisor"], ["mean"], "mean"),
        helper.make_node("Gemm", ["mean", "w", "b"], ["a"], "layer", alpha=slope),
        helper.make_node("Relu", ["a"], ["y"], "act"),
    ]
    weights = {
        "table": rng.normal(size=(9, 6)).astype("float32"), "axis": np.array([1]),
        "w": rng.normal(size=(6, 4)).astype("float32"), "b": rng.normal(size=4).astype("float32"),
    }  # fmt: skip
    return _saved(path, nodes, {"ids": ("batch", "tokens")}, weights)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _small(tmp_path_factory.mktemp("small") / "model.onnx")


@pytest.fixture(scope="module")
def model(small: Path):
    found = load(small, runtime="tract")
    yield found
    found.close()


def _ids(rows: int, tokens: int) -> dict[str, np.ndarray]:
    return {"ids": np.random.default_rng(rows).integers(0, 9, (rows, tokens))}


def test_it_computes_as_onnxruntime_does_at_every_size(small, model):
    assert (model.runtime, model.effective_precision) == ("tract", "float32")
    assert [(p.name, p.dtype, p.shape) for p in model.signature.inputs] == [("ids", "int64", ("batch", "tokens"))]
    assert model.signature.ranges == {"ids": (0, 8)}
    reference = load(small)
    for rows, tokens in ((1, 1), (3, 5), (2, 7)):
        theirs = reference(_ids(rows, tokens))["y"]
        # sums of at most a dozen products of numbers near one, in another order
        np.testing.assert_allclose(model(_ids(rows, tokens))["y"], theirs, rtol=0, atol=3e-6)
    with pytest.raises(BadFeeds, match="int32"):
        model({"ids": np.zeros((1, 2), "int32")})


def test_every_tensor_can_be_traced_and_the_graph_be_cut_there(small, model, statistics):
    feeds = _ids(3, 5)
    taps = {tap.name: tap for tap in model.trace(feeds)}
    theirs = {tap.name: tap for tap in load(small).trace(feeds)}
    assert [(name, tap.operator, tap.order) for name, tap in taps.items()] == [
        (name, tap.operator, tap.order) for name, tap in theirs.items()
    ]
    for name, tap in taps.items():
        assert tap.value.dtype == theirs[name].value.dtype
        np.testing.assert_allclose(tap.value, theirs[name].value, rtol=0, atol=3e-6)
    assert taps["a"].inputs == ("mean", "w", "b")
    (kept,) = model.trace(feeds, taps=["mean"], reduce=statistics)
    assert kept.kept == statistics(taps["mean"].value)
    part = model.segment(["mean"], ["y"])
    np.testing.assert_allclose(part({"mean": taps["mean"].value})["y"], taps["y"].value, rtol=0, atol=1e-6)
    with pytest.raises(Unsupported, match="also need"):
        model.segment(["mean"], ["sum"])


def test_a_fault_is_found_where_it_is(small, tmp_path):
    assert verify(small, small, runtime="tract").verdict is Verdict.PASS
    faulty = _small(tmp_path / "faulty.onnx", slope=1.001)
    evidence = verify(small, faulty, runtime="tract", reference_runtime="onnxruntime")
    assert evidence.verdict is Verdict.FAIL
    (origin,) = [one.message for one in evidence.findings if one.rule == "divergence.origin"]
    assert origin.startswith("layer") or " a " in f" {origin} ", origin


def test_what_it_cannot_do_is_said(small, tmp_path):
    with pytest.raises(Unsupported, match="one thread"):
        load(small, runtime="tract", threads=2)
    with pytest.raises(Unsupported, match="cannot be told float16"):
        load(small, runtime="tract", precision="float16")
    with pytest.raises(Unsupported, match="whole graphs in float64"):
        load(small, runtime="tract").cast("float64")
    odd = _saved(tmp_path / "odd.onnx", [helper.make_node("Foo", ["x"], ["y"])], {"x": ("n",)}, {})
    with pytest.raises(Unsupported, match=r"Foo") as told:
        load(odd, runtime="tract")({"x": np.zeros(2, "float32")})
    assert "backtrace" not in str(told.value)


def test_a_graph_that_makes_it_abort_ends_its_own_process(tmp_path):
    # tract 0.23.9 indexes with what the file says, and a panic of Rust behind an interface of C ends the process
    turned = helper.make_node("Transpose", ["x"], ["y"], perm=[7, 9])
    fatal = _saved(tmp_path / "fatal.onnx", [turned], {"x": (2, 3)}, {})
    with pytest.raises(Crashed, match="SIGABRT"):
        load(fatal, runtime="tract")({"x": np.zeros((2, 3), "float32")})
