"""Learning rates, step by step."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from tests.conceptual.stages.trainings import one, parts, side, told

from regraft.conceptual.stages.interface import Status

LR = torch.optim.lr_scheduler


def cosine(step: float, total: int = 200, low: float = 0.0, top: float = 0.1) -> float:
    return low + (top - low) * (1 + math.cos(math.pi * step / total)) / 2


def warmed(step: int, warm: int = 20, offset: int = 0) -> float:
    return 0.1 * (step + offset) / warm if step < warm else cosine(step - warm, 200 - warm)


@pytest.mark.parametrize(
    ("reference", "candidate", "place", "cause"),
    [
        (cosine, lambda s: cosine(s + 1), "every step", "off by one"),
        (cosine, lambda s: cosine(s, low=1e-3), "end", "end value"),
        (cosine, lambda s: cosine(s, top=0.05), "every step", "base rate"),
        (cosine, lambda s: cosine(s // 10, 20), "every step", "per epoch or per step"),
        (cosine, lambda s: cosine(s, 199), "every step", "length"),
        (warmed, lambda s: warmed(s, 10), "warm-up", "warm-up"),
        (warmed, lambda s: warmed(s, offset=1), "warm-up", "warm-up"),
        (lambda s: 0.99**s, lambda s: 0.95**s, "every step", "decay factor"),
        (lambda s: 0.1 ** (s // 50), lambda s: 0.5 ** (s // 50), "step 50", "decay factor"),
        (lambda s: 0.1 ** (s // 50), lambda s: 0.1 ** (s // 60), "milestones", "milestones"),
        (lambda s: 0.1 * (1 - s / 200), cosine, "curve", "curve"),
    ],
)
def test_a_fault_is_named(
    reference: Callable[[int], float], candidate: Callable[[int], float], place: str, cause: str
) -> None:
    found = one("schedule", side(schedule=reference, steps=200), side(schedule=candidate, steps=200))

    assert told(found) == [(place, cause)]


def test_a_scheduler_of_torch_is_the_function_that_it_computes() -> None:
    def scheduled() -> dict[str, object]:
        made = parts(make_optimiser=lambda model: torch.optim.SGD(model.parameters(), lr=0.1), steps=200)
        return {**made, "schedule": LR.CosineAnnealingLR(made["optimiser"], 200)}

    assert one("schedule", side(scheduled), side(schedule=cosine, steps=200)).status is Status.AGREES


def test_a_rate_that_is_no_number_is_not_compared() -> None:
    found = one("schedule", side(schedule=lambda s: math.nan if s == 7 else 1.0), side(schedule=lambda s: 1.0))

    assert found.status is Status.NOT_RUN
    assert "the learning rate of step 7 is not a finite number" in found.reason
