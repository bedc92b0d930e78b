"""Operators tried alone: in a runtime that has them, in one that computes one otherwise, in one that dies of one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from regraft.compare.operator_probes import Status, probes
from regraft.runtime.onnx_graph import OnnxGraph
from regraft.runtime.operator_process import OperatorProcess

PREPARE = {
    "onnxruntime": "regraft.runtime.operator_process:in_onnxruntime",
    "faulty": "probed_runtimes:leaky",
    "crashing": "probed_runtimes:crashing",
}


def small_graph() -> OnnxGraph:
    """Two products that differ in nothing, and what is positive of the second."""
    weight = numpy_helper.from_array(np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32), "w")
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="first"),
        helper.make_node("MatMul", ["a", "w"], ["b"], name="second"),
        helper.make_node("Relu", ["b"], ["y"], name="relu"),
    ]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4, 8]) for name in "xy"]
    graph = helper.make_graph(nodes, "small", ports[:1], ports[1:], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return OnnxGraph(model, threads=1)


def test_what_a_runtime_lacks_computes_otherwise_or_dies_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    processes = [OperatorProcess(name, prepare) for name, prepare in PREPARE.items()]
    feeds = {"x": np.random.default_rng(1).normal(size=(4, 8)).astype(np.float32)}
    try:
        found = probes(small_graph(), feeds, processes)
    finally:
        for process in processes:
            process.close()
    told = {(one.runtime, one.operator, one.dtype): one for one in found}
    works = {Status.WORKS, Status.SLOW}  # how long they take is not tested
    assert told["onnxruntime", "MatMul", "float32"].status in works
    assert told["onnxruntime", "MatMul", "float16"].status in works
    assert told["onnxruntime", "MatMul", "bfloat16"].status is Status.MISSING
    assert "NOT_IMPLEMENTED" in told["onnxruntime", "MatMul", "bfloat16"].message
    assert told["onnxruntime", "MatMul", "float32"].count == 2
    leak = told["faulty", "Relu", "float32"]
    assert leak.status is Status.DIFFERS
    assert leak.floors is not None
    assert leak.floors > 100  # a thousandth of the scale is 1.7e4 roundoffs of float32
    assert told["faulty", "Relu", "float16"].status in works  # and less than one floor of float16
    assert told["faulty", "MatMul", "float32"].status in works
    crash = told["crashing", "MatMul", "float32"]
    assert crash.status is Status.MISSING
    assert "SIGABRT" in crash.message
    assert told["crashing", "Relu", "float32"].status in works  # in the process after


def test_without_an_exact_run_nothing_is_said_of_an_answer() -> None:
    """ONNX Runtime alone has this operator, and in float32 alone."""
    node = helper.make_node("TransposeMatMul", ["x", "x"], ["y"], name="own", domain="com.microsoft", transA=1)
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [8, 8]) for name in "xy"]
    graph = helper.make_graph([node], "own", ports[:1], ports[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("com.microsoft", 1)], ir_version=8)
    process = OperatorProcess("onnxruntime", PREPARE["onnxruntime"])
    try:
        (found,) = probes(OnnxGraph(model, threads=1), {"x": np.eye(8, dtype=np.float32)}, [process])
    finally:
        process.close()
    assert (found.operator, found.status, found.floors) == ("com.microsoft::TransposeMatMul", Status.UNDECIDED, None)
    assert found.message
