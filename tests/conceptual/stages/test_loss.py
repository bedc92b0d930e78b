"""Losses on the same outputs: what differs is named, what is only written otherwise is not accused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from tests.conceptual.stages.trainings import IGNORED, one, side, told
from torch.nn import functional as F  # noqa: N812  as torch's own code calls it

from regraft.conceptual.stages.interface import Status

LOSSES = {
    "reduction": lambda o, b: F.cross_entropy(o, b["targets"], reduction="sum"),
    "label smoothing": lambda o, b: F.cross_entropy(o, b["targets"], label_smoothing=0.1),
    "from logits": lambda o, b: F.cross_entropy(o.softmax(1), b["targets"]),
    "class weights": lambda o, b: F.cross_entropy(o, b["targets"], weight=torch.tensor([1.0, 2, 0.5, 1]).to(o)),
    "ignore_index": lambda o, b: F.cross_entropy(o, b["targets"].clamp(min=0)),
    "log base": lambda o, b: F.cross_entropy(o, b["targets"]) / math.log(2),
    "factor": lambda o, b: F.cross_entropy(o, b["targets"]) * 0.7,
    "constant term": lambda o, b: F.cross_entropy(o, b["targets"]) + 0.5,
}


@pytest.mark.parametrize("cause", LOSSES)
def test_a_fault_is_named(cause: str) -> None:
    found = one("loss", side(), side(loss=LOSSES[cause]))

    assert found.status is Status.DIVERGES
    assert [one.cause for one in found.divergences] == [cause]


def test_what_is_written_otherwise_agrees() -> None:
    def by_hand(outputs: torch.Tensor, batch: Any) -> torch.Tensor:
        kept = batch["targets"] != IGNORED
        picked = outputs[kept].gather(1, batch["targets"][kept][:, None])[:, 0]
        return (outputs[kept].logsumexp(1) - picked).mean()

    assert one("loss", side(), side(loss=by_hand)).status is Status.AGREES


def test_a_loss_of_another_shape_is_another_reduction() -> None:
    found = one("loss", side(), side(loss=lambda o, b: F.cross_entropy(o, b["targets"], reduction="none")))

    assert told(found) == [("reduction", "reduction")]
    assert "an array of 8" in found.divergences[0].detail


def test_a_loss_that_is_no_number_is_not_compared() -> None:
    found = one("loss", side(loss=lambda o, b: o.sum() * np.nan), side())

    assert found.status is Status.NOT_RUN
    assert "not a finite number" in found.reason


def test_residuals_tell_squared_from_absolute_error() -> None:
    rng = np.random.default_rng(1)
    data = [(rng.standard_normal((8, 5)).astype("f"), rng.standard_normal((8, 4)).astype("f")) for _ in range(2)]

    found = one(
        "loss",
        side(batches=data, loss=lambda o, b: F.mse_loss(o, b["targets"])),
        side(batches=data, loss=lambda o, b: F.l1_loss(o, b["targets"])),
    )

    assert told(found) == [("formula", "formula")]
    assert "squared error in the reference, absolute error in the candidate" in found.divergences[0].detail
