from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from regraft.compare.pairing import pair_inputs, pair_outputs
from regraft.compare.precision import Lowering, is_lower, lowered_weights, recognised_precision
from regraft.errors import Unsupported
from regraft.package.formats import Port
from regraft.runtime.onnx_graph import OnnxGraph
from regraft.runtime.rounding import round_to
from regraft.runtime.torch_module import TorchModel


def model(network: nn.Module) -> TorchModel:
    return TorchModel(network, inputs=[Port("x", "float32", ("batch", 12))])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_that_were_rounded_on_the_way_are_recognised(network: nn.Module, dtype: str) -> None:
    lowered = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in lowered.parameters():
            parameter.copy_(parameter.to(getattr(torch, dtype)).float())
    assert recognised_precision(model(network)) == "float32"
    assert recognised_precision(model(lowered)) == dtype
    with torch.no_grad():
        next(lowered.parameters())[0, 0] = 0.1234567
    assert recognised_precision(model(lowered)) == "float32"


def test_a_handful_of_round_numbers_says_nothing() -> None:
    tiny = nn.Linear(12, 1)
    nn.init.ones_(tiny.weight)
    nn.init.zeros_(tiny.bias)
    assert recognised_precision(model(tiny)) == "float32"


WEIGHTS = {name: np.random.default_rng(i).normal(size=size).astype("f") for i, (name, size) in
           enumerate({"first": (3, 4), "second": (4, 2), "third": 2}.items())}  # fmt: skip


def holding(weights: dict[str, np.ndarray]) -> OnnxGraph:
    """A graph with these weights and some round numbers."""
    held = {**weights, "axes": np.array([8.0, 16.0, 24.0], "f"), "half": np.array(0.5, "f")}
    nodes = [helper.make_node("Identity", [name], [f"of {name}"]) for name in held]
    outputs = [helper.make_tensor_value_info(f"of {name}", TensorProto.FLOAT, None) for name in held]
    tensors = [numpy_helper.from_array(value, name) for name, value in held.items()]
    made = helper.make_graph(nodes, "holding", [], outputs, tensors)
    return OnnxGraph(helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)]))


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_few_rounded_weights_are_recognised_beside_the_reference(precision: str) -> None:
    rounded = {name: round_to(weight, precision) for name, weight in WEIGHTS.items()}
    assert lowered_weights(holding(WEIGHTS), holding(rounded)) == Lowering(precision, frozenset())
    turned = {"other name": np.ascontiguousarray(rounded["first"].T)}
    assert lowered_weights(holding(WEIGHTS), holding(turned)) == Lowering(precision, frozenset())
    assert lowered_weights(holding(rounded), holding(rounded)) is None


def test_weights_that_were_left_as_they_are_stay_so_in_the_reference() -> None:
    mixed = {**WEIGHTS, "first": round_to(WEIGHTS["first"], "bfloat16")}
    found = lowered_weights(holding(WEIGHTS), holding(mixed))
    assert found == Lowering("bfloat16", frozenset({"second", "third"}))
    given = holding(WEIGHTS).with_rounded_weights(found.precision, kept=found.kept)
    for name, weight in mixed.items():
        assert np.array_equal(given.constant(name), weight)


def test_one_rounded_weight_among_others_is_no_precision() -> None:
    odd = {**WEIGHTS, "third": round_to(WEIGHTS["third"], "bfloat16")}
    assert lowered_weights(holding(WEIGHTS), holding(odd)) is None
    assert lowered_weights(holding(WEIGHTS), holding(WEIGHTS)) is None


def test_the_word_of_the_runtime_counts(network: nn.Module) -> None:
    assert recognised_precision(model(network).cast("bfloat16")) == "bfloat16"
    assert is_lower("bfloat16", "float32")
    assert not is_lower("float32", "bfloat16")
    assert not is_lower("int8", "float32")


def test_inputs_are_paired_by_name_then_by_position() -> None:
    ours = [Port("ids", "int64", ("b", "t")), Port("mask", "int64", ("b", "t"))]
    assert pair_inputs(ours, ours[:1], "").names == {"ids": "ids"}
    renamed = [Port("0", "int64", ("b", "t")), Port("1", "int64", ("b", "t"))]
    found = pair_inputs(ours, renamed, "")
    assert (found.by, found.names) == ("position", {"ids": "0", "mask": "1"})
    for other in ([*renamed, Port("2", "int64", ())], [Port("0", "float32", ("b", "t")), renamed[1]]):
        with pytest.raises(Unsupported, match="do not correspond"):
            pair_inputs(ours, other, "")


def test_outputs_are_paired_by_name_then_by_shape() -> None:
    a, b = np.zeros((2, 3)), np.zeros((2, 4))
    assert pair_outputs({"x": a, "y": b}, {"y": b, "x": a}, "").names == {"x": "x", "y": "y"}
    assert pair_outputs({"x": a, "y": b}, {"p": a, "q": b}, "").by == "position"
    with pytest.raises(Unsupported, match="do not correspond"):
        pair_outputs({"x": a, "y": b}, {"p": b, "q": a}, "")
