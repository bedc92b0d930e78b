"""Networks as users write them: one, and re-implementations that are right, wrong, or no networks to be traced."""

from __future__ import annotations

import sys

import torch
from torch import nn

EXAMPLE = {"x": torch.ones(3, 6)}


class Network(nn.Module):
    """Norm, two layers, a head."""

    def __init__(self, *, depth: int = 2, width: int = 8, eps: float = 1e-5, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.entry, self.norm = nn.Linear(6, width), nn.LayerNorm(width, eps=eps)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.head = nn.Linear(width, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.entry(x))
        for layer in self.layers:
            x = x + layer(x).tanh()
        return self.head(x)


class Renamed(nn.Module):
    """The same, its weights in one list, transposed, declared from the end to the beginning."""

    def __init__(self, *, eps: float = 1e-5) -> None:
        super().__init__()
        shapes = [(8, 4), (4,), (8, 8), (8,), (8, 8), (8,), (8,), (8,), (6, 8), (8,)]
        self.w = nn.ParameterList(nn.Parameter(torch.randn(shape)) for shape in shapes)
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        w = self.w
        x = nn.functional.layer_norm(x @ w[8] + w[9], [8], w[6], w[7], self.eps)
        x = x + (x @ w[4] + w[5]).tanh()
        x = x + (x @ w[2] + w[3]).tanh()
        return x @ w[0] + w[1]


class SpeltOut(Network):
    """Its norm is written as compilers write it: sums, quotients, and what is taken twice computed twice."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.entry(x)
        square = (x - x.sum(-1, keepdim=True) / 8) * (x - x.sum(-1, keepdim=True) / 8)
        variance = square.sum(-1, keepdim=True) / 8
        x = (x - x.sum(-1, keepdim=True) / 8) / (variance + self.norm.eps).sqrt() * self.norm.weight + self.norm.bias
        for layer in self.layers:
            x = x + layer(x).tanh()
        return self.head(x)


class PreNorm(nn.Module):
    """A norm in front of every layer, and one behind the last."""

    def __init__(self, *, depth: int) -> None:
        super().__init__()
        self.entry, self.head = nn.Linear(6, 8), nn.Linear(8, 4)
        self.layers = nn.ModuleList(nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8), nn.Tanh()) for _ in range(depth))
        self.a_norm = nn.LayerNorm(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.entry(x)
        for layer in self.layers:
            x = x + layer(x)
        return self.head(self.a_norm(x))


class Flattened(nn.Module):
    """An image that is flattened behind a convolution of one place, channels first or last."""

    def __init__(self, order: tuple[int, ...]) -> None:
        super().__init__()
        self.stem, self.point = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 1)
        self.head, self.order = nn.Linear(6 * 9, 4), order

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.point(self.stem(x).relu()).relu().permute(self.order).flatten(1))


class Random(Network):
    """Dropout that nobody switches off."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(nn.functional.dropout(x, 0.5, training=True))


class Silent(Network):
    """Returns nothing."""

    def forward(self, x: torch.Tensor) -> None:
        super().forward(x)


class Stopping(Network):
    """Stops whatever it is given."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("out of order")


class Branching(Network):
    """What is computed depends on the numbers."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) if x.sum() > 0 else self.head(self.entry(x))


def reference():
    return Network(), EXAMPLE


def renamed():
    return Renamed(), EXAMPLE


def other_epsilon():
    return Renamed(eps=1e-3), EXAMPLE


def deeper():
    return Network(depth=3, seed=1), EXAMPLE


def spelt_out():
    return SpeltOut(seed=1), EXAMPLE


def spelt_out_wrongly():
    return SpeltOut(eps=1e-3, seed=1), EXAMPLE


def with_norms():
    return PreNorm(depth=2), EXAMPLE


def with_norms_deeper():
    return PreNorm(depth=3), EXAMPLE


def channels_first():
    return Flattened((0, 1, 2, 3)), {"x": torch.ones(2, 3, 5, 5)}


def channels_last():
    return Flattened((0, 2, 3, 1)), {"x": torch.ones(2, 3, 5, 5)}


def wider():
    return Network(width=12, seed=1), EXAMPLE


def random():
    return Random(seed=1), EXAMPLE


def branching():
    return Branching(seed=1), EXAMPLE


def wrongly_filled():
    """The reference's own weights, one of them transposed."""
    network = Network()
    with torch.no_grad():
        network.layers[1].weight.copy_(network.layers[1].weight.T.clone())
    return network, EXAMPLE


class Two(Network):
    """The same with a second output."""

    def __init__(self) -> None:
        super().__init__()
        self.pooler = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        y = super().forward(x)
        return {"scores": y, "pooled": self.pooler(y).tanh()}


class One(Renamed):
    """The first output of these alone."""

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"scores": super().forward(x)}


def two_outputs():
    return Two(), EXAMPLE


def one_output():
    return One(), EXAMPLE


class Dead(Network):
    """A layer that nothing uses."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(8, 8)


def dead():
    return Dead(), EXAMPLE


def raising():
    raise ZeroDivisionError("nothing to divide by")


def leaving():
    sys.exit(0)


def silent():
    return Silent(), EXAMPLE


def stopping():
    return Stopping(), EXAMPLE
