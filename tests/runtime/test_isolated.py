from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from regraft.errors import BadFeeds, Crashed, MissingExtra, Unsupported
from regraft.runtime.isolated import IsolatedModel
from regraft.runtime.isolated_worker import Recipe

HERE = str(Path(__file__).parent)


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(HERE)


@pytest.fixture
def model() -> Iterator[IsolatedModel]:
    made = IsolatedModel(Recipe("crashing_models:Doubler", b"abc", {"factor": 3.0}))
    yield made
    made.close()


def _x(*values: float) -> dict[str, np.ndarray]:
    return {"x": np.array(values, dtype="float32")}


def test_it_is_the_model_that_was_built_elsewhere(model):
    assert (model.runtime, model.where, model.effective_precision) == ("doubler", "doubler of 3 bytes", "float32")
    assert [port.name for port in model.signature.inputs] == ["x"]
    assert np.array_equal(model(_x(1, 2))["y"], np.float32([3, 6]))
    assert model(_x())["y"].shape == (0,)
    assert model._process._process.pid != os.getpid()


def test_large_arrays_travel_both_ways(model):
    x = np.random.default_rng(0).standard_normal((7, 1 << 20)).astype("float32")  # 28 MiB, larger than any pipe
    assert np.array_equal(model({"x": x[:, ::2]})["y"], x[:, ::2] * np.float32(3))
    assert model(_x(1))["y"].flags.writeable


@pytest.mark.parametrize(
    ("order", "says"),
    [(-11, "SIGSEGV"), (-6, "SIGABRT"), (-9, "SIGKILL"), (-3, "status 3"), (-5, "not enough memory")],
)
def test_a_crash_is_an_error_and_the_next_pass_runs(model, order, says):
    with pytest.raises(Crashed, match=says):
        model(_x(order))
    assert np.array_equal(model(_x(1))["y"], np.float32([3]))


def test_last_words_are_told(model):
    with pytest.raises(Crashed, match="last words: about to read address 0"):
        model(_x(-11))


def test_what_crashes_every_time_is_not_started_forever(model):
    for _ in range(4):
        with pytest.raises(Crashed, match="SIGSEGV"):
            model(_x(-11))
    with pytest.raises(Crashed, match="crashed 4 times"):
        model(_x(1))


def test_a_model_that_hangs_is_ended():
    model = IsolatedModel(Recipe("crashing_models:Doubler"), time_limit_s=2)
    began = time.monotonic()
    with pytest.raises(Crashed, match="said nothing for 2 s"):
        model(_x(-1))
    assert time.monotonic() - began < 30  # of the 600 s that it sleeps
    model.close()


def test_errors_keep_their_class(model):
    with pytest.raises(BadFeeds, match="not these") as caught:
        model(_x(-2))
    assert (caught.value.where, caught.value.hint) == ("doubler of 3 bytes", "others")
    with pytest.raises(Unsupported, match="RuntimeError: a library's own words"):
        model(_x(-4))


def test_taps_are_streamed_and_reduced_here(model, statistics):
    x = _x(1, 2)
    taps = list(model.trace(x))
    assert [(tap.name, tap.operator, tap.scope, tap.order, tap.inputs) for tap in taps] == [
        (f"t{i}", "Mul", "net", i, ("x",)) for i in range(5)
    ]
    assert np.array_equal(taps[4].value, x["x"] * 4)
    (only,) = model.trace(x, taps=["t2"], reduce=statistics)
    assert only.kept == statistics(x["x"] * 2)


def test_a_trace_may_be_left_or_interrupted_by_another_pass(model):
    for tap in model.trace(_x(1)):
        assert tap.name == "t0"
        break
    stream = model.trace(_x(1))
    assert next(stream).name == "t0"
    assert np.array_equal(model(_x(5))["y"], np.float32([15]))
    assert [tap.name for tap in stream] == ["t1", "t2", "t3", "t4"]


def test_a_crash_in_the_middle_of_a_trace_comes_after_its_taps(model):
    seen = []
    with pytest.raises(Crashed, match="SIGSEGV"):
        seen.extend(tap.name for tap in model.trace(_x(-11)))
    assert seen == ["t0", "t1", "t2"]


def test_what_is_derived_lives_there_too_and_survives_a_crash(model):
    part, exact = model.segment(["a"], ["b"]), model.cast("float64")
    assert exact.effective_precision == "float64"
    assert np.array_equal(part(_x(1))["y"], np.float32([30]))
    with pytest.raises(Crashed):
        part(_x(-11))
    assert np.array_equal(part(_x(1))["y"], np.float32([30]))
    part.close()
    assert np.array_equal(model(_x(1))["y"], np.float32([3]))


def test_a_model_that_cannot_be_built_is_told():
    with pytest.raises(Crashed, match="SIGSEGV"):
        IsolatedModel(Recipe("crashing_models:dying"))
    with pytest.raises(Unsupported, match="No module named 'nowhere'"):
        IsolatedModel(Recipe("nowhere:build"))


def test_a_process_that_was_taken_over_cannot_harm():
    with pytest.raises(Crashed, match="nonsense"):
        IsolatedModel(Recipe("crashing_models:lying"))


def test_texts_do_not_travel(model):
    with pytest.raises(Unsupported, match="does not travel"):
        model({"x": np.array(["a"])})
    assert np.array_equal(model(_x(1))["y"], np.float32([3]))


def test_a_closed_model_says_so(model):
    pid = model._process._process.pid
    model.close()
    model.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(Unsupported, match="closed"):
        model(_x(1))


def test_it_does_not_outlive_who_started_it():
    program = (
        "import sys, time; sys.path.insert(0, sys.argv[1])\n"
        "from regraft.runtime.isolated import IsolatedModel\n"
        "from regraft.runtime.isolated_worker import Recipe\n"
        "model = IsolatedModel(Recipe('crashing_models:Doubler'))\n"
        "print(model._process._process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, HERE], stdout=subprocess.PIPE, text=True) as parent:
        child = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    for _ in range(100):
        if not Path(f"/proc/{child}").exists() or "State:\tZ" in Path(f"/proc/{child}/status").read_text():
            return
        time.sleep(0.1)
    pytest.fail("the model's process is still there ten seconds after its parent")


def test_a_missing_library_is_told_as_such(monkeypatch, tmp_path):
    (tmp_path / "ai_edge_litert").mkdir()
    (tmp_path / "ai_edge_litert/__init__.py").write_text("raise ImportError")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(MissingExtra) as caught:
        IsolatedModel(Recipe("regraft.runtime.litert_model:LiteRtModel", b"x"))
    assert caught.value.hint == "pip install 'regraft[litert]'"
