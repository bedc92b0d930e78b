from __future__ import annotations

import io
import json
import zipfile

import pytest


def skops(**node: object) -> bytes:
    schema = {"__module__": "sklearn.pipeline", "__class__": "Pipeline", "__loader__": "ObjectNode", "content": node}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("schema.json", json.dumps({**schema, "_skops_version": "0.13"}))
    return buffer.getvalue()


def node(module: str, name: str, loader: str = "ObjectNode", **more: object) -> dict[str, object]:
    return {"__module__": module, "__class__": name, "__loader__": loader, **more}


@pytest.fixture
def rules(rules_of):
    return lambda item: {r for r in rules_of({"m.skops": skops(**item)}) if r.startswith("RGS-SKO")}


def test_sklearn_and_numpy_are_fine(rules):
    assert rules(node("sklearn.linear_model._base", "LinearRegression")) == set()
    assert rules(node("numpy", "ndarray", "NdArrayNode", file="x.npy")) == set()
    assert rules(node("builtins", "dict", "DictNode")) == set()
    function = node(
        "builtins", "function", "FunctionNode", content={"module_path": "scipy.special", "function": "expit"}
    )
    assert rules(function) == set()


@pytest.mark.parametrize("name", ["os.system", "builtins.eval", "subprocess.Popen"])
def test_dangerous_names_fail(rules, name):
    module, _, last = name.rpartition(".")
    assert rules(node(module, last)) == {"RGS-SKO-001"}
    function = node("builtins", "function", "FunctionNode", content={"module_path": module, "function": last})
    assert rules(function) == {"RGS-SKO-001"}


def test_operator_nodes_that_call_methods_fail(rules):
    assert rules(node("operator", "methodcaller", "OperatorFuncNode")) & {"RGS-SKO-001", "RGS-SKO-002"}


def test_functions_of_unknown_libraries_fail(rules):
    function = node("builtins", "function", "FunctionNode", content={"module_path": "strange", "function": "f"})
    assert rules(function) == {"RGS-SKO-002"}


def test_types_of_unknown_libraries_are_unknown(rules):
    assert rules(node("strange.lib", "Thing")) == {"RGS-SKO-003"}
