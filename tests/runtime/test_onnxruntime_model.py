from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from regraft.errors import Damaged, PermitRefused, Unsupported
from regraft.runtime.onnxruntime_model import OnnxRuntimeModel
from regraft.workflow.load import load


def _graph(*, dtype: int = TensorProto.FLOAT) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    kind = helper.tensor_dtype_to_np_dtype(dtype)
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["a"], name="first"),
        helper.make_node("Relu", ["a"], ["b"], name="act"),
        helper.make_node("MatMul", ["b", "w2"], ["c"], name="second"),
        helper.make_node("Add", ["c", "x"], ["y"], name="skip"),
    ]
    weights = [numpy_helper.from_array(rng.standard_normal((4, 4)).astype(kind), name) for name in ("w1", "w2")]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", dtype, ["batch", 4])],
        [helper.make_tensor_value_info("y", dtype, ["batch", 4])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.fixture
def feeds() -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(1).standard_normal((3, 4)).astype("float32")}


def test_every_node_output_is_a_tap_with_its_operator(feeds):
    model = OnnxRuntimeModel(_graph().SerializeToString())
    taps = list(model.trace(feeds))
    assert [(tap.name, tap.operator, tap.scope) for tap in taps] == [
        ("a", "MatMul", "first"),
        ("b", "Relu", "act"),
        ("c", "MatMul", "second"),
        ("y", "Add", "skip"),
    ]
    w1 = numpy_helper.to_array(_graph().graph.initializer[0])
    np.testing.assert_allclose(taps[0].value, feeds["x"] @ w1, rtol=1e-6, atol=1e-6)  # float32, four terms
    assert [tap.name for tap in model.trace(feeds, taps=["c"])] == ["c"]


def test_segments_reproduce_the_taps_they_were_cut_at_exactly(feeds):
    model = OnnxRuntimeModel(_graph().SerializeToString())
    taps = {tap.name: tap.value for tap in model.trace(feeds)}
    segment = model.segment(["b", "x"], ["y"])
    assert [port.name for port in segment.signature.inputs] == ["b", "x"]
    assert np.array_equal(segment({"b": taps["b"], "x": feeds["x"]})["y"], taps["y"])
    with pytest.raises(Unsupported, match="also need 'x'"):
        model.segment(["b"], ["y"])
    with pytest.raises(Unsupported, match="no such tensor"):
        model.segment(["nope"], ["y"])


def test_a_reduced_trace_is_made_in_passes_below_a_budget(feeds, statistics):
    content = _graph().SerializeToString()
    whole = {tap.name: statistics(tap.value) for tap in OnnxRuntimeModel(content).trace(feeds)}
    small = OnnxRuntimeModel(content, trace_bytes=100)  # two taps of 3 × 4 float32
    reduced = {tap.name: tap.kept for tap in small.trace(feeds, reduce=statistics)}
    assert reduced == whole
    assert len(small._traced) == 2


def test_taps_agree_with_torch(tiny_bert, token_feeds):
    feeds = token_feeds(3, 7, vocabulary=99)
    eager = load(tiny_bert / "torch")
    converted = load(tiny_bert / "onnx")
    by_shape = [tap.value for tap in converted.trace(feeds) if tap.value.dtype == np.float32]
    norms = [tap for tap in eager.trace(feeds) if tap.operator == "LayerNorm"]
    assert len(norms) == 5
    for norm in norms:
        near = min(np.abs(value - norm.value).max() for value in by_shape if value.shape == norm.value.shape)
        assert near < 2e-6, norm.name  # layer norms are of order 1: some ten roundings of 6e-8


def test_vocabulary_and_precision_are_read_off_the_graph(tiny_bert):
    model = load(tiny_bert / "onnx")
    assert model.signature.ranges["input_ids"] == (0, 98)
    assert model.effective_precision == "float32"
    assert OnnxRuntimeModel(_graph(dtype=TensorProto.FLOAT16).SerializeToString()).effective_precision == "float16"


def test_half_weights_that_are_cast_before_use_count_as_float32(silero):
    assert load(silero + "silero_vad_half.onnx").effective_precision == "float32"


def test_what_cannot_be_honoured_is_refused(opennsfw):
    with pytest.raises(Unsupported, match="cannot be told bfloat16") as caught:
        load(opennsfw, runtime="onnxruntime", precision="bfloat16")
    assert caught.value.hint == "", "no converter makes such a form"
    with pytest.raises(Unsupported) as caught:
        load(opennsfw, runtime="onnxruntime", precision="float16")
    assert caught.value.hint == "convert it first: regraft convert REF --to onnx-float16"
    with pytest.raises(Unsupported, match="int8"):
        load(opennsfw, runtime="onnxruntime").cast("int8")


def test_external_data_comes_from_the_package_alone(tmp_path, feeds):
    folder = tmp_path / "m"
    folder.mkdir()
    onnx.save(_graph(), folder / "model.onnx", save_as_external_data=True, location="model.data", size_threshold=0)
    inside = load(folder)(feeds)["y"]
    assert np.array_equal(inside, OnnxRuntimeModel(_graph().SerializeToString())(feeds)["y"])
    (tmp_path / "secret").write_bytes(bytes(64))
    content = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(content.replace(b"model.data", b"../secret\x00"))
    with pytest.raises((Damaged, PermitRefused), match=r"no file of the package|\.\./secret"):
        load(folder)
    (folder / "model.onnx").write_bytes(content)
    (folder / "model.data").write_bytes(b"\0" * 16)
    with pytest.raises(Damaged, match="outside of"):
        load(folder)


@pytest.mark.parametrize("keep", [0, 10, 100, 200])
def test_a_truncated_file_is_one_clear_error(tmp_path, keep):
    from regraft.errors import RegraftError

    (tmp_path / "model.onnx").write_bytes(_graph().SerializeToString()[:keep])
    with pytest.raises(RegraftError) as raised:
        load(tmp_path)
    assert "regraft inspect" in raised.value.hint


def test_silero_is_the_same_network_in_torchscript_and_onnx(silero):
    """Published agreement on real speech is 2e-6; the onnx wants 64 samples of context in front, zeros at the start."""
    program = load(silero + "silero_vad.jit")
    graph = load(silero + "silero_vad.onnx")
    sound = (0.1 * np.random.default_rng(0).standard_normal((1, 512))).astype("float32")
    padded = np.concatenate([np.zeros((1, 64), dtype=np.float32), sound], axis=1)
    rate = np.array(16000, dtype=np.int64)
    (left,) = program({"x": sound, "sr": rate}).values()
    right = graph({"input": padded, "state": np.zeros((2, 1, 128), dtype=np.float32), "sr": rate})["output"]
    assert np.abs(left - right).max() < 5e-6
