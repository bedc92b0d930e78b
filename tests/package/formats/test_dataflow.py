"""Steps of graphs, with the graphs inside of their nodes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from regraft.package.formats import Probe
from regraft.package.formats.dataflow import Dataflow, dataflows_of
from regraft.package.reader import BytesReader, FileReader


def flow(data: bytes, kind: str = "onnx") -> Dataflow:
    [found] = dataflows_of(Probe(BytesReader(data, where="test"), "test"), kind)
    return found


def branching() -> bytes:
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info
    constant = helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0])
    weight = helper.make_tensor("w", TensorProto.FLOAT, [2], [1.0, 2.0])
    yes = helper.make_graph([helper.make_node("Neg", ["x"], ["a"])], "yes", [], [value("a", 1, [2])])
    no = helper.make_graph([helper.make_node("Mul", ["x", "w"], ["b"])], "no", [], [value("b", 1, [2])])
    nodes = [
        helper.make_node("Constant", [], ["zero"], value=constant),
        helper.make_node("ReduceMax", ["x"], ["peak"], keepdims=0),
        helper.make_node("Greater", ["peak", "zero"], ["hit"]),
        helper.make_node("If", ["hit"], ["y"], then_branch=yes, else_branch=no),
    ]
    graph = helper.make_graph(nodes, "g", [value("x", 1, [2]), value("w", 1, [2])], [value("y", 1, [2])], [weight])
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]).SerializeToString())


def test_branches_lead_to_what_their_node_makes() -> None:
    found = flow(branching())
    assert found.inputs == {"x": 1}
    assert found.outputs == ["y"]
    assert found.constants == {"w": False, "zero": True}
    steps = [(step.operator, step.inputs, step.outputs) for step in found.steps]
    assert ("Mul", ("x", "w"), ("b",)) in steps
    assert ("Identity", ("a",), ("y",)) in steps
    assert ("Identity", ("b",), ("y",)) in steps


def test_a_real_tflite_graph(asset: Callable[[str, str, str], Path]) -> None:
    path = asset("pypi", "basic-pitch", "0.4.0") / "basic_pitch/saved_models/icassp_2022/nmp.tflite"
    [found] = dataflows_of(Probe(FileReader(path), path.name), "tflite")
    assert "Conv" in {step.operator for step in found.steps}
    made = {name for step in found.steps for name in step.outputs}
    assert set(found.outputs) <= made
    assert not made & found.inputs.keys()


def test_other_formats_have_none() -> None:
    assert list(dataflows_of(Probe(BytesReader(b"", where="test"), "test"), "safetensors")) == []


def test_functions_of_a_real_saved_model(asset: Callable[[str, str, str], Path]) -> None:
    path = asset("pypi", "basic-pitch", "0.4.0") / "basic_pitch/saved_models/icassp_2022/nmp/saved_model.pb"
    flows = list(dataflows_of(Probe(FileReader(path), path.name), "tf-saved-model"))
    assert len(flows) > 3
    bodies = [flow for flow in flows if "Conv" in {step.operator for step in flow.steps}]
    assert bodies
    for flow in bodies:
        made = {name for step in flow.steps for name in step.outputs} | flow.inputs.keys() | flow.constants.keys()
        assert set(flow.outputs) <= made
