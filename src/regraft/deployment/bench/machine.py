"""Another processor's latency from this one's: how both multiply matrices and copy memory, and what lies between.

A pass is a mixture of operators that wait for arithmetic and of operators that wait for memory. On another processor
the first take longer by the ratio of the two rates of arithmetic, the others by that of the two rates of memory, so the
pass by something between the two. That is the interval. It is a model, and marked as predicted wherever it is shown.

Source: Williams, Waterman, Patterson, Roofline, CACM 52(4), 2009; that kinds of operators are not told apart is ours.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from regraft.deployment.budget import Machine
from regraft.runtime.quantiles import Quantile

_MATRIX = 1024
_ARRAY_BYTES = 64 << 20
"""Of each thread: far more than the caches share out to it."""
_TRIES_S = 0.8
_LEAST_TRIES = 5


def measured_machine(threads: int) -> Machine:
    """Rates of this processor on so many threads: the best of repeated tries, as others may be at work.

    Args:
        threads: those that numpy's matrix product was told by the environment before it was imported.
    """
    import numpy as np

    left = np.ones((_MATRIX, _MATRIX), np.float32)
    product = np.empty_like(left)
    seconds = _best(lambda: np.matmul(left, left, out=product))
    sources = [np.ones(_ARRAY_BYTES // 8) for _ in range(threads)]
    targets = [np.empty_like(source) for source in sources]
    with ThreadPoolExecutor(threads) as pool:  # numpy copies without the interpreter's lock
        copied = _best(lambda: list(pool.map(np.copyto, targets, sources)))
    return Machine(2 * _MATRIX**3 / seconds, 2 * threads * _ARRAY_BYTES / copied)


def predicted(latency: Quantile, here: Machine, there: Machine, *, slack: float = 1.0) -> Quantile:
    """A latency on another processor, from the one that was measured here.

    Args:
        latency: measured, with its interval.
        here, there: both processors, on the threads that the passes have.
        slack: factor by which the interval is widened on both sides, at least 1.
    Returns:
        the geometric mean of the two bounds, and between which it lies; an end that the measured interval has not,
        the predicted one has not either.
    """
    ratios = sorted((here.flops / there.flops, here.bytes_per_s / there.bytes_per_s))
    low = None if latency.low is None else latency.low * ratios[0] / slack
    high = None if latency.high is None else latency.high * ratios[1] * slack
    return Quantile(latency.value * math.sqrt(ratios[0] * ratios[1]), low, high, latency.n)


def missed_by(measured: Quantile, said: Quantile) -> float:
    """Factor by which a measured latency lies outside of a prediction's interval; 1 where it lies within."""
    below = 1.0 if said.low is None else said.low / measured.value
    above = 1.0 if said.high is None else measured.value / said.high
    return max(1.0, below, above)


def _best(run: Callable[[], object]) -> float:
    """Seconds of the quickest of several calls."""
    run()  # pages are mapped, threads started
    times: list[float] = []
    while len(times) < _LEAST_TRIES or sum(times) < _TRIES_S:
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return min(times)
