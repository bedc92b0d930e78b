"""Seven architectures whose conversion goes wrong in different ways, with random weights, as factories.

Residual convolutions, attention with a mask, a decoder with a cache, depthwise convolutions with
squeeze-and-excitation, a recurrent network, one that resizes, and one that branches on its input.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812  as everyone calls it
from benchmarks.resnet import resnet18
from torch import Tensor, nn

D = 32
HEADS = 4
VOCABULARY = 64

Built = tuple[nn.Module, dict[str, Tensor]]


def resnet() -> Built:
    """ResNet-18 at 64 × 64."""
    network, _ = resnet18()
    return network, {"input": torch.randn(2, 3, 64, 64)}


def bert() -> Built:
    """An encoder with a padding mask."""
    torch.manual_seed(0)
    ids = torch.randint(0, VOCABULARY, (2, 9))
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    return Encoder().eval(), {"input_ids": ids, "attention_mask": mask}


def decoder() -> Built:
    """One step of a decoder with rotary positions, a cache of keys and values, and tied embeddings."""
    torch.manual_seed(0)
    past = {name: torch.randn(2, HEADS, 5, D // HEADS) for name in ("past_key", "past_value")}
    return Decoder().eval(), {"input_ids": torch.randint(0, VOCABULARY, (2, 3)), **past}


def mobilenet() -> Built:
    """Inverted residuals with squeeze-and-excitation and hard swish."""
    torch.manual_seed(0)
    return MobileNet().eval(), {"image": torch.randn(2, 3, 48, 48)}


def lstm() -> Built:
    """Two layers, both directions."""
    torch.manual_seed(0)
    return Recurrent(nn.LSTM).eval(), {"x": torch.randn(2, 7, 12)}


def gru() -> Built:
    """A GRU whose states are resized and convolved."""
    torch.manual_seed(0)
    return Resizing().eval(), {"x": torch.randn(2, 7, 12)}


def branching() -> Built:
    """`torch.cond` on the sum of the input."""
    torch.manual_seed(0)
    return Branching().eval(), {"x": torch.randn(3, 12)}


class Attention(nn.Module):
    """Fused projections, heads of 8."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(D, 3 * D), nn.Linear(D, D)

    def heads(self, x: Tensor) -> tuple[Tensor, ...]:
        q, k, v = self.qkv(x).chunk(3, -1)
        return tuple(y.unflatten(-1, (HEADS, D // HEADS)).transpose(1, 2) for y in (q, k, v))  # (B, nh, T, hs)

    def joined(self, y: Tensor) -> Tensor:
        return self.out(y.transpose(1, 2).flatten(2))  # (B, T, D)


class Encoder(nn.Module):
    """Two layers, normalised after each, and a pooled head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.position = nn.Embedding(VOCABULARY, D), nn.Embedding(64, D)
        self.attention = nn.ModuleList(Attention() for _ in range(2))
        self.first = nn.ModuleList(nn.LayerNorm(D, eps=1e-12) for _ in range(2))
        self.second = nn.ModuleList(nn.LayerNorm(D, eps=1e-12) for _ in range(2))
        self.mlp = nn.ModuleList(nn.Sequential(nn.Linear(D, 4 * D), nn.GELU(), nn.Linear(4 * D, D)) for _ in range(2))
        self.head = nn.Linear(D, 5)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        x = self.embed(input_ids) + self.position(places)  # (B, T, D)
        bias = (1.0 - attention_mask[:, None, None, :].to(x.dtype)) * -1e9
        for attention, first, mlp, second in zip(self.attention, self.first, self.mlp, self.second, strict=True):
            q, k, v = attention.heads(x)
            x = first(x + attention.joined(F.scaled_dot_product_attention(q, k, v, attn_mask=bias)))
            x = second(x + mlp(x))
        return self.head(torch.tanh(x[:, 0]))


class Decoder(nn.Module):
    """One layer; returns logits and the longer cache."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.attention = nn.Embedding(VOCABULARY, D), Attention()
        self.norm = nn.RMSNorm(D, eps=1e-6)
        self.gate, self.up, self.down = nn.Linear(D, 64), nn.Linear(D, 64), nn.Linear(64, D)

    def forward(self, input_ids: Tensor, past_key: Tensor, past_value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.embed(input_ids)  # (B, T, D)
        start, length = past_key.shape[2], input_ids.shape[1]
        q, k, v = self.attention.heads(self.norm(x))
        angle = self._angles(start, length)
        q, k = self._rotated(q, angle), self._rotated(k, angle)
        k, v = torch.cat([past_key, k], 2), torch.cat([past_value, v], 2)
        rows = torch.arange(length)[:, None] + start
        hidden = torch.arange(start + length)[None, :] > rows  # (T, S)
        scores = (q @ k.transpose(-1, -2) / (D // HEADS) ** 0.5).masked_fill(hidden, -1e9)
        x = x + self.attention.joined(scores.softmax(-1) @ v)
        h = self.norm(x)
        x = x + self.down(F.silu(self.gate(h)) * self.up(h))
        return x @ self.embed.weight.T, k, v

    def _angles(self, start: int, length: int) -> Tensor:
        half = D // HEADS // 2
        frequency = 10000.0 ** (-torch.arange(half) / half)
        return (torch.arange(length) + start)[:, None] * frequency  # (T, hs / 2)

    def _rotated(self, x: Tensor, angle: Tensor) -> Tensor:
        a, b = x.chunk(2, -1)
        return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1)


class MobileNet(nn.Module):
    """Three blocks and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.Hardswish())
        self.blocks = nn.Sequential(Inverted(16, 16, 1), Inverted(16, 24, 2), Inverted(24, 24, 1))
        self.head = nn.Linear(24, 10)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(F.adaptive_avg_pool2d(self.blocks(self.stem(image)), 1).flatten(1))


class Inverted(nn.Module):
    """Expand, depthwise, squeeze and excite, project."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        wide = 3 * channels_in
        self.expand = nn.Sequential(nn.Conv2d(channels_in, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.Hardswish())
        self.depth = nn.Sequential(
            nn.Conv2d(wide, wide, 5, stride, 2, groups=wide, bias=False), nn.BatchNorm2d(wide), nn.Hardswish()
        )
        self.squeeze, self.excite = nn.Conv2d(wide, 8, 1), nn.Conv2d(8, wide, 1)
        self.project = nn.Sequential(nn.Conv2d(wide, channels, 1, bias=False), nn.BatchNorm2d(channels))
        self.is_residual = stride == 1 and channels_in == channels

    def forward(self, x: Tensor) -> Tensor:
        h = self.depth(self.expand(x))
        scale = F.hardsigmoid(self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(h, 1)))))
        y = self.project(h * scale)
        return x + y if self.is_residual else y


class Recurrent(nn.Module):
    """Recurrent layers and a head on the mean of their states."""

    def __init__(self, kind: Callable[..., nn.Module]) -> None:
        super().__init__()
        self.rnn = kind(12, 16, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.rnn(x)  # (B, T, 2 × 16)
        return self.head(states.mean(1))


class Resizing(nn.Module):
    """A GRU, then its states over time as a picture that is doubled and convolved."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(12, 16, batch_first=True)
        self.conv = nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.rnn(x)  # (B, T, 16)
        doubled = F.interpolate(states[:, None], scale_factor=2.0, mode="bilinear", align_corners=False)
        return self.conv(doubled).amax((2, 3))


class Branching(nn.Module):
    """One of two networks, chosen by the input."""

    def __init__(self) -> None:
        super().__init__()
        self.yes, self.no = nn.Linear(12, 6), nn.Linear(12, 6)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cond(x.sum() > 0, lambda x: torch.relu(self.yes(x)), lambda x: torch.tanh(self.no(x)), (x,))
