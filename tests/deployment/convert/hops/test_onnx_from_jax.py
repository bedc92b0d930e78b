"""Functions of JAX, and modules of flax and equinox, as ONNX. jax2onnx takes ten seconds to import its rules, once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from regraft.deployment.convert import convert
from regraft.deployment.convert.hops.onnx_from_jax import OnnxFromJax
from regraft.deployment.convert.hops.pooled_axes import drop_idle_axes
from regraft.deployment.convert.interface import Hop, Source
from regraft.deployment.verify import verify
from regraft.errors import Unsupported
from regraft.package.formats import Port
from regraft.record.evidence import Verdict
from regraft.runtime.feeds import generated_feeds
from regraft.runtime.jax_model import JaxModel, jax_model
from regraft.runtime.onnxruntime_model import OnnxRuntimeModel
from regraft.runtime.torch_module import TorchModel
from regraft.workflow.load import load

pytest.importorskip("jax2onnx")


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "runtime"))


def converted(model: JaxModel) -> Hop:
    feeds = [case.feeds for case in generated_feeds(model.signature)][:3]
    return OnnxFromJax().convert(Source(model, feeds, where=model.where))


def test_a_function_becomes_a_package_with_its_names_and_a_free_batch(tmp_path: Path) -> None:
    made = convert("py:jax_factories:encoder", to="onnx", out=tmp_path / "made")
    assert made.evidence.verdict is Verdict.PASS, made.evidence.summary
    assert made.evidence.parameters["route"] == ["onnx_from_jax"]
    product = load(tmp_path / "made")
    assert [port.shape for port in product.signature.inputs] == [("batch", 5), ("batch", 5)]
    assert [port.name for port in product.signature.inputs] == ["ids", "mask"]
    assert [port.name for port in product.signature.outputs] == ["logits", "pooled"]
    # the same package beside a network with the other GELU: what proved the conversion tells the two apart
    assert verify("py:jax_factories:tanh_encoder", tmp_path / "made", localise=False).verdict is Verdict.FAIL


@pytest.mark.parametrize("name", ["module", "loops", "convolution"])
def test_modules_loops_and_windows_compute_the_same(name: str) -> None:
    model = load(f"py:jax_factories:{name}")
    product = OnnxRuntimeModel(converted(model).files["model.onnx"])
    feeds = {
        port.name: np.random.default_rng(0).normal(size=[3, *port.shape[1:]]).astype("float32")
        for port in model.signature.inputs
    }
    for (name_here, ours), theirs in zip(product(feeds).items(), model(feeds).values(), strict=True):
        # some dozens of float32 roundings of numbers near one, summed in another order
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6, err_msg=name_here)


def test_a_module_of_flax_is_converted() -> None:
    nnx = pytest.importorskip("flax.nnx")

    class Small(nnx.Module):
        def __init__(self, rngs: object) -> None:
            self.conv = nnx.Conv(2, 4, (3, 3), rngs=rngs)
            self.norm = nnx.BatchNorm(4, use_running_average=True, rngs=rngs)
            self.head = nnx.Linear(4, 3, rngs=rngs)

        def __call__(self, x: object) -> object:
            return self.head(nnx.relu(self.norm(self.conv(x))).mean((1, 2)))

    model = jax_model(Small(nnx.Rngs(0)), {"image": np.zeros((2, 6, 6, 2), "float32")})
    assert "conv.kernel" in model.weights
    product = OnnxRuntimeModel(converted(model).files["model.onnx"])
    assert verify(model, product, localise=False).verdict is Verdict.PASS


def test_what_decides_by_its_size_is_exported_at_one_size_and_says_so() -> None:
    def halved(feeds: dict[str, object]) -> object:
        return feeds["x"] / 2 if feeds["x"].shape[0] > 1 else feeds["x"]  # type: ignore[attr-defined]

    model = JaxModel(halved, inputs=[Port("x", "float32", ("batch", 4))], where="halved")
    hop = converted(model)
    assert "sizes are fixed" in " ".join(hop.notes)
    (port,) = OnnxRuntimeModel(hop.files["model.onnx"]).signature.inputs
    assert isinstance(port.shape[0], int)


@pytest.mark.parametrize(("name", "size"), [("my-input", None), ("x.0", None), ("max", "max"), ("x", "2 n")])
def test_names_may_be_any_text_and_sizes_stay_free(name: str, size: str | None) -> None:
    port = Port(name, "float32", (None, size, 3))
    product = OnnxRuntimeModel(converted(JaxModel(lambda feeds: feeds[name] * 2, inputs=[port])).files["model.onnx"])
    assert [port.shape for port in product.signature.inputs] == [("batch", size or f"{name}_1", 3)]
    x = np.ones((5, 7, 3), np.float32)
    (found,) = product({name: x}).values()
    np.testing.assert_array_equal(found, x * 2)


def test_first_axes_without_a_name_are_one_where_the_function_needs_it() -> None:
    ports = [Port("a", "float32", (None, 3)), Port("b", "float32", (None, 3))]
    cases = [{"a": np.ones((2, 3), np.float32), "b": np.ones((4, 3), np.float32)}]

    def shapes(function, cases) -> list[object]:
        hop = OnnxFromJax().convert(Source(JaxModel(function, inputs=ports), cases, where="two"))
        product = OnnxRuntimeModel(hop.files["model.onnx"])
        product({"a": np.ones((6, 3), np.float32), "b": np.ones((6, 3), np.float32)})
        return [port.shape[0] for port in product.signature.inputs if port.shape]

    assert shapes(lambda feeds: feeds["a"] @ feeds["b"].T, cases) == ["a_0", "b_0"]
    assert shapes(lambda feeds: feeds["a"] + feeds["b"], [{"a": cases[0]["a"], "b": cases[0]["a"]}]) == ["batch"] * 2


def test_a_primitive_without_a_counterpart_is_named() -> None:
    with pytest.raises(Unsupported, match="reduce_window_max"):
        converted(load("py:jax_factories:half"))
    torch = pytest.importorskip("torch")
    other = TorchModel(torch.nn.Linear(2, 2), inputs=[Port("x", "float32", ("batch", 2))], where="linear")
    with pytest.raises(Unsupported, match="only functions of JAX"):
        OnnxFromJax().convert(Source(other, (), where="linear"))


def _pooled(kernel: list[int], pads: list[int] | None = None) -> onnx.ModelProto:
    """A window over all four axes behind two new ones, as jax2onnx writes it."""
    axes = [numpy_helper.from_array(np.array(value), name) for name, value in (("a", [0]), ("b", [1]), ("c", [0, 1]))]
    settings = {"kernel_shape": kernel, "strides": kernel} | ({"pads": pads} if pads else {})
    nodes = [
        helper.make_node("Unsqueeze", ["x", "a"], ["one"]),
        helper.make_node("Unsqueeze", ["one", "b"], ["two"]),
        helper.make_node("MaxPool", ["two"], ["pool"], "pool", **settings),
        helper.make_node("Squeeze", ["pool", "c"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", None, None, None]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], axes)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@pytest.mark.parametrize(
    ("kernel", "pads", "shape"),
    [([1, 2, 3, 1], None, (2, 8, 9, 3)), ([1, 1, 2, 2], None, (2, 3, 8, 6)),
     ([1, 2, 2, 1], [0, 1, 0, 0, 0, 1, 1, 0], (1, 6, 4, 2))],
)  # fmt: skip
def test_windows_over_more_axes_than_kernels_have_are_narrowed(kernel, pads, shape) -> None:
    proto = _pooled(kernel, pads)
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    with pytest.raises(Unsupported, match="pooling size"):
        OnnxRuntimeModel(proto.SerializeToString())({"x": x})
    drop_idle_axes(proto)
    onnx.checker.check_model(proto)
    assert [node.op_type for node in proto.graph.node] == ["Transpose", "MaxPool", "Transpose"]
    (y,) = OnnxRuntimeModel(proto.SerializeToString())({"x": x}).values()
    before, after = (pads or [0] * 8)[:4], (pads or [0] * 8)[4:]
    padded = np.pad(x, list(zip(before, after, strict=True)), constant_values=-np.inf)
    blocks = padded
    for axis, width in enumerate(kernel):
        blocks = np.stack(
            [blocks.take(range(i, blocks.shape[axis] // width * width, width), axis) for i in range(width)]
        )
        blocks = blocks.max(0)
    np.testing.assert_array_equal(y, blocks)  # a maximum rounds nothing


def test_two_windows_over_one_tensor_are_narrowed_each() -> None:
    proto = _pooled([1, 2, 2, 1])
    second = _pooled([1, 3, 3, 1]).graph.node
    for node in second:
        for names in (node.input, node.output):
            names[:] = [name if name in ("x", "a", "b", "c") else f"{name}2" for name in names]
        node.name = f"{node.name}2" if node.name else ""
    # both made ready before either is computed, as an exporter may order them
    proto.graph.node.insert(0, second[0])
    proto.graph.node.insert(1, second[1])
    proto.graph.node.extend(second[2:])
    proto.graph.output.add(name="y2").type.CopyFrom(proto.graph.output[0].type)
    drop_idle_axes(proto)
    onnx.checker.check_model(proto)
    assert [node.op_type for node in proto.graph.node] == ["Transpose", "MaxPool", "Transpose"] * 2
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 3)).astype("float32")
    found = OnnxRuntimeModel(proto.SerializeToString())({"x": x})
    for name, width in (("y", 2), ("y2", 3)):
        blocks = x.reshape(2, 6 // width, width, 6 // width, width, 3).max((2, 4))
        np.testing.assert_array_equal(found[name], blocks)


def test_a_window_that_needs_all_its_axes_stays() -> None:
    proto = _pooled([2, 2, 2, 2])
    before = proto.SerializeToString()
    drop_idle_axes(proto)
    assert proto.SerializeToString() == before


def test_a_network_of_keras_in_memory_is_converted() -> None:
    from regraft.deployment.convert.hops.onnx_from_jax import OnnxFromKerasInJax
    from regraft.runtime.keras_model import KerasModel, import_keras

    keras = import_keras()
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 6, 2), name="image")
    hidden = keras.layers.MaxPooling2D(2)(keras.layers.Conv2D(4, 3, padding="same", activation="relu")(image))
    scores = keras.layers.Dense(3, name="scores")(keras.layers.Flatten()(hidden))
    model = KerasModel(keras.Model(image, scores), where="keras")
    feeds = [{"image": np.random.default_rng(n).normal(size=(n, 8, 6, 2)).astype("float32")} for n in (2, 1, 5)]
    product = OnnxRuntimeModel(OnnxFromKerasInJax().convert(Source(model, feeds, where="keras")).files["model.onnx"])
    assert [(port.name, port.shape) for port in product.signature.inputs] == [("image", ("batch", 8, 6, 2))]
    for case in feeds:
        (ours,), (theirs,) = product(case).values(), model(case).values()
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)  # dozens of roundings, in another order
    assert list(product(case)) == list(model(case))
    with pytest.raises(Unsupported, match="only networks of Keras"):
        OnnxFromKerasInJax().convert(Source(product, feeds, where="onnx"))
