"""Planted faults that ordinary inputs do not show are found and made small; what is right is not accused."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from benchmarks.fuzzed import FAULTS
from benchmarks.fuzzed.pairs import fault_sides, pair_of
from torch import nn

from regraft.compare.weight_map import WeightMap
from regraft.conceptual.fuzzing import Fuzzed, Pair, fuzz
from regraft.conceptual.fuzzing.domain import domain_of
from regraft.runtime.torch_factory import torch_model

NO_MAP = WeightMap((), {}, {})


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def searched(name: str, inputs: int, seed: int = 0) -> Fuzzed:
    """The search ends by the number of inputs: 3,600 s are never reached."""
    pair, _ = pair_of(*fault_sides(FAULTS[name]))
    return fuzz(pair, seconds=3600, inputs=inputs, seed=seed)


def own(reference: nn.Module, candidate: nn.Module, x: torch.Tensor, seed: int = 0) -> Pair:
    models = [torch_model(network, {"x": x}, threads=1) for network in (reference, candidate)]
    return Pair(*models, {"x": x.numpy()}, inputs={"x": "x"}, weight_map=NO_MAP, values={}, seed=seed)


def test_the_last_token_is_found_and_stands_alone_in_the_smallest_inputs() -> None:
    found = searched("LastToken", 50).counterexample
    assert found is not None
    assert found.checkpoint.name == "own"
    assert found.feeds["ids"].tolist() == [[36]]  # the size of the vocabulary was found by asking: 37
    assert found.found["ids"].size > 1


def test_a_branch_that_is_not_used_yet_shows_with_other_weights_alone() -> None:
    found = searched("UnusedBranch", 60).counterexample
    assert found is not None
    assert found.checkpoint.name != "own"


def test_a_size_that_the_signature_fixes_by_example_is_tried() -> None:
    found = searched("SameAtOddSizes", 120).counterexample
    assert found is not None
    assert any(size % 2 for size in found.feeds["x"].shape[2:])


class Norm(nn.Module):
    """Of a hundred times the input, written out: by two passes, or by one, which cancels where the mean is large."""

    def __init__(self, *, eps: float = 1e-5, is_fast: bool = False) -> None:
        super().__init__()
        self.eps, self.is_fast = eps, is_fast

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = 100 * x
        mean = x.mean(-1, keepdim=True)
        spread = ((x - mean) ** 2).mean(-1, keepdim=True)
        if self.is_fast:
            spread = ((x * x).mean(-1, keepdim=True) - mean * mean).clamp(min=0)
        return (x - mean) * torch.rsqrt(spread + self.eps)


def test_a_search_is_the_same_again_with_the_same_seed() -> None:
    pairs = [own(Norm(), Norm(eps=1e-3), torch.ones(2, 16), seed=3) for _ in range(2)]
    once, again = (fuzz(pair, seconds=3600, inputs=100, seed=3).counterexample for pair in pairs)
    assert once is not None
    assert again is not None
    assert (once.inputs, once.outcome) == (again.inputs, again.outcome)
    np.testing.assert_array_equal(once.feeds["x"], again.feeds["x"])


def test_an_order_of_sums_that_loses_digits_is_noted_and_not_accused() -> None:
    found = fuzz(own(Norm(), Norm(is_fast=True), torch.ones(2, 16)), seconds=3600, inputs=150)
    assert found.counterexample is None
    assert found.rounding is not None


class Tanh(nn.Module):
    """By its own operator, or by exponentials; for rows of any length, or of eight numbers alone."""

    def __init__(self, *, by_hand: bool = False, is_fixed: bool = False) -> None:
        super().__init__()
        self.by_hand, self.is_fixed = by_hand, is_fixed

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.view(x.shape[0], 8) if self.is_fixed else x
        return 1 - 2 / ((2 * x).exp() + 1) if self.by_hand else x.tanh()


def test_nothing_found_is_told_with_its_bound() -> None:
    found = fuzz(own(Tanh(), Tanh(by_hand=True), torch.ones(2, 8)), seconds=3600, inputs=150)
    assert found.counterexample is None
    assert found.bound == pytest.approx(3 / found.independent, rel=0.05)  # the rule of three


def test_a_length_that_only_the_reference_takes_is_told() -> None:
    found = fuzz(own(Tanh(), Tanh(is_fixed=True), torch.ones(2, 8)), seconds=3600, inputs=60)
    (refusal,) = [one for one in found.refusals if set(one.setting) == {"x.1"}]
    assert not refusal.is_declared
    assert found.counterexample is None


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x).tanh()


def test_inputs_of_every_kind_show_faults_that_are_planted_in_the_reference() -> None:
    pair = own(Layer(), Layer(), torch.ones(2, 8))
    found = pair.coverage([{"x": np.random.default_rng(0).normal(size=(2, 8)).astype(np.float32)}], seconds=60)
    assert found.share is not None
    assert found.share.value == 1.0


def test_free_axes_and_ranges_are_found_by_asking() -> None:
    reference, candidate, feeds = fault_sides(FAULTS["LastToken"])
    domain, _, _ = domain_of(reference, candidate, feeds, inputs={name: name for name in feeds})
    assert domain.ranges == {"ids": (0, 36), "mask": (0, 1)}
    assert {port.name: port.shape for port in domain.ports} == {"ids": ("batch", "ids.1"), "mask": ("batch", "ids.1")}
    assert max(domain.sizes["ids.1"]) <= 64  # positions
