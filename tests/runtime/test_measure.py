from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regraft.runtime.measure import Sample, latency_from_samples, sample, warm_up
from regraft.runtime.process_usage import peak_mib
from regraft.runtime.quantiles import quantile


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


def test_one_pass_without_a_known_cpu_time_leaves_it_unknown():
    assert latency_from_samples([Sample(1.0, 1.0), Sample(1.0, None)], batch=1).cpu_ms is None


def test_cpu_time_of_the_process_in_which_a_part_runs_is_added():
    """It is kept busy for as long as the pass lasts; nothing is known about one that is gone."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        found = sample(lambda: time.sleep(0.5), busy.pid)
        busy.kill()
    own = sample(lambda: time.sleep(0.1))
    assert own.cpu_ms is not None
    assert found.cpu_ms is not None
    assert found.cpu_ms > 50 > own.cpu_ms, "a tenth of a processor is had on any machine, and sleeping takes none"
    assert sample(lambda: None, busy.pid).cpu_ms is None


def test_peak_memory_is_that_of_the_process_that_is_named():
    ballast = np.ones(200 << 17)  # 200 MiB here are not there
    code = "import sys; kept = b'x' * (64 << 20); print(len(kept), flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        there, here = peak_mib(other.pid), peak_mib()
        other.stdin.close()
    assert ballast.sum() > 0
    assert 64 < there < 150
    assert here > 200
    assert peak_mib(other.pid) is None
