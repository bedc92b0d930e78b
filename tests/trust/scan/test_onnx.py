from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper

from regraft.record.evidence import Verdict


def model(operator: str = "Relu", domain: str = "", location: str | None = None) -> bytes:
    node = helper.make_node(operator, ["x"], ["y"], domain=domain)
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy"]
    weights = []
    if location is not None:
        weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2])
        weight.data_location = TensorProto.EXTERNAL
        weight.external_data.add(key="location", value=location)
        weights = [weight]
    graph = helper.make_graph([node], "g", ports[:1], ports[1:], initializer=weights)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.imported.only", 1)]
    return helper.make_model(graph, opset_imports=opsets).SerializeToString()


def test_standard_operators_pass(scan_files):
    assert scan_files({"m.onnx": model()}).verdict is Verdict.PASS
    assert scan_files({"m.onnx": model("FusedConv", "com.microsoft")}).verdict is Verdict.PASS


@pytest.mark.parametrize("location", ["../../etc/passwd", "/etc/passwd", "a/../../b", "C:\\x"])
def test_external_data_outside_of_the_package_fails(scan_files, location):
    evidence = scan_files({"m.onnx": model(location=location)})
    assert evidence.verdict is Verdict.FAIL
    assert "RGS-ONX-001" in {f.rule for f in evidence.findings}


def test_external_data_beside_the_model_is_raw_data(scan_files):
    odd = bytes((i * 131 + 17) % 251 for i in range(4096))
    assert scan_files({"m.onnx": model(location="m.data"), "m.data": odd}).verdict is Verdict.PASS


def test_missing_external_data_is_noted(rules_of):
    assert rules_of({"m.onnx": model(location="m.data")}) == {"RGS-ONX-003"}


@pytest.mark.parametrize("domain", ["ai.onnx.contrib", "my.domain"])
def test_foreign_operators_are_unknown(scan_files, domain):
    evidence = scan_files({"m.onnx": model("PyOp", domain)})
    assert evidence.verdict is Verdict.INCONCLUSIVE
    assert [f.data["name"] for f in evidence.findings] == [domain]


def test_operators_of_the_models_own_functions_are_fine(scan_files):
    function = helper.make_function(
        "own", "F", ["x"], ["y"], [helper.make_node("Relu", ["x"], ["y"])], [helper.make_opsetid("", 18)]
    )
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("F", ["x"], ["y"], domain="own")], "g", ports[:1], ports[1:])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    content: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, functions=[function])
    assert scan_files({"m.onnx": content.SerializeToString()}).verdict is Verdict.PASS
