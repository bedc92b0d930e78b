"""Held-out texts: rows that nothing was learnt from, and none where there are none."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from regraft.adaptation.data import DataSpec, load_data
from regraft.adaptation.splits import split
from regraft.workflow.held_out import held_out_texts


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


def test_images_are_no_texts(tmp_path: Path) -> None:
    rows = [",".join(["7"] * 15 + [str(n), str(n % 2)]) for n in range(40)]
    (tmp_path / "pixels.csv").write_text("\n".join(rows) + "\n")
    assert held_out_texts(DataSpec(ref=str(tmp_path / "pixels.csv"), learn=20, held_out=10), count=64) is None
