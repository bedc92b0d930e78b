"""Operators that run alone: each runtime's graph, run operator by operator, computes what the model computes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from regraft.errors import Unsupported
from regraft.package.formats import Port
from regraft.runtime.graphs import operator_graph
from regraft.runtime.onnx_graph import OnnxGraph
from regraft.runtime.onnxruntime_model import OnnxRuntimeModel
from regraft.runtime.openvino_model import OpenVinoModel, graph_from_bytes
from regraft.runtime.torch_module import TorchModel

RNG = np.random.default_rng(0)
FEEDS = {"x": RNG.normal(size=(2, 3, 8, 6)).astype(np.float32)}
WEIGHTS = {"w": RNG.normal(0, 0.3, (4, 3, 3, 3)).astype(np.float32), "half": np.float32(0.5)}


def walked(graph, feeds, precision="float32"):
    values = dict(feeds)
    for node in graph.nodes:
        values |= graph.run(node, values, precision=precision)
    return values


def small() -> onnx.ModelProto:
    branch = [
        helper.make_graph([helper.make_node(operator, ["p"], [f"{operator}_out"])], operator, [],
                          [helper.make_tensor_value_info(f"{operator}_out", TensorProto.FLOAT, None)])
        for operator in ("Sigmoid", "Tanh")
    ]  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv", pads=[0, 1, 2, 0], strides=[2, 1]),
        helper.make_node("AveragePool", ["c"], ["p"], "pool", kernel_shape=[2, 2]),
        helper.make_node("ReduceMean", ["p"], ["mean"], "mean", keepdims=0),
        helper.make_node("Greater", ["mean", "half"], ["large"], "large"),
        helper.make_node("If", ["large"], ["y"], "branch", then_branch=branch[0], else_branch=branch[1]),
    ]
    stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in WEIGHTS.items()]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "g", [value("x", TensorProto.FLOAT, ["b", 3, 8, 6])],
                              [value("y", TensorProto.FLOAT, None)], stored)  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_onnx_operators_make_what_the_session_makes() -> None:
    model = small()
    expected = OnnxRuntimeModel(model.SerializeToString(), optimise=False)(FEEDS)["y"]
    found = walked(OnnxGraph(model), FEEDS)["y"]
    np.testing.assert_array_equal(found, expected, "the same kernels on the same numbers")


def test_onnx_operators_compute_in_float64_where_onnxruntime_has_no_kernel() -> None:
    wide = {"x": FEEDS["x"].astype(np.float64)}
    found = walked(OnnxGraph(small()), wide, "float64")
    assert {str(value.dtype) for value in found.values() if value.dtype.kind == "f"} == {"float64"}
    padded = np.pad(wide["x"], ((0, 0), (0, 0), (0, 2), (1, 0)))
    exact = torch.nn.functional.conv2d(torch.tensor(padded), torch.tensor(WEIGHTS["w"]).double(), stride=(2, 1))
    np.testing.assert_allclose(found["c"], exact.numpy(), rtol=1e-13, err_msg="a few units in the last place")
    narrow = walked(OnnxGraph(small()), FEEDS)["y"]
    np.testing.assert_allclose(found["y"], narrow, rtol=1e-5, err_msg="float32 rounding of three operators")


def test_what_depends_on_constants_alone_is_a_constant() -> None:
    model = small()
    model.graph.node.insert(0, helper.make_node("Mul", ["w", "half"], ["w2"], "scaled"))
    model.graph.node[1].input[1] = "w2"
    graph = OnnxGraph(model)
    assert "scaled" not in [node.name for node in graph.nodes]
    weight = graph.constant("w")
    assert weight is not None
    np.testing.assert_array_equal(graph.constant("w2"), weight * np.float32(0.5))
    maker = graph.maker("w2")
    assert maker is not None
    assert maker.name == "scaled"


def test_a_value_in_place_of_a_weight_counts() -> None:
    graph = OnnxGraph(small())
    conv = graph.nodes[0]
    zero = graph.run(conv, {**FEEDS, "w": np.zeros((4, 3, 3, 3), np.float32)})
    assert not zero["c"].any()
    assert graph.run(conv, FEEDS)["c"].any()


def test_rounded_weights_leave_lone_numbers() -> None:
    graph = OnnxGraph(small()).with_rounded_weights("bfloat16")
    weight, half = graph.constant("w"), graph.constant("half")
    assert weight is not None
    assert half is not None
    assert not (weight.view(np.uint32) & 0xFFFF).any()
    assert half == 0.5


def test_an_operator_that_lacks_an_input_says_which() -> None:
    graph = OnnxGraph(small())
    with pytest.raises(Unsupported, match="'x'"):
        graph.run(graph.nodes[0], {})


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(6, 5, batch_first=True)
        self.head = nn.Linear(5, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = self.head(self.rnn(x.mean(1))[0]).chunk(2, -1)
        return torch.softmax(first * second.sigmoid(), -1)


@pytest.fixture(scope="module")
def module() -> TorchModel:
    torch.manual_seed(0)
    return TorchModel(Network(), inputs=[Port("x", "float32", ("b", 3, "h", 6))])


def test_torch_operators_make_what_the_module_makes(module: TorchModel) -> None:
    graph = operator_graph(module, FEEDS)
    (expected,) = module(FEEDS).values()
    found = walked(graph, FEEDS)[graph.outputs[0]]
    np.testing.assert_allclose(found, expected, rtol=1e-6, err_msg="an exported program may choose other kernels")
    exact = walked(graph, FEEDS, "float64")[graph.outputs[0]]
    assert exact.dtype == np.float64
    np.testing.assert_allclose(exact, expected, rtol=1e-4, err_msg="float32 rounding of a recurrent layer")
    assert {node.scope for node in graph.nodes} >= {"rnn", "head"}


def test_openvino_operators_make_what_the_model_makes() -> None:
    model = small()
    del model.graph.node[-2:]
    model.graph.output[0].name = "p"
    compiled = OpenVinoModel(graph_from_bytes(model.SerializeToString()), precision="float32")
    graph = operator_graph(compiled, FEEDS)
    expected = compiled(FEEDS)["p"]
    np.testing.assert_allclose(walked(graph, FEEDS)["p"], expected, rtol=1e-5, atol=1e-6)
    plain = graph.plain(FEEDS)  # type: ignore[attr-defined]
    np.testing.assert_allclose(plain["p"], expected, rtol=1e-5, atol=1e-6)
    behind = graph.plain({**FEEDS, "c": np.ones_like(plain["c"])})  # type: ignore[attr-defined]
    np.testing.assert_allclose(behind["p"], 1.0, rtol=1e-6, err_msg="a pass from a tensor inside on")
    with pytest.raises(Unsupported, match="float64"):
        graph.run(graph.nodes[0], FEEDS, precision="float64")


def test_operators_can_be_run_with_other_settings_kinds_and_operands() -> None:
    """What hypotheses about causes stand on, in both frameworks under their own names."""
    x = RNG.normal(size=(2, 5)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Sub", ["x", "z"], ["d"], "sub"), helper.make_node("Softmax", ["d"], ["y"], "softmax")],
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 5]) for name in ("x", "z")],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    opset = [helper.make_opsetid("", 17)]
    ours = OnnxGraph(helper.make_model(graph, opset_imports=opset, ir_version=8))

    class Network(nn.Module):
        def forward(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
            return torch.softmax(x - z, -1)

    ports = [Port(name, "float32", (2, 5)) for name in ("x", "z")]
    theirs = operator_graph(TorchModel(Network(), inputs=ports), {"x": x, "z": x[::-1].copy()})
    values = {"x": x, "z": 2 * x, "d": x, "sub": x}
    expected = np.exp(x) / np.exp(x).sum(0)
    for tested, setting, kind in ((ours, "axis", "Add"), (theirs, "dim", "aten.add.Tensor")):
        sub, softmax = tested.nodes
        assert tested.settings(softmax)[setting] == -1
        (turned,) = tested.run_changed(softmax, values, settings={setting: 0}).values()
        np.testing.assert_allclose(turned, expected, rtol=1e-5)
        (swapped,) = tested.run_changed(sub, values, inputs=sub.inputs[::-1]).values()
        np.testing.assert_array_equal(swapped, x)
        (summed,) = tested.run_changed(sub, values, operator=kind).values()
        np.testing.assert_array_equal(summed, 3 * x)
        with pytest.raises(Unsupported):
            tested.run_changed(softmax, values, settings={"no_such_setting": 1})


def test_the_results_of_a_torch_operator_with_several_are_its_own() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(4, 3, batch_first=True)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            states, (hidden, _) = self.lstm(x)
            return states, hidden

    feeds = {"x": RNG.normal(size=(2, 5, 4)).astype(np.float32)}
    model = TorchModel(Network(), inputs=[Port("x", "float32", ("batch", "time", 4))])
    graph = operator_graph(model, feeds)
    (lstm,) = [node for node in graph.nodes if node.operator == "aten.lstm.input"]
    assert len(lstm.outputs) >= 2
    assert not any("getitem" in node.operator for node in graph.nodes)
    found = walked(graph, feeds)
    for name, value in zip(graph.outputs, model(feeds).values(), strict=True):
        np.testing.assert_allclose(found[name], value, rtol=1e-6)


def test_openvino_integers_of_another_width_are_taken_back() -> None:
    """A reference counts in int32 where OpenVINO's graph declares int64, and its values are put there."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"], start=0, end=1),
        helper.make_node("Squeeze", ["s"], ["n"]),
        helper.make_node("Range", ["zero", "n", "one"], ["r"]),
        helper.make_node("Cast", ["r"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["f", "last"], ["column"]),
        helper.make_node("Mul", ["x", "column"], ["y"]),
    ]
    numbers = {"zero": np.int64(0), "one": np.int64(1), "last": np.array([1])}
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in numbers.items()]
    graph = helper.make_graph(nodes, "counted", [x], [y], stored)
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    feeds = {"x": RNG.normal(size=(4, 3)).astype(np.float32)}
    operators = operator_graph(OpenVinoModel(graph_from_bytes(content), precision="float32", threads=1), feeds)
    in_a_pass = operators.plain(feeds)
    narrow = {name: value.astype(np.int32) if value.dtype.kind == "i" else value for name, value in in_a_pass.items()}
    assert any(value.dtype == np.int32 for value in narrow.values())
    for node in operators.nodes:
        for name, value in operators.run(node, {**feeds, **narrow}).items():
            np.testing.assert_array_equal(value, in_a_pass[name])
    np.testing.assert_array_equal(in_a_pass["y"], feeds["x"] * np.arange(4, dtype=np.float32)[:, None])
