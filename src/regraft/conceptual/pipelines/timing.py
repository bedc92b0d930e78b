"""Time of every step of two pipelines, which take turns on the same samples."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.conceptual.stages.declaration import all_seeded
from regraft.conceptual.stages.pipeline import MAX_SAMPLES
from regraft.errors import Unsupported
from regraft.runtime.quantiles import Quantile, quantile

if TYPE_CHECKING:
    from regraft.conceptual.stages.interface import Step

ROUNDS = 25
"""Whose median has an interval that holds for a hundred comparisons at once, a few disturbed rounds left out."""


class StepTime(msgspec.Struct, frozen=True):
    """One step of one pipeline.

    Attributes:
        name: of the step.
        wall_ms, cpu_ms: of one sample; median over rounds. CPU time is that of all threads of this process,
            and a microsecond of its clock's own.
        share: of the median wall time of all steps.
    """

    name: str
    wall_ms: Quantile
    cpu_ms: Quantile
    share: float


class Timing(msgspec.Struct, frozen=True):
    """Two pipelines on the same samples.

    Attributes:
        reference, candidate: steps in their order.
        ratio: candidate's wall time over the reference's, median over rounds.
        samples: in a round.
    """

    reference: tuple[StepTime, ...]
    candidate: tuple[StepTime, ...]
    ratio: Quantile
    samples: int


def time_pipelines(
    reference: Sequence[Step], candidate: Sequence[Step], samples: Sequence[Any], *, max_s: float = 5.0
) -> Timing:
    """Time the steps of two pipelines; who comes first changes from sample to sample.

    Args:
        reference, candidate: each is fed by its own steps, as in a training.
        samples: at least one; fewer are used where rounds with all of them would take longer than `max_s`.
        max_s: seconds that are aimed at; slow pipelines take longer, as every round has one sample at least.
    Raises:
        Unsupported: a step fails.
    """
    sides = (reference, candidate)
    for side in sides:
        _pass(side, samples[0], 0)  # imports, caches
    once_s = sum(wall for side in sides for wall, _ in _pass(side, samples[0], 0))
    count = fitting(once_s * ROUNDS, max_s, min(len(samples), MAX_SAMPLES))
    rounds = [_round(sides, samples[:count], first) for first in range(ROUNDS)]
    totals = [[sum(wall for wall, _ in one[side]) for side in (0, 1)] for one in rounds]
    steps = [
        _steps(side, [[(wall / count, cpu / count) for wall, cpu in one[i]] for one in rounds])
        for i, side in enumerate(sides)
    ]
    ratio = quantile([theirs / max(ours, 1e-9) for ours, theirs in totals], 0.5)
    return Timing(steps[0], steps[1], ratio, count)


def fitting(once_s: float, max_s: float, most: int, *, least: int = 1) -> int:
    """How many samples fit into a time, when one takes `once_s`."""
    return max(least, min(most, int(max_s / max(once_s, 1e-9))))


def _round(sides: Sequence[Sequence[Step]], samples: Sequence[Any], first: int) -> list[list[tuple[float, float]]]:
    """Wall and CPU seconds of every step of both, over all samples."""
    found = [[(0.0, 0.0)] * len(side) for side in sides]
    for i, sample in enumerate(samples):
        for side in (0, 1) if (first + i) % 2 == 0 else (1, 0):
            taken = _pass(sides[side], sample, i)
            found[side] = [(a + c, b + d) for (a, b), (c, d) in zip(found[side], taken, strict=True)]
    return found


def _pass(steps: Sequence[Step], sample: Any, seed: int) -> list[tuple[float, float]]:
    """Wall and CPU seconds of every step on one sample."""
    found = []
    name = ""
    try:
        value = copy.deepcopy(sample)
        with all_seeded(seed):
            for step in steps:
                name = step.name
                cpu, wall = time.process_time(), time.perf_counter()
                value = step.run(value)
                found.append((time.perf_counter() - wall, time.process_time() - cpu))
    except Exception as error:  # the user's code may raise anything
        raise Unsupported(f"the step {name} failed: {type(error).__name__}: {error}") from error
    return found


def _steps(steps: Sequence[Step], rounds: Sequence[Sequence[tuple[float, float]]]) -> tuple[StepTime, ...]:
    walls = [statistics.median(one[k][0] for one in rounds) for k in range(len(steps))]
    total = sum(walls) or 1.0
    return tuple(
        StepTime(
            step.name,
            quantile([one[k][0] * 1e3 for one in rounds], 0.5),
            quantile([one[k][1] * 1e3 for one in rounds], 0.5),
            walls[k] / total,
        )
        for k, step in enumerate(steps)
    )
