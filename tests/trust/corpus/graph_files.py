"""Graphs whose operators or references reach beyond the graph: SavedModel, TFLite, ONNX, OpenVINO, CoreML, PMML, R."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator

from tests.trust.corpus import Sample
from tests.trust.corpus.archive_writers import compressed
from tests.trust.corpus.keras_files import harmful_code
from tests.trust.corpus.opcodes import PAYLOAD
from tests.trust.corpus.wire_writers import field, flatbuffer

_OPERATORS = (
    "ReadFile WriteFile MatchingFiles DumpFile WriteImageSummary WriteGraphSummary CreateSummaryFileWriter "
    "WholeFileReaderV2 Save WriteRawProtoSummary TextLineDataset TextLineReaderV2 TFRecordDataset SqlDataset RpcCall "
    "RpcServer DataServiceDatasetV2 SaveDatasetV2 LoadDataset ImmutableConst BigQueryReader LMDBReader "
    "FixedLengthRecordDatasetV2 SnapshotDatasetV2"
).split()
"""Operators that open a path, or a connection, that the model chooses."""


def graph(*operators: str, in_function: bool = False) -> bytes:
    """A GraphDef with one node an operator."""
    nodes = b"".join(
        field(3 if in_function else 1, field(1, f"n{i}") + field(2, operator)) for i, operator in enumerate(operators)
    )
    if not in_function:
        return nodes
    signature = field(1, field(1, "__inference_call_1"))
    return field(1, field(1, "x") + field(2, "Placeholder")) + field(2, field(1, signature + nodes))


def saved_model(*operators: str, in_function: bool = False) -> bytes:
    """A SavedModel of TensorFlow 2."""
    information = field(4, "serve") + field(5, "2.15.0")
    return field(1, 1) + field(
        2, field(1, information) + field(2, graph("MatMul", *operators, in_function=in_function))
    )


def samples() -> Iterator[Sample]:
    """By format."""
    yield from _tensorflow()
    yield from _tflite()
    yield from _onnx()
    yield from _others()


def _tensorflow() -> Iterator[Sample]:
    for operator in _OPERATORS:
        yield Sample(f"graphs/SavedModel, {operator}", {"saved_model.pb": saved_model(operator)})
    for operator in ("ReadFile", "WriteFile", "SaveDatasetV2"):
        inside = saved_model(operator, in_function=True)
        yield Sample(f"graphs/SavedModel, {operator} in a function", {"saved_model.pb": inside})
        yield Sample(f"graphs/GraphDef, {operator}", {"frozen_graph.pb": graph("Placeholder", operator)})
    code = base64.b64encode(harmful_code("lambda x: __import__('os').system('x')")).decode()
    layer = {"class_name": "Lambda", "config": {"name": "l", "function": [code, None, None], "function_type": "lambda"}}
    model = {"class_name": "Sequential", "config": {"name": "s", "layers": [layer]}}
    metadata = field(
        1, field(2, 1) + field(3, "root.layer-0") + field(4, "_tf_keras_model") + field(5, json.dumps(model))
    )
    yield Sample(
        "graphs/SavedModel, Lambda in keras_metadata.pb",
        {"saved_model.pb": saved_model("StatefulPartitionedCall"), "keras_metadata.pb": metadata},
        source="modelaudit pull 250",
    )
    yield Sample(
        "graphs/SavedModel, pickled asset", {"saved_model.pb": saved_model("Add"), "assets/vocabulary.txt": PAYLOAD}
    )
    yield Sample("graphs/TensorFlow.js, file operator", {"model.json": _tfjs("WriteFile")})


def _tfjs(operator: str) -> bytes:
    topology = {"node": [{"name": "x", "op": "Placeholder"}, {"name": "y", "op": operator}]}
    return json.dumps({"format": "graph-model", "modelTopology": topology, "weightsManifest": []}).encode()


def tflite(*custom: str) -> bytes:
    """A TFLite model with custom operators. Source: schema.fbs, version 3."""
    codes = [{0: b"\x20", 1: name} for name in custom]
    operators = [{0: struct.pack("<I", index)} for index in range(len(custom))]
    return flatbuffer({0: struct.pack("<I", 3), 1: codes, 2: [{3: operators, 4: "main"}], 3: "d", 4: [{}]}, b"TFL3")


def _tflite() -> Iterator[Sample]:
    for name in ("FlexWriteFile", "FlexReadFile", "FlexTextLineDataset", "FlexSaveDatasetV2"):
        yield Sample(f"graphs/TFLite, {name}", {"model.tflite": tflite(name)})
    yield Sample("graphs/TFLite under another name", {"model.bin": tflite("FlexWriteFile")})


def onnx_model(*, domain: str = "", operator: str = "Identity", location: str | None = None) -> bytes:
    """An ONNX model of one node, with a weight that may lie elsewhere."""
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info
    node = helper.make_node(operator, ["x"], ["y"], domain=domain)
    tensor = helper.make_tensor("w", TensorProto.FLOAT, [2], [1.0, 2.0])
    if location is not None:
        del tensor.float_data[:]
        tensor.data_location = TensorProto.EXTERNAL
        for key, text in (("location", location), ("offset", "0"), ("length", "8")):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, text
    graph_ = helper.make_graph([node], "g", [value("x", 1, [2])], [value("y", 1, [2])], [tensor])
    opsets = [helper.make_opsetid("", 18)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return bytes(helper.make_model(graph_, opset_imports=opsets).SerializeToString())


def _onnx() -> Iterator[Sample]:
    places = {
        "climbs": ("../../../../etc/passwd", "CVE-2022-25882"),
        "climbs from a folder": ("junk/../../etc/passwd", "CVE-2024-27318"),
        "climbs by backslashes": ("..\\..\\secrets", "CVE-2024-27318"),
        "absolute": ("/etc/passwd", "CVE-2022-25882"),
        "of a drive": ("C:\\Users\\x\\.ssh\\id_rsa", ""),
        "an address": ("file:///etc/passwd", ""),
        "at home": ("~/.ssh/id_rsa", ""),
        "with a zero byte": ("weights.bin\0/../../x", ""),
    }
    for what, (location, source) in places.items():
        yield Sample(f"graphs/ONNX, external data {what}", {"model.onnx": onnx_model(location=location)}, source=source)
    yield Sample(
        "graphs/ONNX, external data through a link",
        {"model.onnx": onnx_model(location="weights.bin")},
        source="CVE-2026-27489",
        links={"weights.bin": "../../../../../etc/passwd"},
    )
    yield Sample(
        "graphs/ONNX, external data through a linked folder",
        {"model.onnx": onnx_model(location="data/hostname")},
        source="CVE-2026-34447",
        links={"data": "/etc"},
    )
    yield Sample("graphs/ONNX behind a pickle", {"model.onnx": PAYLOAD + onnx_model()})


def _others() -> Iterator[Sample]:
    entity = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
    yield Sample(
        "graphs/OpenVINO, external entity", {"model.xml": (entity + '<net name="&e;" version="11"/>').encode()}
    )
    laughs = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 9))
    bomb = f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e0 "ha">{laughs}]><net name="&e8;" version="11"/>'
    yield Sample("graphs/OpenVINO, billion laughs", {"model.xml": bomb.encode()})
    pmml = entity + '<PMML version="4.4" xmlns="http://www.dmg.org/PMML-4_4"><Header description="&e;"/></PMML>'
    yield Sample("graphs/PMML, external entity", {"model.pmml": pmml.encode()}, source="CWE-611")
    yield Sample("graphs/R promise", {"model.rds": compressed(_promise(), "gz")}, source="CVE-2024-27322")
    yield Sample("graphs/R promise, not compressed", {"model.rds": _promise()}, source="CVE-2024-27322")
    yield Sample(
        "graphs/R workspace with a promise",
        {"model.RData": compressed(b"RDX3\n" + _promise(), "gz")},
        source="CVE-2024-27322",
    )


def _promise() -> bytes:
    """An R promise whose expression calls `system`: R evaluates it when the object is looked at."""

    def symbol(name: str) -> bytes:
        return struct.pack(">II", 1, 0x00040009) + struct.pack(">I", len(name)) + name.encode()

    text = struct.pack(">II", 16, 1) + struct.pack(">II", 0x00040009, 10) + b"echo pwned"
    language = struct.pack(">I", 6) + symbol("system") + struct.pack(">I", 2) + text + struct.pack(">I", 254)
    unbound = struct.pack(">I", 252)
    head = b"X\n" + struct.pack(">III", 3, 0x040300, 0x030500) + struct.pack(">I", 5) + b"UTF-8"
    return head + struct.pack(">I", 5) + unbound + language


def coreml_with_custom_layer() -> bytes:
    custom = field(10, "EvilLayer")
    layer = field(1, "custom") + field(500, custom)
    return field(1, 4) + field(2, field(1, field(1, "x"))) + field(500, field(1, layer))
