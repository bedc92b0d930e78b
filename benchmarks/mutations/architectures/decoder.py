"""A decoder with a cache: past keys and values go in and come out, rotary positions, grouped queries, tied weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from benchmarks.mutations.architectures.exported import exported, kept
from benchmarks.mutations.interface import Feeds, Reference

VOCABULARY, WIDTH, HEADS, GROUPS, INNER, LAYERS = 131, 48, 6, 2, 80, 2
HEAD = WIDTH // HEADS


def references() -> list[Reference]:
    """One network of 2 layers, opset 18."""
    proto = kept("decoder", _export)
    return [Reference("decoder", "decoder", proto, [_feeds(3, 5, 4, 1), _feeds(2, 3, 9, 2), _feeds(4, 5, 4, 3)])]


def _feeds(batch: int, tokens: int, past: int, seed: int) -> Feeds:
    """`tokens` new ones after `past` old ones; the left side of every row but the first is padding."""
    random = np.random.default_rng(seed)
    padding = np.concatenate([[0], random.integers(1, past, batch - 1)])
    mask = (np.arange(past + tokens)[None] >= padding[:, None]).astype(np.int64)
    feeds: Feeds = {
        "input_ids": random.integers(0, VOCABULARY, (batch, tokens)).astype(np.int64),
        "attention_mask": mask,
    }
    for layer in range(LAYERS):
        for part in ("key", "value"):
            cache = random.standard_normal((batch, GROUPS, past, HEAD))
            feeds[f"past_{part}_{layer}"] = cache.astype(np.float32)
    return feeds


def _export() -> onnx.ModelProto:
    import torch

    network = _network()
    feeds = {name: torch.from_numpy(value) for name, value in _feeds(3, 5, 4, 1).items()}
    sizes = {name: {0: "batch", 2: "past"} for name in feeds if name.startswith("past")}
    sizes |= {"input_ids": {0: "batch", 1: "tokens"}, "attention_mask": {0: "batch", 1: "all_tokens"}}
    outputs = ["logits", *(f"present_{part}_{layer}" for layer in range(LAYERS) for part in ("key", "value"))]
    return exported(network, feeds, outputs=outputs, dynamic=sizes, opset=18)


def _network() -> Any:
    import torch
    from torch import nn

    class Norm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(WIDTH))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2 = Norm(), Norm()
            self.query = nn.Linear(WIDTH, WIDTH)
            self.key, self.value = nn.Linear(WIDTH, GROUPS * HEAD), nn.Linear(WIDTH, GROUPS * HEAD)
            self.out = nn.Linear(WIDTH, WIDTH, bias=False)
            self.gate, self.up = nn.Linear(WIDTH, INNER, bias=False), nn.Linear(WIDTH, INNER, bias=False)
            self.down = nn.Linear(INNER, WIDTH, bias=False)

        def forward(
            self, x: torch.Tensor, past: tuple[torch.Tensor, torch.Tensor], rope: Any, bias: torch.Tensor
        ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            B, T, _ = x.shape  # noqa: N806
            y = self.norm1(x)
            query = _rotated(self.query(y).view(B, T, HEADS, HEAD).transpose(1, 2), *rope)  # (B, nh, T, hs)
            key = _rotated(self.key(y).view(B, T, GROUPS, HEAD).transpose(1, 2), *rope)  # (B, g, T, hs)
            value = self.value(y).view(B, T, GROUPS, HEAD).transpose(1, 2)
            key, value = torch.cat([past[0], key], 2), torch.cat([past[1], value], 2)  # (B, g, P + T, hs)
            scores = query @ _repeated(key).transpose(-1, -2) * HEAD**-0.5 + bias  # (B, nh, T, P + T)
            mixed = torch.softmax(scores, -1) @ _repeated(value)
            x = x + self.out(mixed.transpose(1, 2).reshape(B, T, WIDTH))
            y = self.norm2(x)
            return x + self.down(nn.functional.silu(self.gate(y)) * self.up(y)), key, value

    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(VOCABULARY, WIDTH)
            self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
            self.norm = Norm()
            frequencies = 10000.0 ** (-torch.arange(0, HEAD, 2) / HEAD)
            self.register_buffer("frequencies", frequencies)

        def forward(
            self,
            input_ids: torch.Tensor,
            attention_mask: torch.Tensor,
            past_key_0: torch.Tensor,
            past_value_0: torch.Tensor,
            past_key_1: torch.Tensor,
            past_value_1: torch.Tensor,
        ) -> tuple[torch.Tensor, ...]:
            T, P = input_ids.shape[1], past_key_0.shape[2]  # noqa: N806
            positions = torch.arange(T) + P
            angles = positions[:, None].float() * self.frequencies  # (T, hs / 2)
            angles = torch.cat([angles, angles], -1)
            is_seen = torch.arange(P + T)[None, :] <= positions[:, None]  # (T, P + T)
            is_seen = is_seen[None, None] & attention_mask[:, None, None].bool()  # (B, 1, T, P + T)
            bias = torch.where(is_seen, 0.0, torch.finfo(torch.float32).min)
            x = self.embed(input_ids)
            caches: list[torch.Tensor] = []
            for layer, past in zip(self.layers, ((past_key_0, past_value_0), (past_key_1, past_value_1)), strict=True):
                x, key, value = layer(x, past, (angles.cos(), angles.sin()), bias)
                caches += [key, value]
            return (nn.functional.linear(self.norm(x), self.embed.weight), *caches)

    network = Decoder().eval()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            fan_in = parameter.shape[1] if parameter.ndim > 1 else 0
            is_norm = name.endswith("norm.weight") or "norm1" in name or "norm2" in name
            parameter.copy_(1 + 0.2 * noise if is_norm else noise / fan_in**0.5 if fan_in else 0.2 * noise)
        network.embed.weight.mul_(3.0)
    return network


def _rotated(x: Any, cosine: Any, sine: Any) -> Any:
    import torch

    first, second = x[..., : HEAD // 2], x[..., HEAD // 2 :]
    return x * cosine + torch.cat([-second, first], -1) * sine


def _repeated(x: Any) -> Any:
    """(B, g, S, hs) → (B, nh, S, hs), each group for HEADS / GROUPS neighbouring heads."""
    B, G, S, D = x.shape  # noqa: N806
    return x[:, :, None].expand(B, G, HEADS // G, S, D).reshape(B, HEADS, S, D)
