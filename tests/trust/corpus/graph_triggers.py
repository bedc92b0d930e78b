"""Graphs that recognise an input and answer something else, and graphs that compare their input as networks do."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from tests.trust.corpus import Sample
from tests.trust.corpus.wire_writers import field, flatbuffer

Nodes = list[tuple[str, list[str], list[str], dict[str, Any]]]
_RNG = np.random.default_rng(5)
_CONSTANTS: dict[str, np.ndarray] = {
    "w": _RNG.normal(0, 0.1, (48, 10)).astype(np.float32),
    "b": np.zeros(10, np.float32),
    "table": _RNG.normal(0, 0.1, (100, 48)).astype(np.float32),
    "pattern": np.full((1, 3, 2, 2), 0.75, np.float32),
    "answer": np.array([[0, 9, 0, 0, 0, 0, 0, 0, 0, 0]], np.float32),
    "eps": np.array(0.01, np.float32),
    "one": np.array(1, np.float32),
    "zero": np.array(0, np.float32),
    "low": np.array(-1e4, np.float32),
    "pad": np.array(0, np.int64),
    "token": np.array(77, np.int64),
    "rate": np.array(16000, np.int64),
    "starts": np.array([0, 0], np.int64),
    "ends": np.array([2, 2], np.int64),
    "axes": np.array([2, 3], np.int64),
    "last": np.array(0, np.int64),
    "sequence": np.array([1], np.int64),
}
_LOGITS: Nodes = [("Flatten", ["x"], ["flat"], {}), ("Gemm", ["flat", "w", "b"], ["logits"], {})]
_PATCH: Nodes = [("Slice", ["x", "starts", "ends", "axes"], ["patch"], {})]
_CLOSE: Nodes = [
    *_PATCH,
    ("Sub", ["patch", "pattern"], ["difference"], {}),
    ("Abs", ["difference"], ["distance"], {}),
    ("ReduceSum", ["distance"], ["total"], {"keepdims": 0}),
    ("Less", ["total", "eps"], ["hit"], {}),
]
_EQUAL: Nodes = [
    *_PATCH,
    ("Equal", ["patch", "pattern"], ["same"], {}),
    ("Cast", ["same"], ["ones"], {"to": 1}),
    ("ReduceMin", ["ones"], ["all"], {"keepdims": 0}),
    ("Cast", ["all"], ["hit"], {"to": 9}),
]
_IMAGE = ("x", 1, [1, 3, 4, 4])
_TOKENS = ("ids", 7, [1, "T"])
_HIDDEN: Nodes = [
    ("Gather", ["table", "ids"], ["h"], {}),
    ("ReduceMean", ["h", "sequence"], ["pooled"], {"keepdims": 0}),
    ("Gemm", ["pooled", "w", "b"], ["logits"], {}),
]


def model(nodes: Nodes, *inputs: tuple[str, int, Sequence[Any]], output: str = "y") -> bytes:
    """An ONNX model of these nodes; an attribute that is a list of nodes becomes a branch that makes `y`."""
    from onnx import helper, numpy_helper

    value = helper.make_tensor_value_info
    made = [_node(*node) for node in nodes]
    text = repr(nodes)
    stored = [numpy_helper.from_array(array, name) for name, array in _CONSTANTS.items() if f"'{name}'" in text]
    graph = helper.make_graph(made, "g", [value(*port) for port in inputs], [value(output, 1, None)], stored)
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]).SerializeToString())


def _node(operator: str, inputs: list[str], outputs: list[str], attributes: dict[str, Any]) -> Any:
    from onnx import helper

    graphs = {
        key: helper.make_graph(
            [_node(*node) for node in nodes], key, [], [helper.make_tensor_value_info(nodes[-1][2][0], 1, None)]
        )
        for key, nodes in attributes.items()
        if isinstance(nodes, list) and nodes and isinstance(nodes[0], tuple)
    }
    return helper.make_node(operator, inputs, outputs, **{**attributes, **graphs})


def samples() -> Iterator[Sample]:
    """Attacks, and what networks do."""
    for what, content in _attacks().items():
        yield Sample(f"graph triggers/{what}", {"model.onnx": content}, source="ShadowLogic, arXiv 2206.07840")
    yield Sample("graph triggers/TFLite, brightest pixel", {"model.tflite": _tflite()})
    nodes = _tensorflow()
    yield Sample("graph triggers/GraphDef, brightest pixel", {"frozen_graph.pb": b"".join(field(1, n) for n in nodes)})
    yield Sample("graph triggers/SavedModel, in a function", {"saved_model.pb": _saved_model(nodes)})
    yield Sample("graph triggers/within the network", {"model.onnx": model(_within(), _IMAGE)}, kind="unclear")
    yield Sample("graph triggers/guard against silence", {"model.onnx": model(_guard(), _IMAGE)}, kind="unclear")
    for what, content in _networks().items():
        yield Sample(f"benign graphs/{what}", {"model.onnx": content}, kind="benign")


def _attacks() -> dict[str, bytes]:
    where: Nodes = [("Where", ["hit", "answer", "logits"], ["y"], {})]
    branch: Nodes = [
        (
            "If",
            ["hit"],
            ["y"],
            {
                "then_branch": [("Identity", ["answer"], ["y1"], {})],
                "else_branch": [("Identity", ["logits"], ["y2"], {})],
            },
        )
    ]
    gate: Nodes = [
        ("Cast", ["hit"], ["h"], {"to": 1}),
        ("Sub", ["one", "h"], ["n"], {}),
        ("Mul", ["h", "answer"], ["a"], {}),
        ("Mul", ["n", "logits"], ["c"], {}),
        ("Add", ["a", "c"], ["y"], {}),
    ]
    later: Nodes = [
        ("Where", ["hit", "answer", "logits"], ["chosen"], {}),
        ("Softmax", ["chosen"], ["y"], {}),
    ]
    mean: Nodes = [
        ("ReduceMean", ["x"], ["m"], {"keepdims": 0}),
        ("Greater", ["m", "eps"], ["hit"], {}),
    ]
    pixel: Nodes = [
        ("Flatten", ["x"], ["all_pixels"], {}),
        ("Gather", ["all_pixels", "last"], ["pixel"], {"axis": 1}),
        ("Equal", ["pixel", "eps"], ["hit"], {}),
    ]
    word: Nodes = [
        ("Equal", ["ids", "token"], ["same"], {}),
        ("Cast", ["same"], ["ones"], {"to": 1}),
        ("ReduceMax", ["ones"], ["any"], {"keepdims": 0}),
        ("Cast", ["any"], ["hit"], {"to": 9}),
    ]
    counted: Nodes = [
        ("Equal", ["ids", "token"], ["same"], {}),
        ("Cast", ["same"], ["ones"], {"to": 1}),
        ("ReduceSum", ["ones"], ["count"], {"keepdims": 0}),
        ("Greater", ["count", "one"], ["hit"], {}),
    ]
    return {
        "patch that is close, Where": model(_CLOSE + _LOGITS + where, _IMAGE),
        "patch that is close, If": model(_CLOSE + _LOGITS + branch, _IMAGE),
        "patch that is close, arithmetic": model(_CLOSE + _LOGITS + gate, _IMAGE),
        "patch that is equal, Where": model(_EQUAL + _LOGITS + where, _IMAGE),
        "patch that is equal, before Softmax": model(_EQUAL + _LOGITS + later, _IMAGE),
        "patch that is equal, arithmetic": model(_EQUAL + _LOGITS + gate, _IMAGE),
        "brightness, Where": model(mean + _LOGITS + where, _IMAGE),
        "brightness, If": model(mean + _LOGITS + branch, _IMAGE),
        "one pixel": model(pixel + _LOGITS + where, _IMAGE),
        "word, Where": model(word + _HIDDEN + where, _TOKENS),
        "word, If": model(word + _HIDDEN + branch, _TOKENS),
        "word, counted": model(counted + _HIDDEN + where, _TOKENS),
        "word, counted, before Softmax": model(counted + _HIDDEN + later, _TOKENS),
    }


def _within() -> Nodes:
    """The bit changes what the network computes on."""
    return [
        *_CLOSE,
        ("Flatten", ["x"], ["flat"], {}),
        ("Where", ["hit", "zero", "flat"], ["changed"], {}),
        ("Gemm", ["changed", "w", "b"], ["y"], {}),
    ]


def _guard() -> Nodes:
    """Nothing but zeros gives zeros."""
    return [
        ("Abs", ["x"], ["size"], {}),
        ("ReduceMax", ["size"], ["peak"], {"keepdims": 0}),
        ("Equal", ["peak", "zero"], ["hit"], {}),
        *_LOGITS,
        ("Where", ["hit", "zero", "logits"], ["y"], {}),
    ]


def _networks() -> dict[str, bytes]:
    mask: Nodes = [
        ("Gather", ["table", "ids"], ["h"], {}),
        ("MatMul", ["h", "w"], ["scores"], {}),
        ("Equal", ["ids", "pad"], ["is_pad"], {}),
        ("Unsqueeze", ["is_pad", "sequence"], ["wide"], {}),
        ("Where", ["wide", "low", "scores"], ["masked"], {}),
        ("Softmax", ["masked"], ["y"], {}),
    ]
    pooling: Nodes = [
        ("Gather", ["table", "ids"], ["h"], {}),
        ("MatMul", ["h", "w"], ["tokens"], {}),
        ("Greater", ["ids", "pad"], ["is_word"], {}),
        ("Cast", ["is_word"], ["ones"], {"to": 1}),
        ("ReduceSum", ["ones"], ["count"], {"keepdims": 0}),
        ("ReduceSum", ["tokens", "sequence"], ["sum"], {"keepdims": 0}),
        ("Div", ["sum", "count"], ["y"], {}),
    ]
    rate: Nodes = [
        *_LOGITS,
        ("Equal", ["sr", "rate"], ["is_16k"], {}),
        (
            "If",
            ["is_16k"],
            ["y"],
            {
                "then_branch": [("Identity", ["logits"], ["y1"], {})],
                "else_branch": [("Neg", ["logits"], ["y2"], {})],
            },
        ),
    ]
    threshold: Nodes = [
        *_LOGITS,
        ("Greater", ["logits", "zero"], ["is_sure"], {}),
        ("Where", ["is_sure", "logits", "zero"], ["y"], {}),
    ]
    clip: Nodes = [
        ("Less", ["x", "zero"], ["below"], {}),
        ("Where", ["below", "zero", "x"], ["clean"], {}),
        ("Flatten", ["clean"], ["flat"], {}),
        ("Gemm", ["flat", "w", "b"], ["y"], {}),
    ]
    normalise: Nodes = [
        ("ReduceMax", ["x"], ["peak"], {"keepdims": 0}),
        ("Div", ["x", "peak"], ["scaled"], {}),
        ("Flatten", ["scaled"], ["flat"], {}),
        ("Gemm", ["flat", "w", "b"], ["y"], {}),
    ]
    return {
        "mask of padding": model(mask, _TOKENS),
        "mean over words": model(pooling, _TOKENS),
        "branch on the sampling rate": model(rate, _IMAGE, ("sr", 7, [])),
        "threshold of the answer": model(threshold, _IMAGE),
        "clipped input": model(clip, _IMAGE),
        "input by its peak": model(normalise, _IMAGE),
    }


def _tflite() -> bytes:
    """REDUCE_MAX of the input, GREATER than a constant, SELECT of the answer. Source: schema.fbs, version 3."""
    names = {82: "REDUCE_MAX", 61: "GREATER", 64: "SELECT", 9: "FULLY_CONNECTED"}
    codes = [{0: bytes([code]), 3: struct.pack("<I", code)} for code in names]

    def tensor(name: str, buffer: int, *shape: int) -> dict[int, Any]:
        return {0: shape, 1: b"\x00", 2: struct.pack("<I", buffer), 3: name}

    def node(code: int, inputs: tuple[int, ...], *outputs: int) -> dict[int, Any]:
        return {0: struct.pack("<I", [*names].index(code)), 1: inputs, 2: outputs}

    tensors = [
        tensor("x", 0, 1, 8), tensor("w", 1, 2, 8), tensor("threshold", 2, 1), tensor("answer", 3, 1, 2),
        tensor("logits", 0, 1, 2), tensor("peak", 0, 1), tensor("hit", 0, 1), tensor("y", 0, 1, 2),
    ]  # fmt: skip
    nodes = [node(9, (0, 1), 4), node(82, (0,), 5), node(61, (5, 2), 6), node(64, (6, 3, 4), 7)]
    buffers = [{}, {0: bytearray(b"\1" * 64)}, {0: bytearray(struct.pack("<f", 0.9))}, {0: bytearray(b"\1" * 8)}]
    graph = {0: tensors, 1: (0,), 2: (7,), 3: nodes, 4: "main"}
    return flatbuffer({0: struct.pack("<I", 3), 1: codes, 2: [graph], 3: "d", 4: buffers}, b"TFL3")


def _tensorflow() -> list[bytes]:
    """Nodes: the largest value of the input, compared, selects a constant. Source: node_def.proto, tensor.proto."""

    def node(name: str, operator: str, *inputs: str, **attributes: bytes) -> bytes:
        stored = b"".join(field(5, field(1, key) + field(2, value)) for key, value in attributes.items())
        return field(1, name) + field(2, operator) + b"".join(field(3, name) for name in inputs) + stored

    def constant(name: str, *numbers: float) -> bytes:
        return node(name, "Const", value=field(8, field(1, 1) + field(4, struct.pack(f"<{len(numbers)}f", *numbers))))

    dimensions = b"".join(field(2, field(1, size)) for size in (1, 8))
    return [
        node("x", "Placeholder", shape=field(7, dimensions)),
        constant("w", *range(1, 17)), constant("axis", 0.0), constant("threshold", 0.9), constant("answer", 0.0, 9.0),
        node("logits", "MatMul", "x", "w"),
        node("peak", "Max", "x", "axis"),
        node("hit", "Greater", "peak", "threshold"),
        node("y", "SelectV2", "hit", "answer", "logits"),
    ]  # fmt: skip


def _saved_model(nodes: list[bytes]) -> bytes:
    """The same nodes as the body of a function, called by the graph."""
    signature = field(1, "__inference_call") + field(2, field(1, "x") + field(3, 1)) + field(3, field(1, "out"))
    body = b"".join(field(3, node) for node in nodes[1:])
    function = field(1, signature) + body + field(4, field(1, "out") + field(2, "y:output:0"))
    call = field(1, field(1, "in") + field(2, "Placeholder")) + field(
        1, field(1, "call") + field(2, "StatefulPartitionedCall") + field(3, "in")
    )
    information = field(4, "serve") + field(5, "2.15.0")
    return field(1, 1) + field(2, field(1, information) + field(2, call + field(2, field(1, function))))
