"""The whole loop for some steps, and whole trainings over seeds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tests.conceptual.stages.trainings import one, parts, side, told
from torch import nn

from regraft.conceptual.stages.curves import compare_curves
from regraft.conceptual.stages.interface import Side, Status


def looped(kind: str) -> Side:
    def factory() -> dict[str, Any]:
        made = scheduled()
        model, optimiser, schedule = made["model"], made["optimiser"], made["schedule"]

        def step(batch: Any) -> torch.Tensor:
            if kind != "no zero_grad":
                optimiser.zero_grad()
            loss = made["loss"](model(batch["inputs"]), batch)
            loss.backward()
            optimiser.step()
            if kind == "reset":
                optimiser.state.clear()
            if kind != "no schedule":
                schedule.step()
            return loss.detach()

        return {**made, "train_step": step}

    return side(factory)


def scheduled() -> dict[str, Any]:
    made = parts()
    return {**made, "schedule": torch.optim.lr_scheduler.StepLR(made["optimiser"], 2)}


@pytest.mark.parametrize(
    ("kind", "place", "cause"),
    [
        ("no zero_grad", "step 1", "accumulated gradients"),
        ("reset", "step 1", "optimiser reset"),
        ("no schedule", "step 2", "no schedule"),
    ],
)
def test_a_habit_of_a_loop_is_named(kind: str, place: str, cause: str) -> None:
    assert told(one("training", side(scheduled), looped(kind))) == [(place, cause)]


def test_a_loop_of_its_own_that_does_the_same_agrees() -> None:
    assert one("training", side(scheduled), looped("")).status is Status.AGREES


def test_running_statistics_with_another_momentum_are_named() -> None:
    def normed(momentum: float) -> dict[str, Any]:
        made = parts()
        model = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6, momentum=momentum), nn.Linear(6, 4))
        return {**made, "model": model, "optimiser": torch.optim.SGD(model.parameters(), lr=0.1)}

    found = one("training", side(normed, momentum=0.1), side(normed, momentum=0.01))

    assert told(found) == [("1.running_mean", "running statistics")]
    assert "0.1 times as far" in found.divergences[0].detail


def test_a_loss_that_is_no_number_decides_nothing() -> None:
    def lost() -> dict[str, Any]:
        made = parts()
        return {**made, "loss": lambda outputs, batch: outputs.sum() / 0.0 * 0.0}

    found = one("training", side(lost), side(lost))

    assert found.status is Status.UNDECIDED
    assert "the loss of step 0 is not a finite number" in found.reason


def curves(shift: float, stream: int) -> Callable[[int], list[float]]:
    def curve(seed: int) -> list[float]:
        noise = np.random.default_rng([seed, stream]).standard_normal()
        return (np.linspace(1, 0.2, 20) + shift + 0.02 * noise).tolist()

    return curve


@pytest.mark.parametrize(
    ("shift", "margin", "status"),
    [(0.0, 0.1, Status.AGREES), (0.3, 0.1, Status.DIVERGES), (0.0, 0.001, Status.UNDECIDED)],
)
def test_trainings_over_seeds_are_judged_by_an_interval(shift: float, margin: float, status: Status) -> None:
    found = one("curves", side(curve=curves(0.0, 0), margin=margin), side(curve=curves(shift, 1)))

    assert found.status is status
    assert found.measured["seeds"] == 8


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """90 % of intervals hold the true difference; 200 draws miss that by 7 points once in a thousand times."""
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(200):
        ours, theirs = rng.standard_normal((2, 8, 1))
        found = compare_curves(ours, theirs + 0.5, margin=1.0)
        held += found.low <= 0.5 <= found.high

    assert 0.83 <= held / 200 <= 0.97
