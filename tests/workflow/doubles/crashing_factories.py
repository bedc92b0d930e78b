"""The user's own networks, as `py:` references; one brings its process down, one never ends."""

from __future__ import annotations

import ctypes
import time

import torch


class Net(torch.nn.Module):
    """Two layers; what happens first in a pass is up to the factory."""

    def __init__(self, before: object = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.GELU(), torch.nn.Linear(8, 3))
        self.before = before

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.before is not None:
            self.before()
        return self.layers(x)


def sound():
    return Net(), {"x": torch.zeros(1, 4)}


def crashing():
    return Net(lambda: ctypes.string_at(0)), {"x": torch.zeros(1, 4)}


def hanging():
    return Net(lambda: time.sleep(600)), {"x": torch.zeros(1, 4)}
