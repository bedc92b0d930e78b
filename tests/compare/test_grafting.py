"""Faults in operators that onnxruntime has fused are named by what the fused ones hold."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from regraft.compare.localise import localise
from regraft.runtime.onnx_graph import OnnxGraph

from .graphs import FEEDS, network, optimised, set_attribute, set_weight
from .test_localise import Change


def dilated(graph: onnx.GraphProto) -> None:
    set_attribute(graph, "conv", "dilations", [2, 2])
    set_attribute(graph, "conv", "pads", [2, 2, 2, 2])


def one_in_four_scaled(weight: np.ndarray) -> np.ndarray:
    factors = np.where(np.arange(len(weight)) % 4 == 0, 1.1, 1.0)
    return (weight * factors.reshape(-1, 1, 1, 1)).astype(np.float32)


FOLDED: dict[str, tuple[Change, str, str]] = {
    "some channels scaled": (lambda g: set_weight(g, "conv", one_in_four_scaled), "conv", "weight_changed"),
    "outputs in another order": (lambda g: set_weight(g, "conv", lambda w: w[[0, 4, 1, 5, 2, 6, 3, 7]]), "conv",
                                 "weight_permuted"),
    "inputs in another order": (lambda g: set_weight(g, "conv", lambda w: w[:, ::-1]), "conv", "channel_order"),
    "kernel turned round": (lambda g: set_weight(g, "conv", lambda w: w[:, :, ::-1, ::-1]), "conv", "kernel_flipped"),
    "dilation, and the padding for it": (dilated, "conv", "dilation"),
    "a stride, so that sizes differ": (lambda g: set_attribute(g, "conv", "strides", [2, 2]), "conv", "stride"),
    "epsilon": (lambda g: set_attribute(g, "norm", "epsilon", 1e-3), "norm", "epsilon"),
    "a transposed matrix": (lambda g: set_weight(g, "w1", lambda w: w.T), "up", "weight_transposed"),
    "a bias in another order": (lambda g: set_weight(g, "b1", lambda b: np.roll(b, 1)), "up_bias", "weight_permuted"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FOLDED)
def test_a_fault_that_was_folded_is_found_at_its_operator_with_its_cause(fault: str) -> None:
    change, where, cause = FOLDED[fault]
    candidate = optimised(network(change))
    assert "BatchNormalization" not in {node.op_type for node in candidate.graph.node}, "it is folded"
    found = localise(OnnxGraph(network()), OnnxGraph(candidate), FEEDS)
    assert [(origin.reference, origin.cause, origin.by) for origin in found.origins] == [((where,), cause, "proven")]
    assert found.complete
