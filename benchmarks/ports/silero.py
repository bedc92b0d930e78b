"""Silero VAD at 16 kHz written anew in torch, and its publisher's TorchScript program as the reference.

Source: silero-vad 6.2.3: silero_vad/tinygrad_model.py has the layers, silero_vad/utils_vad.py the context of 64 samples
that precedes each chunk of 512.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

DATA = Path(os.environ.get("REGRAFT_TEST_ASSETS", "~/.cache/regraft/assets")).expanduser()
PROGRAM = DATA / "pypi-silero-vad-6.2.3/silero_vad/data/silero_vad.jit"
CHUNK, CONTEXT, WINDOW, HOP = 512, 64, 256, 128  # samples at 16 kHz
BINS, WIDTH = WINDOW // 2 + 1, 128


class Detector(nn.Module):
    """Probability of speech in a chunk that follows others."""

    def __init__(self) -> None:
        super().__init__()
        self.stft_conv = nn.Conv1d(1, 2 * BINS, WINDOW, stride=HOP, bias=False)
        self.conv1 = nn.Conv1d(BINS, 128, 3, padding=1)
        self.conv2 = nn.Conv1d(128, 64, 3, stride=2, padding=1)
        self.conv3 = nn.Conv1d(64, 64, 3, stride=2, padding=1)
        self.conv4 = nn.Conv1d(64, WIDTH, 3, padding=1)
        self.lstm_cell = nn.LSTMCell(WIDTH, WIDTH)
        self.final_conv = nn.Conv1d(WIDTH, 1, 1)

    def forward(self, x: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """x: (B, CONTEXT + CHUNK); state: (2, B, WIDTH), hidden and cell. The probability is (B, 1)."""
        x = self.stft_conv(F.pad(x, (0, WINDOW // 4), "reflect").unsqueeze(1))  # (B, 2 * BINS, 4)
        x = (x[:, :BINS] ** 2 + x[:, BINS:] ** 2).sqrt()
        for convolution in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = convolution(x).relu()
        h, c = self.lstm_cell(x.squeeze(-1), (state[0], state[1]))  # (B, WIDTH) each
        return self.final_conv(h.relu().unsqueeze(-1)).sigmoid().squeeze(-1), torch.stack([h, c])


class FirstChunk(Detector):
    """The first chunk of a recording: a context and a state of zeros."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (B, CHUNK). The probability is (B, 1)."""
        zeros = x.new_zeros(2, x.shape[0], WIDTH)
        return super().forward(F.pad(x, (CONTEXT, 0)), zeros)[0]


def program() -> tuple[Any, dict[str, torch.Tensor]]:
    """The part of the publisher's program that computes: it takes the state that the program around it keeps."""
    return torch.jit.load(str(PROGRAM), map_location="cpu")._model, EXAMPLES


def detector() -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """With random weights."""
    return Detector(), EXAMPLES


def first_chunk() -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """With random weights."""
    return FirstChunk(), {"x": torch.ones(3, CHUNK)}


EXAMPLES = {"x": torch.ones(3, CONTEXT + CHUNK), "state": torch.ones(2, 3, WIDTH)}
