from __future__ import annotations

import gc

import ml_dtypes
import numpy as np
import pytest

from regraft.compare import recall
from regraft.compare.recall import recalled, recalling
from regraft.errors import BadFeeds
from regraft.package.formats import Port
from regraft.runtime.interface import Signature


class Counted:
    """Doubles `x`, and counts how often it was asked."""

    def __init__(self, dtype: str = "float32") -> None:
        self.signature = Signature((Port("x", dtype),), ())
        self.asked = 0

    def __call__(self, feeds):
        self.asked += 1
        if feeds["x"].size == 0:
            raise BadFeeds("nothing to double")
        return {"y": np.asarray(feeds["x"]) * 2}


def test_a_model_is_asked_once_for_equal_feeds():
    model, other = Counted(), Counted()
    with recalling():
        for _ in range(3):
            assert recalled(model, {"x": np.arange(3, dtype=np.float32)})["y"].tolist() == [0, 2, 4]
        recalled(other, {"x": np.arange(3, dtype=np.float32)})
    assert (model.asked, other.asked) == (1, 1)


@pytest.mark.parametrize(
    "value",
    [
        np.arange(4, dtype=np.float32).reshape(2, 2),
        np.arange(4, dtype=np.float32).reshape(4, 1),
        np.arange(4, dtype=np.float64),
        np.array([0, 1, 2, 4], np.float32),
        np.arange(8, dtype=np.float32)[::2],
        np.arange(4).astype(ml_dtypes.bfloat16),
    ],
)
def test_other_values_shapes_and_dtypes_are_other_feeds(value):
    model = Counted()
    with recalling():
        recalled(model, {"x": np.arange(4, dtype=np.float32)})
        recalled(model, {"x": value})
    assert model.asked == 2


def test_texts_are_told_apart():
    model = Counted("string")
    with recalling():
        for text in ("a", "b", "a", "\udcff"):
            recalled(model, {"x": np.array([text], dtype=object)})
    assert model.asked == 3


def test_outside_nothing_is_kept_and_inside_one_memory_serves():
    model, feeds = Counted(), {"x": np.ones(2, np.float32)}
    recalled(model, feeds)
    recalled(model, feeds)
    assert model.asked == 2
    with recalling():
        with recalling():
            recalled(model, feeds)
        recalled(model, feeds)
    recalled(model, feeds)
    assert model.asked == 4


def test_a_refusal_is_not_kept():
    model, feeds = Counted(), {"x": np.ones(0, np.float32)}
    with recalling():
        for _ in range(2):
            with pytest.raises(BadFeeds):
                recalled(model, feeds)
    assert model.asked == 2


def test_what_is_large_is_not_kept_and_a_model_that_is_gone_is_forgotten(monkeypatch):
    monkeypatch.setattr(recall, "_MAX_BYTES", 100)
    small, large = {"x": np.ones(10, np.float32)}, {"x": np.ones(100, np.float32)}
    model = Counted()
    with recalling():
        for feeds in (small, small, large, large):
            recalled(model, feeds)
        assert model.asked == 3
        memory = recall._memory.get()
        assert memory is not None
        assert len(memory.outputs) == 1
        del model
        gc.collect()
        assert len(memory.outputs) == 0


class Accumulating(Counted):
    """Adds to a state, and returns that very state."""

    def __init__(self) -> None:
        super().__init__()
        self.state = np.zeros(4, np.float32)

    def __call__(self, feeds):
        self.state += feeds["x"]
        return {"y": self.state[:]}


def test_what_was_said_stays_when_the_model_writes_over_it():
    model, feeds = Accumulating(), {"x": np.ones(4, np.float32)}
    with recalling():
        first = recalled(model, feeds)["y"]
        model(feeds)
        assert first.tolist() == [1, 1, 1, 1]
        assert recalled(model, feeds)["y"].tolist() == [1, 1, 1, 1]
