"""Predictions for a described device as evidence: beside what was measured, checked on this machine where it can be."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from regraft.deployment.bench.machine import missed_by, predicted
from regraft.record.evidence import JSON, Draft, Finding, Severity
from regraft.runtime.measure import Latency, latency_from_samples, rate
from regraft.runtime.quantiles import Quantile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from regraft.deployment.bench.run import Row, Run
    from regraft.deployment.budget import DeviceBudget

_FLOAT32 = "float32"
"""The precision that a processor is described in: what others gain there by coarser numbers nobody has said."""


def report_predictions(
    draft: Draft, run: Run, rows: Sequence[Row], device: DeviceBudget, of: Callable[[Row], dict[str, JSON]]
) -> None:
    """Predict every timed row for the device, and every row from the others that differ in threads alone.

    The second is the check: this machine with another number of threads is another described processor, whose latency
    is known. By what was missed there the intervals of the first are widened.

    Args:
        draft: receives both.
        rows: of the run; those of a server are left out, as it may stand on any processor.
        device: with a described machine.
        of: what a row's measurements are about.
    """
    assert device.machine is not None
    for threads, machine in run.machines.items():
        told: dict[str, JSON] = {"threads": threads}
        draft.measure("machine_compute", machine.flops / 1e9, "GFLOP/s", n=1, of=told)
        draft.measure("machine_memory", machine.bytes_per_s / 1e9, "GB/s", n=1, of=told)
    here = [row for row in rows if row.samples and not row.live.variant.is_elsewhere]
    usable = [row for row in here if row.live.started and row.live.started[0].precision == _FLOAT32]
    slack = _check(draft, run, usable, of)
    for row in usable:
        machine = run.machines[run.threads_of(row.live)]
        found, about = _latency(row), {**of(row), "device": device.name}
        for name, one in (("latency_p50", found.p50_ms), ("latency_p95", found.p95_ms), ("latency_p99", found.p99_ms)):
            _measure(draft, f"predicted_{name}", predicted(one, machine, device.machine, slack=slack), "ms", about)
        median = predicted(found.p50_ms, machine, device.machine, slack=slack)
        _measure(draft, "predicted_throughput", rate(median, batch=row.batch), "samples/s", about)
    left_out = [row for row in here if row not in usable]
    if left_out:
        message = (
            f"{len(left_out)} rows are not predicted: {device.name} is described in float32, and they compute in less"
        )
        draft.find(Finding("RGB-PRD-002", Severity.INFO, message))


def _check(draft: Draft, run: Run, rows: Sequence[Row], of: Callable[[Row], dict[str, JSON]]) -> float:
    """Predict rows of this machine from others of it; the largest factor by which an interval was missed."""
    slack, checked = 1.0, 0
    for known, other in itertools.permutations(rows, 2):
        here, there = run.threads_of(known.live), run.threads_of(other.live)
        one, two = known.live.variant, other.live.variant
        if known.size != other.size or here == there:
            continue
        if (one.subjects[0].sha256, one.runtime, one.precision) != (two.subjects[0].sha256, two.runtime, two.precision):
            continue
        said = predicted(_latency(known).p50_ms, run.machines[here], run.machines[there])
        measured = _latency(other).p50_ms
        error = said.value / measured.value - 1
        about = {**of(other), "from_threads": here}
        draft.measure("prediction_error", error, "ratio", n=measured.n, of=about)
        slack, checked = max(slack, missed_by(measured, said)), checked + 1
    if not checked:
        message = "the prediction was not checked on this machine: it was measured with one number of threads alone"
        draft.find(Finding("RGB-PRD-001", Severity.LOW, message, fix="--threads 1 --threads 2 checks it"))
    elif slack > 1:
        message = f"on this machine itself predictions missed by a factor of {slack:.2f}; intervals are that much wider"
        draft.find(Finding("RGB-PRD-003", Severity.INFO, message, data={"factor": slack}))
    return slack


def _latency(row: Row) -> Latency:
    return latency_from_samples(row.samples, batch=row.batch)


def _measure(draft: Draft, name: str, found: Quantile, unit: str, of: dict[str, JSON]) -> None:
    draft.measure(name, found.value, unit, low=found.low, high=found.high, n=found.n, of=of)
