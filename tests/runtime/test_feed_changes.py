from __future__ import annotations

import numpy as np
import pytest

from regraft.package.formats import Port
from regraft.runtime.feed_changes import FeedChanger
from regraft.runtime.feeds import FeedCase
from regraft.runtime.interface import Signature

TRIES = 400
SIGNATURE = Signature(
    (
        Port("input_ids", "int64", ("batch", "tokens")),
        Port("attention_mask", "int64", ("batch", "tokens")),
        Port("pixels", "float32", ("batch", 3)),
        Port("rate", "int64", ()),
        Port("flag", "bool", ("batch",)),
        Port("name", "string", ("batch",)),
    ),
    ranges={"input_ids": (0, 99)},
)


def case(batch: int, tokens: int, rate: int) -> FeedCase:
    random = np.random.default_rng(batch)
    feeds = {
        "input_ids": random.integers(10, 20, (batch, tokens)),
        "attention_mask": np.ones((batch, tokens), dtype=np.int64),
        "pixels": random.uniform(0.2, 0.7, (batch, 3)).astype(np.float32),
        "rate": np.array(rate, dtype=np.int64),
        "flag": random.integers(0, 2, batch).astype(bool),
        "name": np.array(["a"] * batch, dtype=object),
    }
    return FeedCase(f"{batch}", feeds, "data")


CASES = [case(2, 5, 8000), case(4, 9, 16000)]


@pytest.fixture(scope="module")
def made() -> list[dict[str, np.ndarray]]:
    changer, random = FeedChanger(SIGNATURE, CASES), np.random.default_rng(0)
    found = [dict(CASES[0].feeds)]
    for _ in range(TRIES):
        start = found[int(random.integers(len(found)))]
        found += [changer.changed(start, random), changer.neighbour(start, random)]
    return found


def test_values_stay_where_the_data_or_the_signature_has_them(made: list[dict[str, np.ndarray]]) -> None:
    least = min(one.feeds["pixels"].min() for one in CASES)
    most = max(one.feeds["pixels"].max() for one in CASES)
    for feeds in made:
        assert ((feeds["pixels"] >= least) & (feeds["pixels"] <= most)).all()
        assert ((feeds["input_ids"] >= 0) & (feeds["input_ids"] <= 99)).all()
        assert feeds["rate"].item() in (8000, 16000)
        assert (feeds["name"] == "a").all()
    assert min(feeds["pixels"].min() for feeds in made) == least
    assert max(feeds["input_ids"].max() for feeds in made) > 90  # legal, though no case has it


def test_masks_stay_masks(made: list[dict[str, np.ndarray]]) -> None:
    lengths = set()
    for feeds in made:
        mask = feeds["attention_mask"]
        assert set(np.unique(mask)) <= {0, 1}
        assert (mask[:, 0] == 1).all()
        lengths |= set(mask.sum(axis=1).tolist())
    assert len(lengths) >= 5


def test_shapes_agree_and_lie_between_those_of_the_cases(made: list[dict[str, np.ndarray]]) -> None:
    sizes = set()
    for feeds in made:
        batch, tokens = feeds["input_ids"].shape
        assert feeds["attention_mask"].shape == (batch, tokens)
        assert feeds["pixels"].shape == (batch, 3)
        assert feeds["flag"].shape == feeds["name"].shape == (batch,)
        assert 2 <= batch <= 4
        assert 5 <= tokens <= 9
        sizes.add((batch, tokens))
    assert len(sizes) >= 8


def test_dtypes_stay_and_the_given_feeds_are_not_touched(made: list[dict[str, np.ndarray]]) -> None:
    for feeds in made:
        assert {name: value.dtype for name, value in feeds.items()} == {
            name: value.dtype for name, value in CASES[0].feeds.items()
        }
    for kept, again in zip(CASES, (case(2, 5, 8000), case(4, 9, 16000)), strict=True):
        for name, value in again.feeds.items():
            np.testing.assert_array_equal(kept.feeds[name], value)


def test_a_neighbour_is_near(made: list[dict[str, np.ndarray]]) -> None:
    near = FeedChanger(SIGNATURE, CASES).neighbour(CASES[1].feeds, np.random.default_rng(3))
    # A thousandth of the range, which is at most 0.5, times a normal number: five of them are 0.0025.
    assert 0 < np.abs(near["pixels"] - CASES[1].feeds["pixels"]).max() < 2.5e-3
    assert 1 <= (near["input_ids"] != CASES[1].feeds["input_ids"]).sum() <= 4  # 2 % of 36 tokens, and one at least
    np.testing.assert_array_equal(near["attention_mask"], CASES[1].feeds["attention_mask"])
