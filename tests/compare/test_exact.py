from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from regraft.compare.exact import exact_model, lower_tensors
from regraft.compare.measure import EXACT, JITTER, Yardstick
from regraft.errors import Unsupported
from regraft.package.formats import Port
from regraft.runtime.feeding import feeds_for
from regraft.runtime.torch_module import TorchModel


class Island(nn.Module):
    """A norm that is computed in float32 whatever comes in, as many decoders do."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(12))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = x.to(torch.float32)
        return self.weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)).to(x.dtype)


class Opaque(nn.Module):
    """Numbers that leave torch: no cast reaches them."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(np.float32(x.numpy()).cumsum(-1, dtype=np.float32)).to(x.dtype)


def model(network: nn.Module) -> TorchModel:
    return TorchModel(network, inputs=[Port("x", "float32", ("batch", 12))])


FEEDS = {"x": np.random.default_rng(0).normal(size=(3, 12)).astype(np.float32)}


def test_an_island_of_float32_is_seen_though_the_outputs_are_float64() -> None:
    cast = model(Island()).cast("float64")
    assert cast(feeds_for(cast, FEEDS))["output_0"].dtype == np.float64
    assert any("float32" in found for found in lower_tensors(cast, FEEDS))


def test_an_island_is_lifted_in_the_exported_graph() -> None:
    reference = model(Island())
    exact = exact_model(reference, FEEDS)
    truth = exact(feeds_for(exact, FEEDS))
    x = FEEDS["x"].astype(np.float64)
    weight = reference.module.weight.detach().double().numpy()
    wanted = weight * x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)
    assert np.abs(next(iter(truth.values())) - wanted).max() < 1e-14  # a few roundoffs of float64


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.yes, self.no = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cond(x.sum() > 0, lambda x: torch.relu(self.yes(x)), lambda x: torch.tanh(self.no(x)), (x,))


def test_a_network_that_branches_is_exact_and_runs_on_afterwards() -> None:
    model = TorchModel(Branching(), inputs=[Port("x", "float32", ("batch", 4))])
    for sign in (1, -1):
        feeds = {"x": np.full((2, 4), sign, np.float32)}
        before = model(feeds)["output_0"]
        assert exact_model(model, feeds)({"x": feeds["x"].astype(np.float64)})["output_0"].dtype == np.float64
        assert (model(feeds)["output_0"] == before).all()


def test_what_cannot_be_exact_falls_back_to_jitter() -> None:
    with pytest.raises(Unsupported):
        exact_model(model(Opaque()), FEEDS)
    yardstick = Yardstick(model(Opaque()), FEEDS)
    assert yardstick.method == JITTER
    assert yardstick.reason
    (answer,) = yardstick.answers([FEEDS])
    relative = answer.own["float32"]["output_0"].relative
    assert 1e-8 < relative < 1e-6


def test_an_ordinary_network_is_exact_in_float64(network: nn.Module) -> None:
    yardstick = Yardstick(model(network), FEEDS)
    assert yardstick.method == EXACT
    (answer,) = yardstick.answers([FEEDS])
    assert answer.truth["output_0"].dtype == np.float64
    assert 1e-9 < answer.own["float32"]["output_0"].relative < 1e-6


def test_jitter_and_float64_find_floors_of_one_size(network: nn.Module) -> None:
    reference = model(network)
    found = []
    for method in (EXACT, JITTER):
        (answer,) = Yardstick(reference, FEEDS, method=method).answers([FEEDS])
        found.append(answer.own["float32"]["output_0"].relative)
    assert 0.1 < found[0] / found[1] < 10


def test_jitter_leaves_the_reference_as_it_was(network: nn.Module) -> None:
    before = [parameter.clone() for parameter in network.parameters()]
    list(Yardstick(model(network), FEEDS, method=JITTER).answers([FEEDS]))
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


class Classes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(12))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x * self.scale).sum(-1).round().to(torch.int64)


def test_an_integer_is_unstable_only_where_the_references_own_runs_disagree() -> None:
    x = np.full((2, 12), 0.125, dtype=np.float32)
    x[1] = 0.2  # the first row sums to 1.5, a tie between 1 and 2; the second to 2.4, which is far from one
    (answer,) = Yardstick(model(Classes()), {"x": x}, method=JITTER).answers([{"x": x}])
    unstable = answer.unstable["output_0"]
    assert unstable.tolist() == [True, False]
