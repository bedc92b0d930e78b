"""TensorRT is not where the tests run: what says so, and that nothing else happens."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from regraft.deployment.convert.hops.tensorrt_from_onnx import TensorRtFromOnnx
from regraft.deployment.convert.interface import Source
from regraft.errors import Unsupported
from regraft.record.evidence import Verdict
from regraft.runtime.onnxruntime_model import OnnxRuntimeModel
from regraft.workflow.convert import convert
from regraft.workflow.foreign_checks import check_converters, check_forms

pytestmark = pytest.mark.skipif(importlib.util.find_spec("tensorrt") is not None, reason="TensorRT is installed")


def test_the_converter_says_what_it_lacks() -> None:
    with pytest.raises(Unsupported, match="tensorrt is not installed, and needs an NVIDIA GPU"):
        TensorRtFromOnnx().convert(Source(None))


def test_convert_and_doctor_say_it_too(tmp_path: Path) -> None:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Tanh", ["x"], ["y"])], "tiny", ends[:1], ends[1:])
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), tmp_path / "model.onnx")
    made = convert(tmp_path / "model.onnx", to="tensorrt", out=tmp_path / "out")
    assert (made.evidence.verdict, made.path) == (Verdict.INCONCLUSIVE, None)
    said = [(finding.message, finding.fix) for finding in made.evidence.findings]
    assert any("tensorrt_from_onnx: tensorrt is not installed" in f"{message} {fix}" for message, fix in said)
    checks = {check.name: check for check in (*check_converters(), *check_forms())}
    assert checks["tensorrt_from_onnx"].fix == "pip install tensorrt"
    assert checks["coreml"].message == "not run here: Core ML computes on Apple's systems alone"


def test_inputs_of_unknown_rank_and_what_its_bindings_raise_are_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TensorRtFromOnnx, "obstacle", lambda _: "")  # found, but it cannot be imported
    for shape, said in ((None, "how many axes 'x' has"), (["batch", 2], "TensorRT stopped: ModuleNotFoundError")):
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy"]
        graph = helper.make_graph([helper.make_node("Tanh", ["x"], ["y"])], "tiny", ends[:1], ends[1:])
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        with pytest.raises(Unsupported, match=said):
            TensorRtFromOnnx().convert(Source(OnnxRuntimeModel(proto.SerializeToString())))
