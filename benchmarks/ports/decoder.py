"""A decoder with fused projections by head and tied embeddings; its port to JAX splits the one and fuses the other."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from benchmarks.ports.interface import Arrays, Port, initialised, numbers
from torch import nn

LAYERS, D, NH, F, V = 2, 32, 4, 48, 43
HS = D // NH


class Scale(nn.Module):
    """Root mean square norm."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_weight = nn.Parameter(torch.ones(D))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * self.norm_weight


class Layer(nn.Module):
    """Attention whose query, key and value of each head lie together, and a gated feed-forward part."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.between = Scale(), Scale()
        self.query_key_value, self.dense = nn.Linear(D, 3 * D, bias=False), nn.Linear(D, D, bias=False)
        self.gate, self.up, self.down = nn.Linear(D, F, False), nn.Linear(D, F, False), nn.Linear(F, D, False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        B, L, _ = x.shape  # noqa: N806
        fused = self.query_key_value(self.before(x)).view(B, L, NH, 3, HS).permute(3, 0, 2, 1, 4)
        y = nn.functional.scaled_dot_product_attention(_turned(fused[0]), _turned(fused[1]), fused[2], is_causal=True)
        x = x + self.dense(y.transpose(1, 2).reshape(B, L, D))
        y = self.between(x)
        return x + self.down(nn.functional.silu(self.gate(y)) * self.up(y))


def _turned(x: torch.Tensor) -> torch.Tensor:
    """Rotary positions."""
    angles = torch.outer(torch.arange(x.shape[-2]).float(), 100.0 ** (-torch.arange(HS // 2) / (HS // 2)))
    cos, sin = angles.cos().repeat(1, 2), angles.sin().repeat(1, 2)
    left, right = x.chunk(2, -1)
    return x * cos + torch.cat([-right, left], -1) * sin


class Decoder(nn.Module):
    """Embedding, layers, and the embedding again."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.layers, self.final = nn.Embedding(V, D), nn.ModuleList(Layer() for _ in range(LAYERS)), Scale()
        self.head = nn.Linear(D, V, bias=False)
        self.head.weight = self.words.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.words(ids)
        for layer in self.layers:
            x = layer(x)
        return self.head(self.final(x))


SHAPES = {"alpha": (D,), "val": (D, D), "key": (D, D), "qry": (D, D), "out": (D, D), "beta": (D,), "into": (D, 2 * F),
          "back": (F, D)}  # fmt: skip


def decode(w: Any, ids: jax.Array) -> jax.Array:
    """The same in JAX; value is called first, up comes before gate in their fused projection."""
    x = w["table"][ids]
    B, L, _ = x.shape  # noqa: N806
    for i in range(LAYERS):
        own = {name: w[f"{i}.{name}"] for name in SHAPES}
        y = _norm(x, own["alpha"])
        value, key, query = ((y @ own[name]).reshape(B, L, NH, HS) for name in ("val", "key", "qry"))
        scores = jnp.einsum("bqhd,bkhd->bhqk", _spun(query), _spun(key)) / np.sqrt(HS)
        scores = jnp.where(jnp.tril(jnp.ones((L, L), bool)), scores, -1e30)
        mixed = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores), value)
        x = x + mixed.reshape(B, L, D) @ own["out"]
        up, gate = jnp.split(_norm(x, own["beta"]) @ own["into"], 2, axis=-1)
        x = x + (jax.nn.silu(gate) * up) @ own["back"]
    return _norm(x, w["omega"]) @ w["table"].T


def _norm(x: jax.Array, scale: jax.Array) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-6) * scale


def _spun(x: jax.Array) -> jax.Array:
    angles = jnp.outer(jnp.arange(x.shape[1]), 100.0 ** (-jnp.arange(HS // 2) / (HS // 2)))[:, None]
    left, right = jnp.split(x, 2, -1)
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    return jnp.concatenate([left * cos - right * sin, right * cos + left * sin], -1)


def truth(w: Arrays) -> dict[str, np.ndarray]:
    """By hand."""
    found = {"table": w["words.weight"], "omega": w["final.norm_weight"]}
    for i in range(LAYERS):
        own = f"layers.{i}."
        parts = w[own + "query_key_value.weight"].reshape(NH, 3, HS, D)
        for j, name in enumerate(("qry", "key", "val")):
            found[f"{i}.{name}"] = parts[:, j].reshape(D, D).T
        found[f"{i}.out"], found[f"{i}.back"] = w[own + "dense.weight"].T, w[own + "down.weight"].T
        found[f"{i}.into"] = np.concatenate([w[own + "up.weight"], w[own + "gate.weight"]]).T
        found[f"{i}.alpha"], found[f"{i}.beta"] = w[own + "before.norm_weight"], w[own + "between.norm_weight"]
    return found


def reference() -> tuple[Any, dict[str, Any]]:
    """In torch."""
    return initialised(Decoder()), FEEDS


def candidate() -> tuple[Any, dict[str, Any]]:
    """In JAX."""
    shapes = {"table": (V, D), "omega": (D,)}
    shapes |= {f"{i}.{name}": shape for i in range(LAYERS) for name, shape in SHAPES.items()}
    return jax.tree_util.Partial(decode, numbers(shapes)), FEEDS


FEEDS = {"ids": np.random.default_rng(5).integers(0, V, (3, 9))}
PORT = Port(
    "decoder", "torch → JAX", "query, key, value fused by head and split, gate and up joined the other way round, "
    "tied embeddings", reference, candidate, FEEDS, truth,
)  # fmt: skip
