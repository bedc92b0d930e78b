"""Time of a model: single passes, how it comes to its speed, and what the passes say together."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from regraft.runtime.process_usage import cpu_s
from regraft.runtime.quantiles import Quantile, quantile

if TYPE_CHECKING:
    from regraft.runtime.interface import Feeds

WINDOW = 5
"""Passes whose median is compared with that of the passes before them."""
_SETTLED = 0.05
_MAX_WARM_UP = 200


class WarmUp(msgspec.Struct, frozen=True):
    """How a model came to its speed.

    Attributes:
        passes: made before it was settled, or given up on.
        first_ms: wall time of the first one.
        is_settled: the medians of two consecutive windows differed by less than 5 %.
    """

    passes: int
    first_ms: float
    is_settled: bool


class Sample(msgspec.Struct, frozen=True):
    """One pass: wall time, and the CPU time of all threads meanwhile; None where the system does not tell it."""

    wall_ms: float
    cpu_ms: float | None


class Latency(msgspec.Struct, frozen=True):
    """What samples of one model at one batch size say.

    Attributes:
        p50_ms, p95_ms, p99_ms: quantiles of wall time, with intervals from order statistics.
        cpu_ms: median CPU time of all threads; None where it is not known.
        items_per_s: rows of the batch over the median wall time, with the interval of the median.
        batch: rows of one pass.
        n: samples.
    """

    p50_ms: Quantile
    p95_ms: Quantile
    p99_ms: Quantile
    cpu_ms: float | None
    items_per_s: Quantile
    batch: int
    n: int


def warm_up(run: Callable[[], object], *, max_passes: int = _MAX_WARM_UP, max_s: float = 10.0) -> WarmUp:
    """Call until the time of a pass has settled.

    Args:
        run: one pass.
        max_passes: give up after so many.
        max_s: or after so many seconds.
    Source: the median of the last five passes against that of the five before; a median, because one
        interrupted pass must not count as unsettled.
    """
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < max_passes and (time.perf_counter() - began < max_s or len(times) < 2):
        times.append(sample(run).wall_ms)
        if len(times) >= 2 * WINDOW:
            late, early = statistics.median(times[-WINDOW:]), statistics.median(times[-2 * WINDOW : -WINDOW])
            if abs(late - early) <= _SETTLED * early:
                return WarmUp(len(times), times[0], True)
    return WarmUp(len(times), times[0], False)


def sample(run: Callable[[], object], network: int | None = None) -> Sample:
    """One timed call.

    Args:
        run: what is timed.
        network: another process in which a part of it runs; its CPU time is added to that of this one.
    """
    before, wall = _cpu_s(network), time.perf_counter()
    run()
    wall_ms = (time.perf_counter() - wall) * 1e3
    after = _cpu_s(network)
    return Sample(wall_ms, None if before is None or after is None else (after - before) * 1e3)


def _cpu_s(network: int | None) -> float | None:
    own = time.process_time()
    if network is None:
        return own
    other = cpu_s(network)
    return None if other is None else own + other


def latency_from_samples(samples: Sequence[Sample], *, batch: int) -> Latency:
    """Quantiles of passes that were timed, one by one or interleaved with those of other models.

    Args:
        samples: at least one.
        batch: rows of one pass.
    """
    walls = [one.wall_ms for one in samples]
    cpus = [one.cpu_ms for one in samples if one.cpu_ms is not None]
    median = quantile(walls, 0.5)
    return Latency(
        median,
        quantile(walls, 0.95),
        quantile(walls, 0.99),
        statistics.median(cpus) if len(cpus) == len(samples) else None,
        rate(median, batch=batch),
        batch,
        len(samples),
    )


def rate(latency: Quantile, *, batch: int) -> Quantile:
    """Rows a second of passes one after the other, from the wall time of one in ms: `low` comes from its `high`."""
    low, high = (None if end is None else batch / end * 1e3 for end in (latency.high, latency.low))
    return Quantile(batch / latency.value * 1e3, low, high, latency.n)


def batch_of(feeds: Feeds) -> int:
    """Rows of a pass: the first axis of the first input that has one."""
    return next((value.shape[0] for value in feeds.values() if value.ndim), 1)
