"""Gradients with the same weights, batch and derivatives of the loss."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.conceptual.stages.trainings import Net, one, parts, side, told
from torch import nn

from regraft.conceptual.stages.interface import Status


@pytest.mark.parametrize(("cut", "place"), [("branch", "inner"), ("skip", "add")])
def test_a_stopped_gradient_is_found_where_it_stops(cut: str, place: str) -> None:
    found = one("backward", side(), side(cut=cut))

    assert told(found) == [(place, "stop-gradient")]


def _twice(loss: torch.Tensor, model: nn.Module) -> None:
    loss.backward(retain_graph=True)
    loss.backward()


def _scaled(loss: torch.Tensor, model: nn.Module) -> None:
    (loss * 1024).backward()


def _by_norm(loss: torch.Tensor, model: nn.Module, limit: float = 1.0) -> None:
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), limit)


def _by_value(loss: torch.Tensor, model: nn.Module) -> None:
    loss.backward()
    nn.utils.clip_grad_value_(model.parameters(), 0.5)


@pytest.mark.parametrize(
    ("backward", "cause"),
    [(_twice, "accumulated twice"), (_scaled, "loss scale"), (_by_norm, "clipping"), (_by_value, "clipping")],
)
def test_what_is_done_to_all_gradients_is_named(backward: Any, cause: str) -> None:
    found = one("backward", side(), side(backward=backward))

    assert told(found) == [("all weights", cause)]


def test_two_limits_of_a_clip_are_both_told() -> None:
    found = one("backward", side(backward=_by_norm), side(backward=lambda loss, m: _by_norm(loss, m, 5.0)))

    assert told(found) == [("all weights", "clipping")]
    assert "at 1 in the reference, at 5 in the candidate" in found.divergences[0].detail


def test_frozen_weights_are_named() -> None:
    def frozen() -> dict[str, Any]:
        made = parts()
        made["model"].norm.requires_grad_(False)
        return made

    found = one("backward", side(), side(frozen))

    assert [(d.cause, d.names) for d in found.divergences] == [("frozen", ("norm.weight", "norm.bias"))]


def test_gradients_of_other_outputs_are_not_judged() -> None:
    def other() -> dict[str, Any]:
        made = parts()
        made["model"].norm.eps = 1e-2
        return made

    found = one("backward", side(), side(other))

    assert found.status is Status.UNDECIDED
    assert "forward passes differ already" in found.reason


def test_dropout_is_blamed_on_its_random_numbers() -> None:
    def dropped(rate: float) -> dict[str, Any]:
        made = parts()
        network: Net = made["model"]
        network.register_forward_pre_hook(lambda _, inputs: (nn.functional.dropout(inputs[0], rate),))
        return made

    found = one("backward", side(dropped, rate=0.3), side(dropped, rate=0.5))

    assert found.status is Status.UNDECIDED
    assert "draws random numbers: turn dropout off" in found.reason
