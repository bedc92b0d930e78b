"""Faults of LSTM and GRU: the order of gates, the two halves of the bias, directions and states."""

from __future__ import annotations

import numpy as np
import onnx
from benchmarks.mutations.faults.interface import Family, Planted
from benchmarks.mutations.graph import Graph, attribute, set_attribute

family = Family()

_GATES = {"LSTM": 4, "GRU": 3}
_ORDERS = {"LSTM": [0, 2, 1, 3], "GRU": [1, 0, 2]}
"""Gates of ONNX in the order in which PyTorch keeps them, as far as one exchange goes: i f o c, r z h."""

_SUMMED = "both halves of the bias are added before any gate is taken"


def _change(graph: Graph, node: onnx.NodeProto, index: int, change: object) -> bool:
    value = graph.constant(node.input[index])
    if value is None:
        return False
    assert callable(change)
    graph.set_input(node, index, change(value))
    return True


@family.kind("gate_order", *_GATES, cause="gate_order", also=("weight_permuted",))
def _gate_order(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """Two gates in each other's place, in all weights."""
    gates, order = _GATES[node.op_type], _ORDERS[node.op_type]

    def reordered(value: np.ndarray) -> np.ndarray:
        halves = 1 if value.ndim == 3 else 2
        parts = value.reshape(value.shape[0], halves, gates, -1, *value.shape[2:])
        return parts[:, :, order].reshape(value.shape)

    return Planted() if all(_change(graph, node, i, reordered) for i in (1, 2, 3)) else None


@family.kind("bias_halves_swapped", *_GATES, cause="bias_split")
def _bias_halves_swapped(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """The bias of the inputs for that of the states."""
    if not _change(graph, node, 3, lambda value: np.concatenate(np.split(value, 2, 1)[::-1], 1)):
        return None
    tells = node.op_type == "GRU" and attribute(node, "linear_before_reset", 0)
    return Planted(equivalent="" if tells else _SUMMED)


@family.kind("bias_half_missing", *_GATES, cause="bias_split", also=("bias_missing",))
def _bias_half_missing(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """Only one of the two halves was carried over."""

    def half(value: np.ndarray) -> np.ndarray:
        first, second = np.split(value, 2, 1)
        return np.concatenate([first, np.zeros_like(second)], 1)

    return Planted() if _change(graph, node, 3, half) else None


@family.kind("rnn_directions_swapped", *_GATES, cause="rnn_direction")
def _rnn_directions_swapped(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """The weights of the two directions in each other's place; or one direction turned round."""
    direction = attribute(node, "direction", "forward")
    if direction != "bidirectional":
        set_attribute(node, "direction", "reverse" if direction == "forward" else "forward")
        return Planted()
    return Planted() if all(_change(graph, node, i, lambda value: value[::-1]) for i in (1, 2, 3)) else None


@family.kind("linear_before_reset", "GRU", cause="linear_before_reset")
def _linear_before_reset(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """The reset gate before the product in place of after it, or the other way round."""
    set_attribute(node, "linear_before_reset", 1 - attribute(node, "linear_before_reset", 0))
    return Planted()


@family.kind("rnn_activation", *_GATES, cause="rnn_activation", also=("activation_kind",))
def _rnn_activation(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """A hard sigmoid for the gates, as early Keras had it."""
    if attribute(node, "activations"):
        return None
    directions = 2 if attribute(node, "direction", "forward") == "bidirectional" else 1
    rest = ["Tanh", "Tanh"] if node.op_type == "LSTM" else ["Tanh"]
    set_attribute(node, "activations", ["HardSigmoid", *rest] * directions)
    set_attribute(node, "activation_alpha", [0.2] * directions)
    set_attribute(node, "activation_beta", [0.5] * directions)
    return Planted()


@family.kind("initial_state_missing", *_GATES, cause="initial_state")
def _initial_state_missing(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """Always from zero."""
    if len(node.input) < 6 or not node.input[5]:
        return None
    node.input[5] = ""
    return Planted()


@family.kind("initial_states_swapped", "LSTM", cause="initial_state", also=("operands_swapped",))
def _initial_states_swapped(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """The hidden state for the cell's."""
    if len(node.input) < 7 or not node.input[5] or not node.input[6]:
        return None
    node.input[5], node.input[6] = node.input[6], node.input[5]
    return Planted()


@family.kind("sequence_lengths_missing", *_GATES, cause="sequence_lens")
def _sequence_lengths_missing(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """Padding read as if it were data."""
    if len(node.input) < 5 or not node.input[4]:
        return None
    node.input[4] = ""
    return Planted()


@family.kind("hidden_for_cell", "LSTM", cause="output_order", also=("split_order",))
def _hidden_for_cell(graph: Graph, node: onnx.NodeProto) -> Planted | None:
    """The two last states returned in each other's place."""
    if len(node.output) < 3 or not all(graph.is_returned(name) or graph.consumers(name) for name in node.output[1:]):
        return None
    node.output[1], node.output[2] = node.output[2], node.output[1]
    return Planted()
