from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from regraft.compare.coverage import FaultCoverage, fault_coverage, traced
from regraft.compare.judge import threshold
from regraft.compare.measure import Answer, Yardstick
from regraft.compare.planting import Planted, plantable
from regraft.package.formats import Port
from regraft.runtime.graphs import operator_graph
from regraft.runtime.onnx_graph import OnnxGraph
from regraft.runtime.onnxruntime_model import OnnxRuntimeModel
from regraft.runtime.torch_module import TorchModel

RANDOM = np.random.default_rng(0)
WEIGHT = RANDOM.normal(size=(8, 6)).astype(np.float32)
HEAD = RANDOM.normal(size=(6, 5)).astype(np.float32)


def model(*nodes: onnx.NodeProto, **weights: np.ndarray) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def rectified() -> onnx.ModelProto:
    """A rectifier between two products."""
    return model(
        helper.make_node("MatMul", ["x", "w"], ["product"], "product"),
        helper.make_node("Relu", ["product"], ["active"], "rectifier"),
        helper.make_node("MatMul", ["active", "head"], ["y"], "head"),
        w=np.abs(WEIGHT),
        head=HEAD,
    )


def answered(proto: onnx.ModelProto, cases: list[dict[str, np.ndarray]]) -> tuple[list[Answer], str]:
    loaded = OnnxRuntimeModel(proto.SerializeToString(), threads=1)
    yardstick = Yardstick(loaded, cases[0])
    return list(yardstick.answers(cases)), yardstick.method


def covered(proto: onnx.ModelProto, cases: list[dict[str, np.ndarray]], **options: Any) -> FaultCoverage:
    answers, method = answered(proto, cases)
    return fault_coverage(OnnxGraph(proto, threads=1), cases, answers, limits=threshold(method, "float32"), **options)


def normal(rows: int = 16, seed: int = 1) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(seed).normal(size=(rows, 8)).astype(np.float32)}


def positive() -> dict[str, np.ndarray]:
    return {"x": np.abs(normal()["x"])}


def test_positive_feeds_do_not_exercise_a_rectifier_and_normal_ones_do() -> None:
    blind, seeing = covered(rectified(), [positive()]), covered(rectified(), [normal()])
    assert "rectifier" in {fault.name for fault in blind.unreached}
    assert ("rectifier", "unchanged") in {(one.name, one.reason) for one in blind.exercise.idle}
    assert any(fault.cause == "activation_missing" for fault in seeing.faults)
    assert "rectifier" not in {f.name for f in seeing.unreached if f.cause == "activation_missing"}
    assert seeing.exercise.idle == ()
    assert blind.share.value < seeing.share.value
    assert blind.share.low <= blind.share.value <= blind.share.high


def test_feeds_that_come_later_reach_what_the_first_did_not() -> None:
    both = covered(rectified(), [positive(), normal()])
    late = {fault.cause for fault in both.faults if fault.name == "rectifier" and fault.feeds == 1}
    assert "activation_missing" in late
    assert both.exercise.idle == ()
    assert both.exercise.feeds == 2


def test_the_same_seed_plants_the_same_faults_and_another_one_others() -> None:
    first, again = covered(rectified(), [normal()], seed=3, limit=6), covered(rectified(), [normal()], seed=3, limit=6)
    assert first.faults == again.faults
    assert len(first.faults) == 6
    assert first.faults != covered(rectified(), [normal()], seed=4, limit=6).faults


def test_a_setting_at_the_value_that_it_has_is_no_fault() -> None:
    proto = model(
        helper.make_node("LayerNormalization", ["x", "scale", "bias"], ["y"], "norm", epsilon=1e-3, axis=-1),
        scale=WEIGHT[:, 0].copy(),
        bias=WEIGHT[:, 1].copy(),
    )
    graph = OnnxGraph(proto, threads=1)
    details = {one.hypothesis.detail for one in all_plantable(graph, normal())}
    assert any("epsilon" in detail for detail in details)
    assert "epsilon of LayerNormalization is 0.001" not in details
    assert "axis of LayerNormalization is 1" not in details


def all_plantable(graph: OnnxGraph, feeds: dict[str, np.ndarray]) -> list[Planted]:
    found = []
    for seed in range(12):
        found += plantable(graph, traced(graph, feeds), limit=40, seed=seed)
    return found


def test_both_branches_of_a_conditional_are_told_apart() -> None:
    def branch(operator: str, name: str) -> onnx.GraphProto:
        out = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        return helper.make_graph([helper.make_node(operator, ["x"], [name])], name, [], [out])

    proto = model(
        helper.make_node("ReduceSum", ["x"], ["total"], "total", keepdims=0),
        helper.make_node("Greater", ["total", "zero"], ["is_large"], "compare"),
        helper.make_node(
            "If", ["is_large"], ["y"], "choice", then_branch=branch("Tanh", "t"), else_branch=branch("Sigmoid", "e")
        ),
        zero=np.float32(0.0),
    )
    (one,) = covered(proto, [positive()]).exercise.branches
    assert (one.name, one.then_taken, one.else_taken) == ("choice", True, False)
    (both,) = covered(proto, [positive(), {"x": -positive()["x"]}]).exercise.branches
    assert both.then_taken
    assert both.else_taken


def test_a_saturated_activation_is_idle() -> None:
    proto = model(
        helper.make_node("MatMul", ["x", "w"], ["product"], "product"),
        helper.make_node("Sigmoid", ["product"], ["gate"], "gate"),
        helper.make_node("MatMul", ["gate", "head"], ["y"], "head"),
        w=np.abs(WEIGHT),
        head=HEAD,
    )
    large = {"x": 1e3 * np.concatenate([positive()["x"], -positive()["x"]])}
    assert ("gate", "saturated") in {(one.name, one.reason) for one in covered(proto, [large]).exercise.idle}
    assert covered(proto, [normal()]).exercise.idle == ()


def test_a_fault_runs_no_further_than_it_is_felt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a rectifier that hands on everything, no operator runs again for a rectifier that is missing."""
    graph = OnnxGraph(rectified(), threads=1)
    answers, method = answered(rectified(), [positive()])
    ran: list[str] = []
    plain = OnnxGraph.run
    monkeypatch.setattr(
        OnnxGraph, "run", lambda self, node, *a, **k: ran.append(node.name) or plain(self, node, *a, **k)
    )
    values = traced(graph, positive())
    (fault,) = [
        one
        for one in plantable(graph, values, limit=40, seed=0)
        if one.node.name == "rectifier" and one.hypothesis.cause == "activation_missing"
    ]
    monkeypatch.setattr("regraft.compare.coverage.plantable", lambda *a, **k: iter([fault]))
    ran.clear()
    found = fault_coverage(graph, [positive()], answers, limits=threshold(method, "float32"))
    assert found.share.value == 0
    assert ran == ["product", "rectifier", "head"]  # the trace alone


def test_without_time_what_was_not_tried_is_not_counted() -> None:
    found = covered(rectified(), [normal()], time_s=0.0)
    assert not found.is_complete
    assert found.share is None
    assert found.reason


def test_a_torch_reference_is_planted_through_its_exported_graph(network: nn.Module) -> None:
    reference = TorchModel(network.eval(), inputs=[Port("x", "float32", ("batch", 12))])
    cases = [{"x": np.random.default_rng(2).normal(size=(5, 12)).astype(np.float32)}]
    yardstick = Yardstick(reference, cases[0])
    answers = list(yardstick.answers(cases))
    graph = operator_graph(reference, cases[0], threads=1)
    names = dict(zip(answers[0].truth, graph.outputs, strict=True))
    found = fault_coverage(graph, cases, answers, limits=threshold(yardstick.method, "float32"), outputs=names)
    assert yardstick.method == "float64"
    assert {fault.cause for fault in found.faults} >= {"node_missing", "weight_changed"}
    assert found.unreached == ()  # every weight of this network counts, and nothing comes after that would undo it


@pytest.mark.parametrize(("name", "least"), [("resnet", 0.85), ("control_flow", 0.8), ("encoder", 0.8)])
def test_feeds_of_real_architectures_reach_most_faults(
    name: str, least: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some are invisible to any feeds: what is added before a softmax, an epsilon beside a large variance."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    from benchmarks.mutations import architectures

    of = architectures.reference(name)
    found = covered(of.proto, [dict(feeds) for feeds in of.feeds])
    assert len(found.faults) >= 20
    assert found.is_complete
    assert least <= found.share.value <= 1
    assert len({fault.operator for fault in found.faults}) >= 6
    assert len({fault.cause for fault in found.faults}) >= 8


def test_answers_must_belong_to_the_feeds() -> None:
    answers, method = answered(rectified(), [normal()])
    with pytest.raises(ValueError, match="1 answers to 2"):
        fault_coverage(OnnxGraph(rectified()), [normal(), normal()], answers, limits=threshold(method, "float32"))
