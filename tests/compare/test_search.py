from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from regraft.compare.judge import Judgement, threshold
from regraft.compare.measure import Yardstick
from regraft.compare.search import Found, worst_feeds
from regraft.package.formats import Port
from regraft.runtime.feeds import FeedCase
from regraft.runtime.interface import Model
from regraft.runtime.onnxruntime_model import OnnxRuntimeModel
from regraft.runtime.torch_module import TorchModel

SAME = {"x": "x"}


class Bounded(nn.Module):
    """Activations of normal feeds stay below 5; the bound is at 6."""

    def __init__(self, bound: float) -> None:
        super().__init__()
        self.bound = bound
        self.first = nn.Linear(12, 32)
        self.last = nn.Linear(32, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.clamp(self.first(x), 0.0, self.bound))


def bounded(bound: float) -> TorchModel:
    torch.manual_seed(0)
    network = Bounded(bound).eval()
    with torch.no_grad():
        network.first.weight.mul_(1.3)
    return TorchModel(network, inputs=[Port("x", "float32", ("batch", 12))])


def normal_cases() -> list[FeedCase]:
    random = np.random.default_rng(5)
    return [
        FeedCase(f"normal {rows}", {"x": random.normal(size=(rows, 12)).astype(np.float32)}, "normal")
        for rows in (1, 3, 17)
    ]


def searched(reference: Model, candidate: Model, cases: list[FeedCase], **options: int) -> Found:
    yardstick = Yardstick(reference, cases[0].feeds)
    names = {name: name for name in reference(cases[0].feeds)}
    return worst_feeds(
        yardstick,
        candidate,
        cases,
        inputs={name: name for name in cases[0].feeds},
        outputs=names,
        limits=threshold(yardstick.method, "float32"),
        time_s=120.0,
        **options,
    )


def test_a_bound_that_the_given_feeds_do_not_reach_is_found() -> None:
    reference, candidate = bounded(6.0), bounded(float("inf"))
    largest = max(reference.module.first(torch.from_numpy(case.feeds["x"])).max().item() for case in normal_cases())
    assert largest < 5.0
    found = searched(reference, candidate, normal_cases())
    assert found.history[0].passes == 0
    assert found.history[0].severity < 0.5  # on the feeds that were given there is rounding alone
    assert found.judgement is Judgement.BEYOND
    assert found.stopped_by == "found"
    assert found.case.feeds["x"].min() >= min(case.feeds["x"].min() for case in normal_cases())
    assert found.case.feeds["x"].max() <= max(case.feeds["x"].max() for case in normal_cases())
    ours, theirs = reference(found.case.feeds), candidate(found.case.feeds)
    assert max(float(np.abs(ours[name] - theirs[name]).max()) for name in ours) > 1e-4  # rounding is some 1e-7 here


def test_a_search_is_the_same_again_with_the_same_seed() -> None:
    first, again = (searched(bounded(6.0), bounded(float("inf")), normal_cases(), seed=2) for _ in range(2))
    assert first.history == again.history
    np.testing.assert_array_equal(first.case.feeds["x"], again.case.feeds["x"])


def test_passes_bound_it() -> None:
    found = searched(bounded(6.0), bounded(6.0), normal_cases(), passes=30)
    assert found.stopped_by == "passes"
    assert 30 <= found.passes < 30 + 12 * 4
    assert found.judgement is Judgement.WITHIN


class Chosen(nn.Module):
    """The larger of two sums that are equal but for rounding decides: next to the tie, anything differs."""

    def __init__(self, *, is_summed_first: bool) -> None:
        super().__init__()
        self.is_summed_first = is_summed_first
        generator = torch.Generator().manual_seed(1)
        self.register_buffer("weight", torch.randn(12, 12, generator=generator))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x @ self.weight
        total = x @ self.weight.sum(1, keepdim=True) if self.is_summed_first else y.sum(1, keepdim=True)
        return torch.where(total > 0, y, -y)


def test_a_difference_beside_a_tie_is_not_kept() -> None:
    """Rows whose sum is rounding alone, so chosen that the reference is right about its sign and the candidate not."""
    reference, candidate = (
        TorchModel(Chosen(is_summed_first=which), inputs=[Port("x", "float32", ("batch", 12))])
        for which in (False, True)
    )
    exact = Chosen(is_summed_first=False).double()
    direction = exact.weight.sum(1)
    random = np.random.default_rng(0)
    x = torch.from_numpy(random.normal(size=(400, 12)))
    x = (x - (x @ direction)[:, None] * direction / direction.dot(direction)).float()
    ours, theirs = (next(iter(model({"x": x.numpy()}).values())) for model in (reference, candidate))
    truth = exact(x.double()).numpy()
    is_tie = (np.sign(ours) == np.sign(truth)).all(axis=1) & (np.sign(theirs) != np.sign(truth)).all(axis=1)
    assert is_tie.sum() >= 3
    ties = FeedCase("ties", {"x": x.numpy()[is_tie]}, "data")
    smooth = FeedCase("plain", {"x": random.normal(size=(24, 12)).astype(np.float32)}, "data")
    found = searched(reference, candidate, [smooth, ties], passes=24)
    assert found.unstable >= 1
    assert found.judgement is not Judgement.BEYOND


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet", "encoder", "lstm", "gru", "control_flow"])
def test_benign_pairs_stay_below_the_benign_threshold(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search has 96 tries to make a false alarm of rounding."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    from benchmarks.mutations import architectures
    from benchmarks.mutations.benign import rewritten

    of = architectures.reference(name)
    reference = OnnxRuntimeModel(of.proto.SerializeToString(), threads=1, optimise=False)
    cases = [FeedCase(f"data {i}", dict(feeds), "data") for i, feeds in enumerate(of.feeds)]
    for rewrite in ("ort_all", "gemm_as_matmul", "layernorm_decomposed", "batchnorm_folded"):
        candidate = rewritten(name, rewrite)
        if candidate is not None:
            model = OnnxRuntimeModel(candidate.SerializeToString(), threads=1, optimise=False)
            found = searched(reference, model, cases, passes=96, stop_beyond=False)
            assert found.judgement is Judgement.WITHIN, (rewrite, found.ratio, found.case.name)
