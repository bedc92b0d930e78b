from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from regraft.errors import BadFeeds, NotFound, Unsupported
from regraft.package.package import open_package
from regraft.runtime.dump_trace import Dump
from regraft.runtime.trace_model import TraceModel
from regraft.workflow.load import load

X = np.random.default_rng(0).standard_normal((2, 3)).astype("float32")


@pytest.fixture
def model(tmp_path: Path) -> TraceModel:
    dump = Dump(str(tmp_path / "run"), model="net", framework="other")
    dump.next_pass("first")
    dump.feed("x", X)
    dump.tap("a", 2 * X, "Mul")
    dump.output("y", 2 * X + 1)
    dump.next_pass("second")
    dump.feed("x", np.full((2, 3), np.nan, "float32"))
    dump.tap("a", X, "Mul")
    dump.output("y", X + 1)
    dump.next_pass("first", "float64")
    dump.feed("x", X.astype("float64"))
    dump.tap("a", 2 * X.astype("float64"), "Mul")
    dump.output("y", 2 * X.astype("float64") + 1)
    dump.close()
    return load(f"trace:{tmp_path / 'run'}")


def test_it_answers_what_was_recorded_and_nothing_else(model):
    assert np.array_equal(model({"x": X})["y"], 2 * X + 1)
    assert np.array_equal(model({"x": np.full((2, 3), np.nan, "float32")})["y"], X + 1)
    nudged = X.copy()
    nudged[1, 2] = np.nextafter(nudged[1, 2], np.float32(9))
    for other in (nudged, X[:1], X.astype("float64")):
        with pytest.raises(Unsupported, match="none of the 2 that were recorded"):
            model({"x": other})
    with pytest.raises(BadFeeds, match="the trace has x"):
        model({"z": X})


def test_taps_come_in_order_and_outputs_last(model, statistics):
    taps = list(model.trace({"x": X}))
    assert [(tap.name, tap.operator, tap.order) for tap in taps] == [("a", "Mul", 0), ("y", "", 1)]
    (only,) = model.trace({"x": X}, taps=["y"], reduce=statistics)
    assert only.value is None
    assert only.kept == statistics(2 * X + 1)


def test_the_exact_twin_is_what_was_recorded_in_float64(model):
    exact = model.cast("float64")
    assert exact({"x": X.astype("float64")})["y"].dtype == np.float64
    with pytest.raises(Unsupported, match="no pass was recorded in float16"):
        model.cast("float16")
    with pytest.raises(Unsupported, match="no part of it can be run"):
        model.segment(["a"], ["y"])


def test_without_outputs_the_last_tap_is_the_answer(tmp_path):
    dump = Dump(str(tmp_path / "run"))
    dump.feed("x", X)
    dump.tap("a", X)
    dump.tap("b", X + 1)
    dump.close()
    model = load(f"trace:{tmp_path / 'run'}")
    assert list(model({"x": X})) == ["b"]
    assert [tap.name for tap in model.trace({"x": X})] == ["a", "b"]


def test_a_folder_that_is_no_trace_is_told_at_once(tmp_path):
    with pytest.raises(NotFound, match=r"no trace\.json"):
        open_package(f"trace:{tmp_path}")
