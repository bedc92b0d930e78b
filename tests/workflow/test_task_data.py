"""Labelled tables for verify: which rows, and which column of the scores each class is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from regraft.adaptation.data import DataSpec, load_data
from regraft.adaptation.splits import split
from regraft.errors import UsageError
from regraft.runtime.image import ImagePreprocessing, preprocessor_config
from regraft.runtime.pipeline import PIXELS
from regraft.workflow.task_data import task_data


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A graph that nobody runs here."""
    made = tmp_path / "package"
    made.mkdir()
    x = helper.make_tensor_value_info(PIXELS, TensorProto.FLOAT, [None])
    node = helper.make_node("Identity", [PIXELS], ["y"])
    graph = helper.make_graph([node], "g", [x], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None])])
    onnx.save(helper.make_model(graph, ir_version=8), made / "model.onnx")
    return made


@pytest.fixture
def reviews(tmp_path: Path) -> DataSpec:
    rows = [f"review number {n},{('bad', 'good', 'fair')[n % 3]}" for n in range(120)]
    (tmp_path / "reviews.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
    return DataSpec(ref=str(tmp_path / "reviews.csv"), learn=40, held_out=30)


def labels_of(package: Path, names: list[str]) -> None:
    (package / "config.json").write_text(json.dumps({"id2label": dict(enumerate(names))}))


def test_columns_are_those_of_the_models_own_class_names(package, reviews):
    labels_of(package, ["Good", "Fair", "Bad"])
    task = task_data(package, reviews, margin=0.01)
    labelled = load_data(reviews)
    rows = split(labelled, seed=0).held_out[:30]
    assert list(task.rows) == [labelled.texts[row] for row in rows]
    names = [labelled.label_names[number] for number in labelled.labels[rows]]
    assert [["good", "fair", "bad"][column] for column in task.labels] == names
    assert task.note == ""
    assert task.materials


def test_an_order_that_was_supposed_is_said(package, reviews):
    task = task_data(package, reviews, margin=0.01)
    assert task.note == "columns were taken for bad, fair, good, in this order"


def test_a_class_that_the_model_lacks_is_refused(package, reviews):
    labels_of(package, ["positive", "negative"])
    with pytest.raises(UsageError, match="no class 'bad'; it has positive, negative") as raised:
        task_data(package, reviews, margin=0.01)
    assert "--name-label" in raised.value.hint


def test_pictures_are_prepared_as_the_package_says(package, tmp_path):
    rows = [",".join([*["7"] * 14, str(n), "255", str(n % 2)]) for n in range(40)]
    (tmp_path / "pixels.csv").write_text("\n".join(rows) + "\n")
    data = DataSpec(ref=str(tmp_path / "pixels.csv"), learn=20, held_out=10)
    with pytest.raises(UsageError, match="does not say how pictures are prepared"):
        task_data(package, data, margin=0.01)
    settings = ImagePreprocessing(4, 4, channels="L", resample="nearest", mean=(0.5,), std=(0.5,))
    (package / "preprocessor_config.json").write_bytes(preprocessor_config(settings))
    task = task_data(package, data, margin=0.01)
    assert isinstance(task.rows, dict)
    assert task.rows[PIXELS].shape == (10, 1, 4, 4)
    assert task.note == "labels were taken for numbers of columns"
    assert set(np.unique(task.labels)) == {0, 1}


@pytest.mark.parametrize(
    ("labels", "x", "message"),
    [
        (None, np.zeros((3, 2)), r"no array of numbers of classes called 'labels'; it holds x"),
        (np.array([0.0, 1.0, 1.0]), np.zeros((3, 2)), r"'labels' is float64 of shape \(3,\)"),
        (np.eye(3, dtype=np.int64), np.zeros((3, 2)), r"'labels' is int64 of shape \(3, 3\)"),
        (np.zeros(0, np.int64), np.zeros((0, 2)), "'labels' is empty"),
        (np.array([0, 1]), np.zeros((3, 2)), "2 labels for 3 rows of x"),
        (np.array([0, 1, 1]), np.array([[0, 1], [2, np.nan], [3, 4]]), "'x' holds NaN"),
    ],
    ids=["missing", "float", "one column a class", "empty", "too few", "nan"],
)
def test_what_is_wrong_with_a_file_of_arrays_is_said(labels, x, message, package, tmp_path):
    path = tmp_path / "rows.npz"
    np.savez(path, **({"x": x} if labels is None else {"x": x, "labels": labels}))
    with pytest.raises(UsageError, match=message) as raised:
        task_data(package, DataSpec(ref=str(path)), margin=0.01)
    assert raised.value.where == str(path)
