"""Weights that are multiplied among each other before data meets them: frequencies of rotary positions."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from regraft.compare.weight_map import map_weights
from regraft.runtime.torch_factory import torch_model


class Turned(nn.Module):
    """A projection, turned by angles that come of a table of frequencies, as transformers writes it."""

    def __init__(self, name: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.add_module(name, nn.Linear(6, 8))
        self.register_buffer("frequencies", 10.0 ** -torch.arange(0, 1, 0.25))
        self.name = name

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = getattr(self, self.name)(x)  # (B, T, D)
        places = torch.arange(x.shape[1])[None, None].float()  # (1, 1, T)
        angles = (self.frequencies[None, :, None].expand(1, -1, 1) @ places).transpose(1, 2)  # (1, T, D / 2)
        wide = torch.cat([angles, angles], -1)
        left, right = y.chunk(2, -1)
        return y * wide.cos() + torch.cat([-right, left], -1) * wide.sin()


def test_frequencies_are_followed_through_their_product_with_places() -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 6)).astype(np.float32)
    sides = [torch_model(Turned(name), {"x": torch.from_numpy(x)}, threads=1) for name in ("one", "other")]
    found = map_weights(*sides, {"x": x}, inputs={"x": "x"})
    assert {name: found.status_of(name) for name in found.shapes} == dict.fromkeys(
        ["other.weight", "other.bias", "frequencies"], "proven"
    )
