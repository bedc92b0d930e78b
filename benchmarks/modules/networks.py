"""The networks: an image classifier, an encoder, a decoder, a recurrent one, and a detection head."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from benchmarks.modules.parts import (
    BatchNorm,
    Call,
    RootMeanSquare,
    Tied,
    initialised,
    masked,
    mean_over_time,
    turned,
)
from torch import nn
from torch.nn import functional as F  # noqa: N812  as torch's own code calls it

from regraft.package.formats import Port
from regraft.runtime.torch_module import TorchModel

WIDTH, HEADS, VOCABULARY = 16, 2, 37


class Image(nn.Module):
    """Convolutions, also by channel, pools of both kinds, an up-sampling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norm, self.act = BatchNorm(8), nn.LeakyReLU(0.1)
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.norm2, self.act2 = BatchNorm(8), nn.Hardswish()
        self.average = nn.AvgPool2d(3, 2, padding=1, count_include_pad=False)
        self.wide = nn.Conv2d(8, 8, 3, padding=1)
        self.upsample = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.last = nn.Conv2d(8, 8, 3)
        self.head, self.softmax = nn.Linear(8, 5), Call(torch.softmax, dim=-1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.act(self.norm(self.stem(x))))
        x = self.act2(self.norm2(self.depthwise(x)))
        x = self.last(self.upsample(self.wide(self.average(x))))
        return self.softmax(self.head(x.mean((2, 3))))


class Encoder(nn.Module):
    """One layer of BERT with attention written out, positions counted from the mask, and tied output weights."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(24, WIDTH)
        self.count = Call(torch.cumsum, dim=1)
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.scale = Call(torch.mul, other=(WIDTH // HEADS) ** -0.5)
        self.mask, self.softmax = Call(masked, value=-1e9), Call(torch.softmax, dim=-1)
        self.dropout = Call(F.dropout, p=0.1, training=False)
        self.norm, self.norm2 = nn.LayerNorm(WIDTH, eps=1e-5), nn.LayerNorm(WIDTH, eps=1e-5)
        self.up, self.act, self.down = nn.Linear(WIDTH, 40), nn.GELU(), nn.Linear(40, WIDTH)
        self.head = Tied(self.words)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        B, T = ids.shape  # noqa: N806
        x = self.words(ids) + self.places(self.count(mask) * mask)
        query, key, value = (
            part(x).view(B, T, HEADS, -1).transpose(1, 2) for part in (self.query, self.key, self.value)
        )  # (B, nh, T, hs)
        scores = self.mask(self.scale(query @ key.transpose(-1, -2)), (mask == 0)[:, None, None])
        mixed = (self.dropout(self.softmax(scores)) @ value).transpose(1, 2).reshape(B, T, WIDTH)
        x = self.norm(x + self.out(mixed))
        return self.head(self.norm2(x + self.down(self.act(self.up(x)))))


class Decoder(nn.Module):
    """Fused causal attention, rotated halves, relative buckets by integer division, a gate, clipped scores."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, WIDTH)
        self.buckets = Call(torch.div, other=3, rounding_mode="floor")
        self.relative = nn.Embedding(32, WIDTH)
        self.norm, self.norm2 = RootMeanSquare(WIDTH), RootMeanSquare(WIDTH)
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(4))
        self.turn = Call(turned, sign=-1.0)
        self.attention = Call(F.scaled_dot_product_attention, is_causal=True, scale=None)
        self.gate, self.up, self.down = nn.Linear(WIDTH, 24), nn.Linear(WIDTH, 24), nn.Linear(24, WIDTH)
        self.act = nn.SiLU()
        self.clip = Call(torch.clamp, min=-2.0, max=2.0)
        self.head = nn.Linear(WIDTH, VOCABULARY)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        B, T = ids.shape  # noqa: N806
        place = self.buckets(torch.arange(T, device=ids.device) - 7) + 8
        x = self.words(ids) + self.relative(place)
        y = self.norm(x)
        query, key, value = (
            part(y).view(B, T, HEADS, -1).transpose(1, 2) for part in (self.query, self.key, self.value)
        )  # (B, nh, T, hs)
        mixed = self.attention(query + self.turn(query), key, value)
        x = x + self.out(mixed.transpose(1, 2).reshape(B, T, WIDTH))
        y = self.norm2(x)
        return self.head(self.clip(x + self.down(self.act(self.gate(y)) * self.up(y))))


class Recurrent(nn.Module):
    """An LSTM in both directions, a GRU behind it, a mean over time."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(7, WIDTH, batch_first=True, bidirectional=True)
        self.act = nn.ELU()
        self.gru = nn.GRU(2 * WIDTH, WIDTH, batch_first=True)
        self.mean = Call(mean_over_time, length=None)
        self.tanh, self.head = nn.Tanh(), nn.Linear(WIDTH, 4)
        self.scores = Call(F.log_softmax, dim=-1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.gru(self.act(self.lstm(x)[0]))[0]
        return self.scores(self.head(self.tanh(self.mean(x))))


class Detection(nn.Module):
    """Padding by reflection, group norms, two scales joined, boxes decoded and clipped."""

    def __init__(self) -> None:
        super().__init__()
        self.pad = Call(F.pad, pad=(1, 1, 1, 1), mode="reflect")
        self.first, self.norm, self.act = nn.Conv2d(3, 12, 3, stride=2), nn.GroupNorm(4, 12), nn.PReLU(12)
        self.second = nn.Conv2d(12, 12, 3, padding=2, dilation=2)
        self.up = nn.ConvTranspose2d(12, 12, 2, stride=2)
        self.nearest = nn.Upsample(scale_factor=2, mode="nearest")
        self.join = Call(torch.add, alpha=1)
        self.classes, self.boxes = nn.Conv2d(12, 3, 1), nn.Conv2d(12, 4, 1)
        self.sigmoid, self.size = nn.Sigmoid(), Call(torch.exp)
        self.clip = Call(torch.clamp, min=0.0, max=4.0)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.act(self.norm(self.first(self.pad(x))))
        y = self.join(self.up(self.second(x)), self.nearest(x))
        centre, extent = self.boxes(y).split(2, 1)
        return self.sigmoid(self.classes(y)), self.clip(torch.cat([centre, self.size(extent)], 1))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], list[Port]]] = {
    "image": (Image, [Port("x", "float32", ("batch", 3, "height", "width"))]),
    "encoder": (Encoder, [Port("ids", "int64", ("batch", "tokens")), Port("mask", "int64", ("batch", "tokens"))]),
    "decoder": (Decoder, [Port("ids", "int64", ("batch", "tokens"))]),
    "recurrent": (Recurrent, [Port("x", "float32", ("batch", "time", 7))]),
    "detection": (Detection, [Port("x", "float32", ("batch", 3, "height", "width"))]),
}
"""Name → what builds it, and its inputs."""


def network(name: str) -> nn.Module:
    """A network by name, the same weights every time."""
    torch.manual_seed(0)
    return initialised(NETWORKS[name][0](), seed=11)


def model(module: nn.Module, name: str) -> TorchModel:
    """A network, or what became of it, as a model."""
    return TorchModel(module, inputs=NETWORKS[name][1], where=name)


def feeds(name: str, *, seed: int = 0, is_other: bool = False) -> dict[str, np.ndarray]:
    """One set of inputs; sizes differ between axes, and from the example's where `is_other`."""
    random = np.random.default_rng(seed)
    if name in ("image", "detection"):
        shape = (2, 3, 14, 18) if is_other else (3, 3, 18, 14)
        return {"x": random.normal(size=shape).astype(np.float32)}
    if name == "recurrent":
        return {"x": random.normal(size=(2, 9, 7) if is_other else (3, 6, 7)).astype(np.float32)}
    rows, tokens = (2, 9) if is_other else (3, 11)
    ids = random.integers(1, VOCABULARY, (rows, tokens))
    if name == "decoder":
        return {"ids": ids}
    mask = (np.arange(tokens)[None] < tokens - 2 * np.arange(rows)[:, None]).astype(np.int64)
    return {"ids": ids * mask, "mask": mask}
