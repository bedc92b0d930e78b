"""ONNX graphs that are legal and rare: a model is equivalent to itself, or the verdict says what is in the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regraft.deployment.verify import verify
from regraft.package.formats import Port
from regraft.record.evidence import Evidence, Verdict

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

_WEIGHT = np.random.default_rng(0).normal(size=(8, 8))
_KINDS = {"float16": 10, "float32": 1, "float64": 11}


def _node(operator: str, inputs: list[str], outputs: list[str], **attributes: Any) -> Any:
    return onnx.helper.make_node(operator, inputs, outputs, **attributes)


def _written(
    folder: Path, name: str, nodes: list[Any], *weights: Any, dtype: str = "float32", output: Any = None
) -> Path:
    """A graph from x (B, 8) to y (B, 8)."""
    x, y = (onnx.helper.make_tensor_value_info(port, _KINDS[dtype], ["B", 8]) for port in "xy")
    graph = onnx.helper.make_graph(nodes, "odd", [x], [output or y], list(weights))
    opsets = [onnx.helper.make_opsetid("", 17)]
    path = folder / f"{name}.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def _array(value: Any, name: str) -> Any:
    return onnx.numpy_helper.from_array(np.asarray(value), name)


def _sparse(indices: Any) -> Any:
    tensor = onnx.helper.make_tensor
    flat = np.asarray(indices)
    places = tensor("", onnx.TensorProto.INT64, flat.shape, flat.ravel().tolist())
    sparse = onnx.helper.make_sparse_tensor(tensor("", 1, [2], [1.0, 2.0]), places, [8, 8])
    return _node("Constant", [], ["c"], sparse_value=sparse)


def _sequence(weight: Any) -> tuple[list[Any], list[Any]]:
    """Halves of x in a list, the second of them times (4, 8), with the first put before it."""
    nodes = [
        _node("SplitToSequence", ["x", "four"], ["halves"], axis=1),
        _node("SequenceAt", ["halves", "one"], ["second"]),
        _node("MatMul", ["second", "w"], ["product"]),
        _node("SequenceConstruct", ["product", "x"], ["both"]),
        _node("SequenceInsert", ["both", "x"], ["three"]),
        _node("ConcatFromSequence", ["three"], ["stacked"], axis=0, new_axis=1),
        _node("ReduceSum", ["stacked", "zero"], ["y"], keepdims=0),
    ]
    weights = [_array(4, "four"), _array(1, "one"), _array([0], "zero"), _array(weight, "w")]
    return nodes, weights


def _rules(evidence: Evidence) -> set[str]:
    return {finding.rule for finding in evidence.findings}


@pytest.mark.parametrize("indices", [[3, 20], [[0, 3], [2, 4]]], ids=["flat", "by axis"])
def test_a_sparse_constant(indices: Any, tmp_path: Path) -> None:
    sparse = _written(tmp_path, "sparse", [_sparse(indices), _node("MatMul", ["x", "c"], ["y"])])
    weight = np.zeros((8, 8), np.float32)
    weight[0, 3], weight[2, 4] = 1.0, 2.0
    dense = _written(tmp_path, "dense", [_node("MatMul", ["x", "c"], ["y"])], _array(weight, "c"))
    evidence = verify(sparse, dense)
    assert evidence.verdict is Verdict.PASS
    assert "divergence.origin" not in _rules(evidence)


def test_sequences_between_operators(tmp_path: Path) -> None:
    nodes, weights = _sequence(_WEIGHT[:4].astype(np.float32))
    path = _written(tmp_path, "sequence", nodes, *weights)
    evidence = verify(path, path)
    assert evidence.verdict is Verdict.PASS
    assert evidence.parameters["floor"] == "float64"
    assert "divergence.origin" not in _rules(evidence)


def test_a_fault_behind_a_sequence_is_found_where_it_is(tmp_path: Path) -> None:
    weight = _WEIGHT[:4].astype(np.float32)
    nodes, weights = _sequence(weight)
    changed = _sequence(np.where(np.arange(8) == 3, 2 * weight, weight))
    good = _written(tmp_path, "good", nodes, *weights)
    evidence = verify(good, _written(tmp_path, "bad", changed[0], *changed[1]))
    assert evidence.verdict is Verdict.FAIL
    (origin,) = [finding for finding in evidence.findings if finding.rule == "divergence.origin"]
    assert origin.data["candidate_operators"] == ["MatMul_2"]


def test_a_sequence_as_an_output_is_refused_in_words(tmp_path: Path) -> None:
    output = onnx.helper.make_tensor_sequence_value_info("s", 1, None)
    path = _written(tmp_path, "out", [_node("SplitToSequence", ["x"], ["s"], axis=1)], output=output)
    evidence = verify(path, path)
    assert evidence.verdict is Verdict.INCONCLUSIVE
    assert "output 's' is a seq(tensor(float))" in evidence.summary
    assert "ConcatFromSequence" in str(evidence.findings[0].fix)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_a_graph_of_another_width_is_followed_in_it(dtype: str, tmp_path: Path) -> None:
    nodes = [_node("MatMul", ["x", "w"], ["h"]), _node("Tanh", ["h"], ["y"])]
    path = _written(tmp_path, dtype, nodes, _array(_WEIGHT.astype(dtype), "w"), dtype=dtype)
    evidence = verify(path, path)
    assert evidence.verdict is Verdict.PASS
    assert not _rules(evidence) & {"divergence.origin", "divergence.unlocated"}
    (paired,) = [one for one in evidence.measurements if one.name == "tensors_paired"]
    assert paired.value == paired.n


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_a_network_of_torch_of_another_width_is_followed_in_it(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    from regraft.runtime.torch_module import TorchModel

    torch.manual_seed(0)
    layers = torch.nn.Linear(8, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)
    network = torch.nn.Sequential(*layers).to(getattr(torch, dtype))
    changed = torch.nn.Sequential(layers[0], torch.nn.Sigmoid(), layers[2])
    good, bad = (TorchModel(one, inputs=[Port("input", dtype, ("B", 8))]) for one in (network, changed))
    same = verify(good, good)
    assert same.verdict is Verdict.PASS
    assert not _rules(same) & {"divergence.origin", "divergence.unlocated"}
    (origin,) = [finding for finding in verify(good, bad).findings if finding.rule == "divergence.origin"]
    assert origin.data["cause"] == "activation_kind"


def test_a_fault_in_float16_is_found_where_it_is(tmp_path: Path) -> None:
    weight = _array(_WEIGHT.astype(np.float16), "w")
    good, bad = (
        _written(
            tmp_path, last, [_node("MatMul", ["x", "w"], ["h"]), _node(last, ["h"], ["y"])], weight, dtype="float16"
        )
        for last in ("Tanh", "Sigmoid")
    )
    evidence = verify(good, bad)
    assert evidence.verdict is Verdict.FAIL
    (origin,) = [finding for finding in evidence.findings if finding.rule == "divergence.origin"]
    assert origin.data["candidate_operators"] == ["Sigmoid_1"]


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_large_numbers_in_float16_and_empty_tensors_warn_of_nothing(tmp_path: Path) -> None:
    nodes = [
        _node("Mul", ["x", "many"], ["large"]),  # infinite where x is large
        _node("Slice", ["large", "zero", "zero", "one"], ["empty"]),
        _node("Relu", ["empty"], ["still"]),
        _node("Concat", ["large", "still"], ["both"], axis=1),
    ]
    weights = [_array(np.float16(60000), "many"), _array([0], "zero"), _array([1], "one")]
    good, bad = (
        _written(tmp_path, last, [*nodes, _node(last, ["both"], ["y"])], *weights, dtype="float16")
        for last in ("Tanh", "Sigmoid")
    )
    assert verify(good, good).verdict is Verdict.PASS
    assert verify(good, bad).verdict is Verdict.FAIL


def test_a_cause_is_said_once_and_so_is_the_operators_name(tmp_path: Path) -> None:
    paths = [
        _written(tmp_path, f"shrink{bound}", [_node("Shrink", ["x"], ["y"], lambd=bound)]) for bound in (0.5, 0.75)
    ]
    evidence = verify(*paths)
    (origin,) = [finding for finding in evidence.findings if finding.rule == "divergence.origin"]
    assert origin.data["cause"] == "lambd"
    assert origin.message.startswith("Shrink_0: lambd of Shrink is 0.75")
