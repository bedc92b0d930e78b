from __future__ import annotations

import json

import pytest
from tests.trust.corpus.graph_files import coreml_with_custom_layer, saved_model
from tests.trust.corpus.loader_files import paddle_program

from regraft.trust.scan.foreign_operators import tensorflow_operators


def test_the_list_holds_what_graphs_are_made_of():
    assert {"MatMul", "Conv2D", "StatefulPartitionedCall", "RestoreV2"} <= tensorflow_operators()
    assert len(tensorflow_operators()) > 1000


def test_operators_that_tensorflow_does_not_have(rules_of):
    assert "RGS-OPR-001" in rules_of({"saved_model.pb": saved_model("SentencepieceOp")})
    assert "RGS-OPR-001" not in rules_of({"saved_model.pb": saved_model("Conv2D", "_FusedConv2D", "XlaCallModule")})
    web = {"format": "graph-model", "modelTopology": {"node": [{"name": "x", "op": "Mine"}]}, "weightsManifest": []}
    assert "RGS-OPR-001" in rules_of({"model.json": json.dumps(web)})


@pytest.mark.parametrize(("layer", "is_known"), [("Dense", True), ("Mine", False), ("MatMul", False)])
def test_layers_of_a_tensorflow_js_model_are_those_of_keras(rules_of, layer, is_known):
    layers = [{"class_name": layer, "config": {"name": "a"}}]
    topology = {"model_config": {"class_name": "Sequential", "config": {"name": "s", "layers": layers}}}
    web = {"format": "layers-model", "modelTopology": topology, "weightsManifest": []}
    assert ("RGS-OPR-001" not in rules_of({"model.json": json.dumps(web)})) == is_known
    graph = {"modelTopology": {**topology, "node": [{"name": "x", "op": "Dense"}]}, "weightsManifest": []}
    assert "RGS-OPR-001" in rules_of({"model.json": json.dumps(graph)})


def test_operators_of_an_openvino_extension(rules_of):
    text = '<?xml version="1.0"?><net name="n" version="11"><layers>{}</layers><edges/></net>'
    layer = '<layer id="0" name="x" type="{}" version="{}"><output><port id="0"/></output></layer>'
    assert "RGS-OPR-002" in rules_of({"m.xml": text.format(layer.format("Mine", "my_extension"))})
    assert "RGS-OPR-002" not in rules_of({"m.xml": text.format(layer.format("Relu", "opset1"))})


def test_custom_layers_of_core_ml(rules_of):
    assert "RGS-OPR-003" in rules_of({"m.mlmodel": coreml_with_custom_layer()})


@pytest.mark.parametrize(("operator", "rule"), [("save", "RGS-OPR-004"), ("py_func", "RGS-OPR-005"), ("relu", None)])
def test_operators_of_paddle(rules_of, operator, rule):
    found = rules_of({"inference.pdmodel": paddle_program("feed", operator, "fetch")})
    assert {name for name in found if name.startswith("RGS-OPR")} == ({rule} if rule else set())


@pytest.mark.parametrize("path", ["../../etc/passwd", "/etc/passwd"])
def test_a_core_ml_package_that_leads_out(rules_of, path):
    def manifest(path: str) -> str:
        items = {"a": {"path": path, "name": "m"}}
        return json.dumps({"fileFormatVersion": "1.0.0", "rootModelIdentifier": "a", "itemInfoEntries": items})

    assert "RGS-OPR-006" in rules_of({"m.mlpackage/Manifest.json": manifest(path)})
    assert "RGS-OPR-006" not in rules_of({"m.mlpackage/Manifest.json": manifest("com.apple.CoreML/m.mlmodel")})
