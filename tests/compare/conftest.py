"""Small networks that most tests of comparing need."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from regraft.package.formats import Port
from regraft.runtime.torch_module import TorchModel


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(12, 32)
        self.norm = nn.LayerNorm(32, eps=1e-5)
        self.act = nn.GELU()
        self.last = nn.Linear(32, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.act(self.norm(self.first(x))))


def wrapped(network: nn.Module) -> TorchModel:
    return TorchModel(network, inputs=[Port("x", "float32", ("batch", 12))], where="network")


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    return Network()
