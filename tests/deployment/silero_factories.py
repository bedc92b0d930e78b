"""silero's TorchScript program as its ONNX file takes its inputs; `SILERO` names its folder."""

from __future__ import annotations

import os

import torch
from torch import nn

CONTEXT = 64
"""Samples of the window before that the program puts in front of a new one, and the ONNX file wants there."""


class Padded(nn.Module):
    """Windows that have their context in front."""

    def __init__(self) -> None:
        super().__init__()
        program = torch.jit.load(os.path.join(os.environ["SILERO"], "silero_vad.jit"), map_location="cpu")
        self.inner = program._model

    def forward(
        self, samples: torch.Tensor, state: torch.Tensor, sr: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return self.inner(samples, state)


class Window(Padded):
    """New samples alone, as whoever calls the program has them."""

    def forward(
        self, samples: torch.Tensor, state: torch.Tensor, sr: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return self.inner(nn.functional.pad(samples, (CONTEXT, 0)), state)


def padded() -> tuple[nn.Module, dict[str, torch.Tensor]]:
    return Padded(), _examples(512 + CONTEXT)


def window() -> tuple[nn.Module, dict[str, torch.Tensor]]:
    return Window(), _examples(512)


def _examples(count: int) -> dict[str, torch.Tensor]:
    return {"samples": torch.zeros(3, count), "state": torch.zeros(2, 3, 128), "sr": torch.tensor(16000)}
