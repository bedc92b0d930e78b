"""Held-out texts and pictures: rows that nothing was learnt from, and none where there are none."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from regraft.adaptation.data import DataSpec, load_data
from regraft.adaptation.splits import split
from regraft.runtime.image import ImagePreprocessing, preprocessor_config
from regraft.workflow.held_out import held_out_pictures, held_out_texts


@pytest.fixture
def reviews(tmp_path: Path) -> DataSpec:
    rows = [f"review number {n},{'good' if n % 2 else 'bad'}" for n in range(100)]
    (tmp_path / "reviews.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
    return DataSpec(ref=str(tmp_path / "reviews.csv"), learn=40, held_out=50)


@pytest.mark.parametrize(("count", "got"), [(1, 1), (7, 7), (64, 50)])
def test_they_are_held_out_and_spread_over_all_of_them(reviews: DataSpec, count: int, got: int) -> None:
    texts = held_out_texts(reviews, count=count, seed=3)
    labelled = load_data(reviews)
    rows = split(labelled, seed=3)
    held_out = [labelled.texts[i] for i in rows.held_out]
    assert texts is not None
    assert len(texts) == got
    places = [held_out.index(text) for text in texts]
    assert places[0] == 0
    assert len({b - a for a, b in itertools.pairwise(places)}) <= 1
    assert not {labelled.texts[i] for i in rows.learn} & {*texts}


def test_too_few_rows_give_no_texts(tmp_path: Path) -> None:
    (tmp_path / "two.csv").write_text("text,label\ngood,1\nbad,0\n")
    assert held_out_texts(DataSpec(ref=str(tmp_path / "two.csv")), count=64) is None


@pytest.fixture
def pixels(tmp_path: Path) -> DataSpec:
    rows = [",".join([*["7"] * 14, str(n), "255", str(n % 2)]) for n in range(40)]
    (tmp_path / "pixels.csv").write_text("\n".join(rows) + "\n")
    return DataSpec(ref=str(tmp_path / "pixels.csv"), learn=20, held_out=10)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """What of an image package is looked at: its weights are not loaded."""
    folder = tmp_path / "adapted"
    folder.mkdir()
    value = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 1, 4, 4])
    graph = helper.make_graph([helper.make_node("Identity", ["pixels"], ["y"])], "g", [value], [])
    onnx.save(helper.make_model(graph), folder / "model.onnx")
    prepared = ImagePreprocessing(4, 4, channels="L", resample="nearest", mean=(0.5,), std=(0.5,))
    (folder / "preprocessor_config.json").write_bytes(preprocessor_config(prepared))
    return folder


def test_pictures_are_prepared_as_the_package_says(pixels: DataSpec, package: Path) -> None:
    (feeds,) = held_out_pictures(pixels, str(package), count=5, seed=3)  # type: ignore[misc]
    labelled = load_data(pixels)
    held_out = split(labelled, seed=3).held_out
    assert feeds["pixels"].shape == (5, 1, 4, 4)
    assert labelled.images is not None
    expected = labelled.images[held_out[::2]][:, None] * 2 - 1
    np.testing.assert_allclose(feeds["pixels"], expected, atol=1e-6)  # a few float32 roundings of numbers below 1


def test_images_are_no_texts_and_texts_no_pictures(pixels: DataSpec, reviews: DataSpec, package: Path) -> None:
    assert held_out_texts(pixels, count=64) is None
    assert held_out_pictures(reviews, str(package), count=64) is None
