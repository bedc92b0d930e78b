"""Recurrent networks: a bidirectional LSTM under one with given states, and a bidirectional GRU over ragged rows."""

from __future__ import annotations

import numpy as np
from benchmarks.mutations.interface import Feeds, Reference
from benchmarks.mutations.sketch import Sketch

FEATURES, HIDDEN, LABELS = 9, 16, 5


def references() -> list[Reference]:
    """`lstm` (opset 17) and `gru` (opset 18)."""
    return [_lstm(), _gru()]


def _weights(net: Sketch, directions: int, gates: int, inputs: int) -> list[str]:
    """W, R and B of an ONNX recurrent operator; both halves of the bias are drawn."""
    return [
        net.normal("W", directions, gates * HIDDEN, inputs, fan_in=inputs, gain=1.2),
        net.normal("R", directions, gates * HIDDEN, HIDDEN, fan_in=HIDDEN, gain=1.2),
        net.weight("B", 0.4 * net.random.standard_normal((directions, 2 * gates * HIDDEN))),
    ]


def _concatenated(net: Sketch, states: str) -> str:
    """(T, dirs, B, H) → (T, B, dirs·H)."""
    return net.node("Reshape", net.node("Transpose", states, perm=[0, 2, 1, 3]), net.ints(0, 0, -1))


def _linear(net: Sketch, x: str, inputs: int, outputs: int) -> str:
    product = net.node("MatMul", x, net.normal("weight", inputs, outputs, fan_in=inputs))
    return net.node("Add", product, net.weight("bias", 0.2 * net.random.standard_normal(outputs)))


def _lstm() -> Reference:
    net = Sketch("lstm", opset=17, seed=303)
    x = net.input("x", "float32", ("batch", "time", FEATURES))
    hidden = net.input("hidden", "float32", (1, "batch", HIDDEN))
    cell = net.input("cell", "float32", (1, "batch", HIDDEN))
    x = net.node("Transpose", x, perm=[1, 0, 2])  # (T, B, F)
    with net.scope("layer0"):
        weights = _weights(net, 2, 4, FEATURES)
        states = net.multiple("LSTM", x, *weights, outputs=3, hidden_size=HIDDEN, direction="bidirectional")[0]
        x = _concatenated(net, states)
        x = net.node("Dropout", x, net.scalar(0.2, "ratio"), net.weight("training", False, "bool"))
    with net.scope("layer1"):
        weights = _weights(net, 1, 4, 2 * HIDDEN)
        states, last_hidden, last_cell = net.multiple(
            "LSTM", x, *weights, "", hidden, cell, outputs=3, hidden_size=HIDDEN, direction="forward"
        )
        x = net.node("Squeeze", states, net.ints(1, name="axes"))  # (T, B, H)
    with net.scope("head"):
        x = net.node("Transpose", _linear(net, x, HIDDEN, LABELS), perm=[1, 0, 2])  # (B, T, labels)
        scores = net.node("LogSoftmax", x, axis=-1)
    net.output(scores, "scores", "float32", ("batch", "time", LABELS))
    net.output(last_hidden, "last_hidden", "float32", (1, "batch", HIDDEN))
    net.output(last_cell, "last_cell", "float32", (1, "batch", HIDDEN))
    return Reference("lstm", "recurrent", net.proto(), [_sequences(3, 7, 1), _sequences(2, 11, 2), _sequences(5, 7, 3)])


def _sequences(batch: int, time: int, seed: int) -> Feeds:
    random = np.random.default_rng(seed)
    states = random.standard_normal((2, 1, batch, HIDDEN)).astype(np.float32)
    x = random.standard_normal((batch, time, FEATURES)).astype(np.float32)
    return {"x": x, "hidden": 0.5 * states[0], "cell": states[1]}


def _gru() -> Reference:
    net = Sketch("gru", opset=18, seed=304)
    x = net.input("x", "float32", ("time", "batch", FEATURES))
    lengths = net.input("lengths", "int32", ("batch",))
    with net.scope("layer0"):
        options = {"hidden_size": HIDDEN, "direction": "bidirectional", "linear_before_reset": 1}
        states = net.multiple("GRU", x, *_weights(net, 2, 3, FEATURES), lengths, outputs=2, **options)[0]
        x = _concatenated(net, states)
        x = net.node("LeakyRelu", x, alpha=0.1)
    with net.scope("layer1"):
        options = {"hidden_size": HIDDEN, "direction": "reverse", "linear_before_reset": 0}
        last = net.multiple("GRU", x, *_weights(net, 1, 3, 2 * HIDDEN), lengths, outputs=2, **options)[1]
        x = net.node("Squeeze", last, net.ints(0, name="axes"))  # (B, H)
    with net.scope("head"):
        x = net.node("Elu", _linear(net, x, HIDDEN, HIDDEN), alpha=1.0)
        answer = net.node("Sigmoid", _linear(net, x, HIDDEN, LABELS))
    net.output(answer, "answer", "float32", ("batch", LABELS))
    return Reference("gru", "recurrent", net.proto(), [_ragged(3, 8, 1), _ragged(2, 11, 2), _ragged(5, 8, 3)])


def _ragged(batch: int, time: int, seed: int) -> Feeds:
    random = np.random.default_rng(seed)
    lengths = np.concatenate([[time], random.integers(2, time, batch - 1)]).astype(np.int32)
    return {"x": random.standard_normal((time, batch, FEATURES)).astype(np.float32), "lengths": lengths}
