"""Small trainings that the tests plant faults in: what a factory of a user's returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  as torch's own code calls it

from regraft.conceptual.stages import compare_stages
from regraft.conceptual.stages.interface import Side, StageResult
from regraft.conceptual.stages.sides import side_from_function

IGNORED = -100


class Net(nn.Module):
    """A residual block between two linear layers; `cut` stops a gradient inside."""

    def __init__(self, cut: str = "") -> None:
        super().__init__()
        self.first, self.norm, self.inner, self.last = (
            nn.Linear(5, 6),
            nn.LayerNorm(6),
            nn.Linear(6, 6),
            nn.Linear(6, 4),
        )
        self.cut = cut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.relu(self.first(x))
        branch = self.inner(self.norm(h))
        branch = branch.detach() if self.cut == "branch" else branch
        return self.last((h.detach() if self.cut == "skip" else h) + branch)


def batches() -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    made = [(rng.standard_normal((8, 5)).astype(np.float32), rng.integers(0, 4, 8)) for _ in range(3)]
    made[0][1][:2] = IGNORED
    return made


def parts(cut: str = "", **others: Any) -> dict[str, Any]:
    """The parts of a training; what is a function of the network in `others` is called with it."""
    torch.manual_seed(3)
    model = Net(cut)
    made = {
        "model": model,
        "batches": batches(),
        "loss": lambda outputs, batch: F.cross_entropy(outputs, batch["targets"]),
        "optimiser": torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01),
    }
    if "make_optimiser" in others:
        made["optimiser"] = others.pop("make_optimiser")(model)
    return {**made, **others}


def side(factory: Callable[[], object] = parts, **others: Any) -> Side:
    return side_from_function(lambda: factory(**others), where="py:trainings:side")


def one(stage: str, reference: Side, candidate: Side) -> StageResult:
    (found,) = compare_stages(reference, candidate, stages=[stage])
    return found


def told(result: StageResult) -> list[tuple[str, str]]:
    return [(divergence.place, divergence.cause) for divergence in result.divergences]
