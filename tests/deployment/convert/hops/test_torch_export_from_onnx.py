from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from regraft.deployment.convert.hops.onnx_from_torch import OnnxFromTorch
from regraft.deployment.convert.hops.torch_export_from_onnx import TorchExportFromOnnx
from regraft.deployment.convert.interface import Source
from regraft.deployment.verify import verify
from regraft.errors import Unsupported
from regraft.package.formats import Port
from regraft.record.evidence import Verdict
from regraft.runtime.feeds import generated_feeds
from regraft.runtime.onnxruntime_model import OnnxRuntimeModel
from regraft.runtime.torch_export import TorchExportModel
from regraft.runtime.torch_module import TorchModel


class Inverted(nn.Module):
    """A MobileNet in small: a stem, depth-wise convolution, squeeze and excitation, a shortcut, upsampling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 3, 3, 2, 1, bias=False), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2))
        self.wide = nn.Conv2d(3, 12, 1)
        self.depth = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.gate = nn.Conv2d(12, 12, 1)
        self.narrow = nn.Conv2d(12, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        h = nn.functional.hardswish(self.depth(nn.functional.hardswish(self.wide(x))))
        h = h * nn.functional.hardsigmoid(self.gate(nn.functional.adaptive_avg_pool2d(h, 1)))
        return nn.functional.interpolate(x + self.narrow(h), scale_factor=2.0, mode="bilinear")


class Recurrent(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)[0]


class Decoder(nn.Module):
    """One step of a decoder: keys and values of the steps before come in, and go out longer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 16)
        self.query, self.key, self.value = (nn.Linear(16, 16) for _ in range(3))
        self.head = nn.Linear(16, 20)

    def forward(self, tokens: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> dict[str, torch.Tensor]:
        h = self.embed(tokens)  # (B, T, 16)
        keys = torch.cat([keys, self.key(h)], 1)  # (B, S + T, 16)
        values = torch.cat([values, self.value(h)], 1)
        scores = self.query(h) @ keys.transpose(1, 2) / 4
        past = keys.shape[1] - h.shape[1]
        later = torch.arange(keys.shape[1])[None, :] > past + torch.arange(h.shape[1])[:, None]
        h = torch.softmax(scores.masked_fill(later, -1e9), -1) @ values
        return {"logits": self.head(h), "keys_out": keys, "values_out": values}


IMAGE = [Port("x", "float32", ("batch", 3, 16, 16))]
STEPS = [Port("x", "float32", (5, "batch", 6))]
CACHED = [
    Port("tokens", "int64", ("batch", "tokens")),
    Port("keys", "float32", ("batch", "past", 16)),
    Port("values", "float32", ("batch", "past", 16)),
]
NETWORKS = {
    "mobilenet": (Inverted, IMAGE, {}),
    "lstm": (lambda: Recurrent(nn.LSTM(6, 8, bidirectional=True)), STEPS, {}),
    "gru": (lambda: Recurrent(nn.GRU(6, 8)), STEPS, {}),
    "decoder": (Decoder, CACHED, {"tokens": (0, 19)}),
}


def network_of(name: str) -> TorchModel:
    torch.manual_seed(0)
    build, inputs, ranges = NETWORKS[name]
    return TorchModel(build(), inputs=inputs, ranges=ranges, where=name)


def exported_onnx(model: TorchModel) -> OnnxRuntimeModel:
    feeds = [case.feeds for case in generated_feeds(model.signature)][:3]
    content = OnnxFromTorch().convert(Source(model, feeds)).files["model.onnx"]
    return OnnxRuntimeModel(content, where=model.where)


def program_of(model: OnnxRuntimeModel, feeds: dict[str, np.ndarray] | None = None) -> TorchExportModel:
    given = [case.feeds for case in generated_feeds(model.signature)][:4] if feeds is None else [feeds]
    hop = TorchExportFromOnnx().convert(Source(model, given, where=model.where))
    return TorchExportModel.from_program(torch.export.load(io.BytesIO(hop.files["model.pt2"])), where="program")


@pytest.mark.parametrize("name", NETWORKS)
def test_torch_to_onnx_and_back_is_the_same_network(name: str) -> None:
    model = network_of(name)
    evidence = verify(model, program_of(exported_onnx(model)), localise=False)
    assert evidence.verdict is Verdict.PASS, evidence.summary


def test_attention_comes_back_too(attention: TorchModel, attention_onnx: Path) -> None:
    program = program_of(OnnxRuntimeModel(attention_onnx.read_bytes(), where="attention"))
    assert verify(attention, program, localise=False).verdict is Verdict.PASS


def node(operator: str, inputs: list[str], outputs: list[str], **attributes: object) -> onnx.NodeProto:
    return helper.make_node(operator, inputs, outputs, name=f"the_{operator}", **attributes)


def graph_of(
    nodes: list[onnx.NodeProto],
    stored: dict[str, np.ndarray] | None = None,
    shape: tuple[int | str, ...] = ("batch", 4),
) -> OnnxRuntimeModel:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    constants = [onnx.numpy_helper.from_array(value, name) for name, value in (stored or {}).items()]
    graph = helper.make_graph(nodes, "small", [x], [y], constants)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return OnnxRuntimeModel(proto.SerializeToString(), where="small.onnx")


def branching(then: list[onnx.NodeProto], otherwise: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """One list of nodes, that ends in `z`, where the sum of `x` is above `zero`, else the other."""
    out = helper.make_tensor_value_info("z", TensorProto.FLOAT, None)
    graphs = [helper.make_graph(nodes, name, [], [out]) for nodes, name in ((then, "then"), (otherwise, "else"))]
    return [
        node("ReduceSum", ["x"], ["s"], keepdims=0),
        node("Greater", ["s", "zero"], ["c"]),
        node("If", ["c"], ["y"], then_branch=graphs[0], else_branch=graphs[1]),
    ]


def test_a_branch_that_data_decides_stays_in_the_program() -> None:
    nodes = branching([node("Mul", ["x", "w"], ["z"])], [node("Add", ["x", "w"], ["z"])])
    stored = {"w": np.arange(4, dtype=np.float32), "zero": np.zeros((), np.float32)}
    model = graph_of(nodes, stored)
    program = program_of(model)
    for sign in (-1, 1):
        feeds = {"x": np.full((3, 4), sign, np.float32)}
        np.testing.assert_array_equal(program(feeds)["y"], model(feeds)["y"])


def test_a_branch_that_wants_other_sizes_is_refused_when_it_is_taken() -> None:
    """As ONNX Runtime does; the silero VAD has one for 8 kHz and one for 16."""
    nodes = branching([node("MatMul", ["x", "four"], ["z"])], [node("MatMul", ["x", "five"], ["z"])])
    stored = {
        "four": np.ones((4, 2), np.float32), "five": np.ones((5, 2), np.float32), "zero": np.zeros((), np.float32),
    }  # fmt: skip
    model = graph_of(nodes, stored, ("batch", "columns"))
    feeds = {"x": np.arange(12, dtype=np.float32).reshape(3, 4)}
    program = program_of(model, feeds)
    np.testing.assert_array_equal(program(feeds)["y"], model(feeds)["y"])
    for one in (program, model):
        with pytest.raises(Unsupported):
            one({"x": -feeds["x"]})


def test_a_branch_may_return_a_part_of_what_it_was_given() -> None:
    then = [
        node("Shape", ["x"], ["shape"]),
        node("Sub", ["shape", "some"], ["end"]),
        node("Slice", ["x", "some", "end"], ["z"]),
    ]
    otherwise = [*(helper.make_node(n.op_type, n.input, n.output) for n in then[:2])]
    otherwise += [node("Neg", ["x"], ["negated"]), node("Slice", ["negated", "some", "end"], ["z"])]
    stored = {"some": np.array([0, 1]), "zero": np.zeros((), np.float32)}
    model = graph_of(branching(then, otherwise), stored, ("batch", 8))
    program = program_of(model, {"x": np.ones((2, 8), np.float32)})
    for sign in (-1, 1):
        feeds = {"x": sign * np.arange(40, dtype=np.float32).reshape(5, 8)}
        np.testing.assert_array_equal(program(feeds)["y"], model(feeds)["y"])


POOLS = {
    "maximum": ("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2]}),
    "average": ("AveragePool", {"kernel_shape": [3, 2], "strides": [3, 2]}),
    "average that counts padding": ("AveragePool", {"kernel_shape": [3, 2], "strides": [3, 2], "count_include_pad": 1}),
    "average, padded": ("AveragePool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 0, 0]}),
}


@pytest.mark.parametrize("name", POOLS)
def test_a_window_that_is_larger_than_the_picture_is_cut_off_as_in_onnx_runtime(name: str) -> None:
    operator, options = POOLS[name]
    model = graph_of([node(operator, ["x"], ["y"], **options)], shape=("batch", 2, "height", "width"))
    program = program_of(model)
    for sizes in ((1, 1), (2, 1), (3, 2), (5, 9)):
        feeds = {"x": np.random.default_rng(0).normal(size=(2, 2, *sizes)).astype(np.float32)}
        # a mean of nine numbers, in another order
        np.testing.assert_allclose(program(feeds)["y"], model(feeds)["y"], atol=3e-7, err_msg=str(sizes))


def test_a_window_that_lacks_more_than_a_stride_stays_refused() -> None:
    model = graph_of([node("MaxPool", ["x"], ["y"], kernel_shape=[3])], shape=("batch", 2, "length"))
    program = program_of(model)
    with pytest.raises(Unsupported):
        program({"x": np.zeros((1, 2, 2), np.float32)})
    assert model({"x": np.zeros((1, 2, 2), np.float32)})["y"].size == 0


def test_an_inner_size_of_one_does_not_limit_the_program() -> None:
    """The example is halved to a single element, which every operator that broadcasts could take for a fixed one."""
    nodes = [
        node("MaxPool", ["x"], ["half"], kernel_shape=[2, 2], strides=[2, 2]),
        node("ReduceMean", ["half"], ["mean"], axes=[2, 3]),
        node("Sub", ["half", "mean"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ("batch", 2, "height", "width"))
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "small", [x], [y])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model = OnnxRuntimeModel(proto.SerializeToString(), where="small.onnx")
    program = program_of(model, {"x": np.ones((2, 2, 2, 2), np.float32)})
    for sizes in ((2, 2), (8, 6), (40, 64)):
        feeds = {"x": np.random.default_rng(0).normal(size=(1, 2, *sizes)).astype(np.float32)}
        np.testing.assert_allclose(program(feeds)["y"], model(feeds)["y"], atol=1e-6)  # the mean, in another order


def test_a_picture_that_becomes_one_column_does_not_limit_the_program() -> None:
    """torch.export asks whether what a convolution returns is contiguous, and so whether a size of it is 1."""
    rng = np.random.default_rng(0)
    nodes = [
        node("Conv", ["x", "w"], ["halved"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Transpose", ["halved"], ["columns"], perm=[3, 0, 1, 2]),
        node("Reshape", ["columns", "flat"], ["steps"]),
        node("LSTM", ["steps", "wx", "wh"], ["states"], hidden_size=2),
        node("Squeeze", ["states", "one"], ["y"]),
    ]
    stored = {
        "w": rng.normal(size=(3, 1, 3, 3)).astype(np.float32), "wx": rng.normal(size=(1, 8, 6)).astype(np.float32),
        "wh": rng.normal(size=(1, 8, 2)).astype(np.float32), "flat": np.array([0, 1, 6]), "one": np.array([1]),
    }  # fmt: skip
    model = graph_of(nodes, stored, (1, 1, 4, "width"))
    program = program_of(model)
    for width in (1, 2, 3, 40):
        feeds = {"x": rng.normal(size=(1, 1, 4, width)).astype(np.float32)}
        np.testing.assert_allclose(program(feeds)["y"], model(feeds)["y"], atol=1e-6, err_msg=str(width))  # sums of 9


def test_shapes_that_the_graph_computes_stay_symbolic() -> None:
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Gather", ["shape", "zero"], ["rows"]),
        node("Concat", ["rows", "halves"], ["target"], axis=0),
        node("Reshape", ["x", "target"], ["y"]),
    ]
    stored = {"zero": np.array([0]), "halves": np.array([2, 2])}
    program = program_of(graph_of(nodes, stored))
    for rows in (1, 2, 7):
        assert program({"x": np.zeros((rows, 4), np.float32)})["y"].shape == (rows, 2, 2)


def test_every_operator_without_a_mapping_is_named_with_its_place() -> None:
    nodes = [
        node("Bernoulli", ["x"], ["a"]), node("RandomNormalLike", ["a"], ["y"]),
    ]  # fmt: skip
    with pytest.raises(Unsupported) as caught:
        program_of(graph_of(nodes))
    assert "the_RandomNormalLike" in caught.value.what
    assert "2 operators" in caught.value.what


def test_a_refusal_names_the_node() -> None:
    nodes = [
        node("Cast", ["x"], ["places"], to=TensorProto.INT64),
        node("Slice", ["places", "zero", "one"], ["row"]),
        node("Squeeze", ["row", "zero"], ["shape"]),
        node("Expand", ["x", "shape"], ["y"]),
    ]
    model = graph_of(nodes, {"zero": np.array([0]), "one": np.array([1])})
    feeds = [{"x": np.tile(np.array([1, 1, 3, 4], np.float32), (3, 1))}]
    with pytest.raises(Unsupported, match=r"the_Expand.*shape is computed from data"):
        TorchExportFromOnnx().convert(Source(model, feeds))


@pytest.mark.parametrize(
    ("package", "version", "file"),
    [
        ("faster-whisper", "1.2.1", "faster_whisper/assets/silero_vad_v6.onnx"),
    ],
)
def test_published_networks_are_the_same_in_torch(asset, package: str, version: str, file: str) -> None:
    model = OnnxRuntimeModel((asset("pypi", package, version) / file).read_bytes(), where=file)
    evidence = verify(model, program_of(model), localise=False)
    assert evidence.verdict is Verdict.PASS, evidence.summary
