"""A network of tokens, and re-implementations: right, wrong at the last token alone, and wrong everywhere."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

V, D = 23, 8  # vocabulary, width


class Tokens(nn.Module):
    """Embedding and head."""

    def __init__(self, last: int = V - 1, eps: float = 1e-5) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.norm, self.head = nn.Embedding(V, D), nn.LayerNorm(D, eps=eps), nn.Linear(D, 9)
        self.last = last

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.words(ids.clamp(max=self.last) if self.last < V - 1 else ids)))


def _with_example(network: nn.Module) -> tuple[nn.Module, dict[str, Any]]:
    return network, {"ids": torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8], [9, 1, 2, 3]])}


def tokens() -> tuple[nn.Module, dict[str, Any]]:
    return _with_example(Tokens())


sound = tokens


def clipped() -> tuple[nn.Module, dict[str, Any]]:
    return _with_example(Tokens(last=V - 2))


def shifted() -> tuple[nn.Module, dict[str, Any]]:
    """Its own weights are those of the reference, but for the last token's."""
    network = Tokens()
    network.words.weight.data[V - 1] += 1 + torch.arange(D) / D
    return _with_example(network)


def other() -> tuple[nn.Module, dict[str, Any]]:
    return _with_example(Tokens(eps=1e-1))


class Sum(nn.Module):
    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return left + right


def of_two() -> tuple[nn.Module, dict[str, Any]]:
    return Sum(), {"left": torch.ones(2, 3), "right": torch.ones(2, 3)}
