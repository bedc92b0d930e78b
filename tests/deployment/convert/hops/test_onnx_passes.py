"""Passes over ONNX graphs: what they change, what they must not, and what verification says of their products."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import regraft as rg
from regraft.compare.precision import recognised_precision
from regraft.deployment.convert.hops.onnx_float16_from_onnx import OnnxFloat16FromOnnx
from regraft.deployment.convert.hops.onnx_int8_from_onnx import OnnxInt8FromOnnx
from regraft.deployment.convert.hops.onnx_optimised_from_onnx import OnnxOptimisedFromOnnx
from regraft.deployment.convert.hops.onnx_slim_from_onnx import OnnxSlimFromOnnx
from regraft.deployment.convert.hops.openvino_float16_from_onnx import OpenVinoFloat16FromOnnx
from regraft.deployment.convert.hops.openvino_from_onnx import OpenVinoFromOnnx
from regraft.deployment.convert.hops.openvino_int8_from_openvino import OpenVinoInt8FromOpenVino
from regraft.deployment.convert.interface import Converter, Source
from regraft.deployment.task import TaskData
from regraft.errors import Unsupported
from regraft.package.package import open_package
from regraft.record.evidence import Verdict
from regraft.runtime import load
from regraft.runtime.onnxruntime_model import OnnxRuntimeModel


def weight(name: str, shape: tuple[int, ...], seed: int, scale: float = 0.3) -> onnx.TensorProto:
    values = np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)
    return numpy_helper.from_array(values, name)


def convolutions() -> onnx.ModelProto:
    """Conv, BatchNormalization, Relu and a head; an Identity and a foldable constant in between. (B, 3, 16, 16) → 4."""
    stored = [weight("w", (8, 3, 3, 3), 0), weight("head", (8, 4), 1), weight("b", (4,), 2)]
    stored += [numpy_helper.from_array(np.full(8, value, np.float32), name)
               for name, value in (("scale", 1.5), ("shift", 0.1), ("mean", 0.2), ("var", 0.9))]  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", "scale", "shift", "mean", "var"], ["n"], "norm"),
        helper.make_node("Identity", ["n"], ["i"], "nothing"),
        helper.make_node("Relu", ["i"], ["r"], "relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flat"),
        helper.make_node("Gemm", ["f", "head", "b"], ["y"], "gemm"),
    ]
    return model_of(nodes, stored, ["batch", 3, 16, 16], 4)


def products(gain: float = 1.0) -> onnx.ModelProto:
    """Two matrix products with a Tanh between them; what `gain` multiplies is taken back. (B, 16) → 4."""
    stored = [weight("w1", (16, 64), 0, 0.25), weight("w2", (64, 4), 1, 0.2)]
    stored += [numpy_helper.from_array(np.float32(value), name) for name, value in (("up", gain), ("down", 1 / gain))]
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["a"], "first"),
        helper.make_node("Mul", ["a", "up"], ["large"], "raise"),
        helper.make_node("Mul", ["large", "down"], ["small"], "lower"),
        helper.make_node("Tanh", ["small"], ["t"], "tanh"),
        helper.make_node("MatMul", ["t", "w2"], ["y"], "second"),
    ]
    return model_of(nodes, stored, ["batch", 16], 4)


def model_of(
    nodes: list[onnx.NodeProto], stored: list[onnx.TensorProto], shape: list[int | str], columns: int
) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", columns])
    graph = helper.make_graph(nodes, "net", [x], [y], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def source_of(proto: onnx.ModelProto) -> Source:
    model = OnnxRuntimeModel(proto.SerializeToString(), where="net.onnx")
    extents = [dimension.dim_value for dimension in proto.graph.input[0].type.tensor_type.shape.dim]
    rng = np.random.default_rng(3)
    feeds = [{"x": rng.normal(size=[batch, *extents[1:]]).astype(np.float32)} for batch in (2, 5)]
    return Source(model, feeds, where="net.onnx")


def outputs(content: bytes, source: Source) -> list[np.ndarray]:
    model = OnnxRuntimeModel(content)
    return [model(feeds)["y"] for feeds in source.feeds]


@pytest.mark.parametrize("member", [OnnxSlimFromOnnx(), OnnxOptimisedFromOnnx()], ids=lambda member: member.name)
def test_a_rewrite_has_fewer_nodes_and_the_same_values(member: Converter) -> None:
    source = source_of(convolutions())
    hop = member.convert(source)
    graph = onnx.load_from_string(hop.files["model.onnx"]).graph
    types = [node.op_type for node in graph.node]
    assert len(types) < 7
    assert "Identity" not in types
    assert "BatchNormalization" not in types  # folded into the weights of the convolution
    for feeds, value in zip(source.feeds, outputs(hop.files["model.onnx"], source), strict=True):
        assert np.allclose(source.loaded()(feeds)["y"], value, atol=2e-6)  # a few roundings of values below 3
    foreign = {node.domain for node in graph.node} - {"", "ai.onnx"}
    assert bool(foreign) == (member.target == "onnx-optimised")
    assert any("runs in ONNX Runtime alone" in note for note in hop.notes) == bool(foreign)


def test_float16_halves_the_weights_and_keeps_what_would_overflow() -> None:
    source = source_of(products(gain=1e6))  # the product of both stays near one, what is between reaches a million
    hop = OnnxFloat16FromOnnx().convert(source)
    assert any("2 operators stay in float32" in note and "raise, lower" in note for note in hop.notes), hop.notes
    graph = onnx.load_from_string(hop.files["model.onnx"]).graph
    stored = {weight.name: weight.data_type for weight in graph.initializer}
    assert stored["w1"] == stored["w2"] == TensorProto.FLOAT16
    assert graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT
    for feeds, value in zip(source.feeds, outputs(hop.files["model.onnx"], source), strict=True):
        assert np.isfinite(value).all()
        assert np.allclose(source.loaded()(feeds)["y"], value, atol=5e-3)  # float16 has 11 bits; 64 products are summed


@pytest.mark.parametrize("make", [convolutions, products])
def test_int8_calibrates_convolutions_and_quantises_products_while_they_run(make: object) -> None:
    source = source_of(make())  # type: ignore[operator]
    hop = OnnxInt8FromOnnx().convert(source)
    graph = onnx.load_from_string(hop.files["model.onnx"]).graph
    is_static = make is convolutions
    assert ("calibrated on 2 inputs" in hop.notes[0]) == is_static
    assert any(weight.data_type == TensorProto.INT8 for weight in graph.initializer)
    for feeds, value in zip(source.feeds, outputs(hop.files["model.onnx"], source), strict=True):
        error = value - source.loaded()(feeds)["y"]
        assert 0 < np.abs(error).max() < 0.1  # 8 bits of values below 3


def test_a_graph_without_anything_to_quantise_is_refused() -> None:
    proto = model_of([helper.make_node("Tanh", ["x"], ["y"], "tanh")], [], ["batch", 4], 4)
    with pytest.raises(Unsupported, match="no matrix product and no convolution"):
        OnnxInt8FromOnnx().convert(source_of(proto))


def test_openvino_in_float16_and_in_int8(tmp_path: Path) -> None:
    source = source_of(convolutions())
    halved = OpenVinoFloat16FromOnnx().convert(source)
    plain = OpenVinoFromOnnx().convert(source)
    assert len(halved.files["model.bin"]) < 0.6 * len(plain.files["model.bin"])
    for name, content in halved.files.items():
        (tmp_path / name).write_bytes(content)
    with open_package(tmp_path) as package:  # without that, verify would hold it against the floor of float32
        assert recognised_precision(load(package, path="model.xml", precision="float32")) == "float16"
    for name, content in plain.files.items():
        (tmp_path / name).write_bytes(content)
    with open_package(tmp_path) as package:
        graph = load(package, path="model.xml")
        quantised = OpenVinoInt8FromOpenVino().convert(Source(graph, source.feeds, where="model.xml"))
    assert "calibrated on 2 inputs" in quantised.notes[0]
    assert b'type="FakeQuantize"' in quantised.files["model.xml"]


def test_int8_is_judged_by_decisions_on_labelled_rows(tmp_path: Path) -> None:
    proto = products()
    onnx.save(proto, tmp_path / "model.onnx")
    rows = np.random.default_rng(1).normal(size=(600, 16)).astype(np.float32)
    labels = OnnxRuntimeModel(proto.SerializeToString())({"x": rows})["y"].argmax(1)
    without = rg.convert(tmp_path / "model.onnx", to="onnx-int8", out=tmp_path / "blind")
    assert without.evidence.verdict is Verdict.INCONCLUSIVE
    assert without.path == tmp_path / "blind"
    assert "precision.needs_task_data" in {finding.rule for finding in without.evidence.findings}
    task = TaskData(rows={"x": rows}, labels=labels, margin=0.05)
    made = rg.convert(tmp_path / "model.onnx", to="onnx-int8", out=tmp_path / "judged", task=task)
    assert made.evidence.verdict is Verdict.PASS, made.evidence.findings
    assert made.verification is not None
    changed = {found.name: found.value for found in made.verification.measurements}["decisions_changed"]
    assert 0 < changed < 0.05 * len(rows)


def test_float16_is_judged_by_its_own_floor(tmp_path: Path) -> None:
    onnx.save(products(), tmp_path / "model.onnx")
    made = rg.convert(tmp_path / "model.onnx", to="onnx-float16", out=tmp_path / "half")
    assert made.evidence.verdict is Verdict.PASS, made.evidence.findings
