from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regraft.errors import Unsupported
from regraft.runtime.measure import ProcessTask, Sample, latency, latency_from_samples, process_cost, warm_up
from regraft.runtime.quantiles import quantile
from regraft.workflow.load import load, permitted


def test_the_interval_covers_the_true_quantile_as_often_as_it_says():
    """300 draws of 60 exponentials: 95 % nominal; 90 % is four standard errors (of 1.26 %) below it."""
    rng = np.random.default_rng(0)
    for q in (0.5, 0.9):
        truth = -np.log(1 - q)
        hits = 0
        for _ in range(300):
            found = quantile(rng.exponential(size=60).tolist(), q)
            hits += (found.low is None or found.low <= truth) and (found.high is None or truth <= found.high)
        assert hits / 300 > 0.90


def test_a_bound_that_the_sample_cannot_give_is_none():
    few = quantile([1.0, 2.0, 3.0], 0.99)
    assert few.high is None
    assert quantile(list(range(1000)), 0.99).high is not None
    with pytest.raises(ValueError, match="quantile"):
        quantile([], 0.5)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=80), st.sampled_from([0.0, 0.05, 0.5, 0.95, 0.99, 1.0]))
def test_the_estimate_is_numpys_unless_the_interval_excludes_it(samples, q):
    found = quantile(samples, q)
    low = -np.inf if found.low is None else found.low
    high = np.inf if found.high is None else found.high
    assert low <= found.value <= high
    assert found.value == pytest.approx(float(np.clip(np.quantile(samples, q), low, high)), rel=1e-9, abs=1e-9)


def test_warm_up_goes_on_until_the_time_has_settled():
    waits = iter([0.03, 0.02, 0.02, 0.01, 0.01] + [0.005] * 200)
    found = warm_up(lambda: time.sleep(next(waits)), max_passes=60)
    assert found.passes >= 10
    assert found.first_ms >= 30
    steadily_slower = iter(0.001 * 1.25**i for i in range(100))
    assert not warm_up(lambda: time.sleep(next(steadily_slower)), max_passes=14).is_settled


def test_throughput_is_rows_over_the_median_and_its_bounds_are_swapped():
    found = latency_from_samples([Sample(float(ms), 2.0 * ms) for ms in range(90, 111)], batch=8)
    assert found.p50_ms.value == 100
    assert found.items_per_s.value == pytest.approx(80)
    assert found.items_per_s.low < 80 < found.items_per_s.high
    assert found.cpu_ms == 200


def test_a_real_model_is_timed(tiny_bert, token_feeds):
    found, warm = latency(load(tiny_bert / "onnx", threads=1), token_feeds(2, 5, vocabulary=99), passes=20)
    assert found.n == 20
    assert found.batch == 2
    assert 0 < found.p50_ms.value <= found.p95_ms.value
    assert warm.passes >= 2


def test_a_process_of_its_own_tells_load_time_and_peak_memory(silero):
    ref = silero + "silero_vad.jit"
    feeds = {"x": np.zeros((1, 512), dtype=np.float32), "sr": np.array(16000, dtype=np.int64)}
    with permitted(ref) as allowed:
        task = ProcessTask(ref, "", path=allowed.path, permit=allowed.permit, threads=1)
    ballast = np.ones(200 << 17)  # 200 MiB here must not be counted there
    cost = process_cost(task, feeds)
    assert ballast.sum() > 0
    assert cost.effective_precision == "float32"
    assert cost.baseline_mib <= cost.peak_mib < cost.baseline_mib + 150
    assert cost.load_s > 0
    assert cost.first_ms > 0


def test_a_process_that_fails_says_why(tiny_bert, token_feeds, monkeypatch):
    with pytest.raises(Unsupported, match="BadFeeds"):
        process_cost(ProcessTask(str(tiny_bert / "onnx"), ""), {"input_ids": np.zeros((1, 2), dtype=np.int64)})
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    (tiny_bert / "crashing.py").write_text(
        "import os, signal\ndef build():\n    os.kill(os.getpid(), signal.SIGSEGV)\n"
    )
    task = ProcessTask("py:crashing:build", "", search_path=(str(tiny_bert),))
    with pytest.raises(Unsupported, match="signal 11"):
        process_cost(task, {"x": np.zeros((1, 2), dtype=np.float32)})
    (tiny_bert / "hanging.py").write_text("import time\ndef build():\n    time.sleep(600)\n")
    task = ProcessTask("py:hanging:build", "", search_path=(str(tiny_bert),))
    with pytest.raises(Unsupported, match="did not finish"):
        process_cost(task, {"x": np.zeros((1, 2), dtype=np.float32)}, timeout_s=3)
