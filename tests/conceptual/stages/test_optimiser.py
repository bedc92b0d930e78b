"""Optimisers on the same gradients: conventions are told apart by the steps that they make."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tests.conceptual.stages.trainings import one, side, told
from torch import nn

from regraft.conceptual.stages.interface import Status
from regraft.conceptual.stages.recognise import Seen, recognised
from regraft.conceptual.stages.update_rules import Rule, trajectory

AdamW, Adam, SGD = torch.optim.AdamW, torch.optim.Adam, torch.optim.SGD


def _adamw(**others: Any) -> Callable[[nn.Module], torch.optim.Optimizer]:
    return lambda model: AdamW(model.parameters(), **{"lr": 1e-3, "weight_decay": 0.01, **others})


def _sgd(**others: Any) -> Callable[[nn.Module], torch.optim.Optimizer]:
    return lambda model: SGD(model.parameters(), **{"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4, **others})


@pytest.mark.parametrize(
    ("reference", "candidate", "cause"),
    [
        (_adamw(), _adamw(eps=1e-6), "epsilon"),
        (_adamw(), _adamw(betas=(0.9, 0.98)), "beta2"),
        (_adamw(), _adamw(lr=3.7e-3), "learning rate"),
        (_adamw(), _adamw(amsgrad=True), "AMSGrad"),
        (_adamw(), lambda m: Adam(m.parameters(), 1e-3, weight_decay=0.01), "weight-decay placement"),
        (_sgd(), _sgd(dampening=0.5), "dampening"),
        (_sgd(), _sgd(nesterov=True), "Nesterov"),
        (_sgd(), _sgd(momentum=0.93), "momentum"),
        (_sgd(), _adamw(), "rule"),
    ],
)
def test_a_convention_is_named(reference: Any, candidate: Any, cause: str) -> None:
    found = one("optimiser", side(make_optimiser=reference), side(make_optimiser=candidate))

    assert found.status is Status.DIVERGES
    assert cause in [divergence.cause for divergence in found.divergences]
    assert len({divergence.cause for divergence in found.divergences}) == 1


def test_weights_without_decay_are_listed() -> None:
    def excluded(model: nn.Module) -> torch.optim.Optimizer:
        plain = [one for one in model.parameters() if one.ndim < 2]
        return AdamW(
            [{"params": [one for one in model.parameters() if one.ndim > 1]}, {"params": plain, "weight_decay": 0.0}],
            lr=1e-3, weight_decay=0.01,
        )  # fmt: skip

    found = one("optimiser", side(make_optimiser=_adamw()), side(make_optimiser=excluded))

    (divergence,) = found.divergences
    assert divergence.cause == "weight-decay exclusion"
    assert set(divergence.names) == {"first.bias", "norm.weight", "norm.bias", "inner.bias", "last.bias"}


def test_lists_of_tensors_make_the_same_steps() -> None:
    found = one("optimiser", side(make_optimiser=_adamw(foreach=False)), side(make_optimiser=_adamw(foreach=True)))

    assert found.status is Status.AGREES


@pytest.mark.parametrize(
    "rule",
    [
        Rule("adam", lr=2e-3, eps_place="inside", eps=1e-6),
        Rule("adam", correction="none"),
        Rule("sgd", lr=0.3, momentum=0.87, nesterov=True),
        Rule("rmsprop", lr=0.01, beta2=0.95, centered=True),
        Rule("adagrad", lr=0.05, eps=1e-10, start=0.1),
    ],
    ids=lambda rule: rule.kind,
)
def test_a_rule_is_recognised_from_its_steps_alone(rule: Rule) -> None:
    rng = np.random.default_rng(4)
    weight = rng.standard_normal(48)
    gradients = tuple(rng.standard_normal(48) * 10.0 ** np.repeat(np.arange(-8, 0), 6) for _ in range(8))

    found = recognised(Seen(weight, gradients, trajectory(rule, weight, gradients)), [])

    assert found is not None
    assert np.allclose(  # settings that make the same steps are as good: float64 steps are compared to 1e-4
        trajectory(found, weight, gradients), trajectory(rule, weight, gradients), rtol=1e-4, atol=1e-7
    )


def test_a_rule_that_nobody_knows_has_no_cause() -> None:
    class Odd(torch.optim.Optimizer):
        def __init__(self, parameters: Any) -> None:
            super().__init__(parameters, {"lr": 0.1})

        @torch.no_grad()
        def step(self) -> None:  # type: ignore[override]
            for weight in self.param_groups[0]["params"]:
                weight.sub_(weight.grad.abs().sqrt() * weight.grad.sum().sin())

    found = one("optimiser", side(make_optimiser=_sgd()), side(make_optimiser=lambda m: Odd(m.parameters())))

    assert found.status is Status.DIVERGES
    assert told(found) == [("all weights", "")]
