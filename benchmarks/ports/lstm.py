"""A tagger of two LSTM layers, and its port to JAX: a scan, gates in another order, one bias instead of two."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from benchmarks.ports.interface import Arrays, Port, initialised, numbers
from torch import nn

V, D, H, TAGS = 31, 12, 12, 5  # as wide as the input, so that extents do not tell the two weights apart
GATES = (3, 0, 1, 2)
"""Order of the port: output, input, forget, cell."""


class Tagger(nn.Module):
    """Embedding, LSTM, projection."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.lstm = nn.Embedding(V, D), nn.LSTM(D, H, num_layers=2, batch_first=True)
        self.head = nn.Linear(H, TAGS)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(self.words(ids))[0])


def tag(w: Any, ids: jax.Array) -> jax.Array:
    """The same in JAX."""
    x = w["lookup"][ids].transpose(1, 0, 2)  # (T, B, D)
    for layer in ("lower", "upper"):
        x = _layer(w[f"{layer}_x"], w[f"{layer}_h"], w[f"{layer}_b"], x)
    return x.transpose(1, 0, 2) @ w["tags"] + w["tags_b"]


def _layer(kernel: jax.Array, recurrent: jax.Array, bias: jax.Array, x: jax.Array) -> jax.Array:
    def step(carry: Any, one: jax.Array) -> Any:
        hidden, cell = carry
        out, enter, forget, new = jnp.split(one @ kernel + hidden @ recurrent + bias, 4, axis=-1)
        cell = jax.nn.sigmoid(forget) * cell + jax.nn.sigmoid(enter) * jnp.tanh(new)
        hidden = jax.nn.sigmoid(out) * jnp.tanh(cell)
        return (hidden, cell), hidden

    zeros = jnp.zeros((x.shape[1], H))
    return jax.lax.scan(step, (zeros, zeros), x)[1]


def truth(w: Arrays) -> dict[str, np.ndarray]:
    """By hand."""
    found = {"lookup": w["words.weight"], "tags": w["head.weight"].T, "tags_b": w["head.bias"]}
    for i, layer in enumerate(("lower", "upper")):
        found[f"{layer}_x"] = _gates(w[f"lstm.weight_ih_l{i}"]).T
        found[f"{layer}_h"] = _gates(w[f"lstm.weight_hh_l{i}"]).T
        found[f"{layer}_b"] = _gates(w[f"lstm.bias_ih_l{i}"] + w[f"lstm.bias_hh_l{i}"])
    return found


def _gates(value: np.ndarray) -> np.ndarray:
    return value.reshape(4, H, -1)[list(GATES)].reshape(value.shape)


def reference() -> tuple[Any, dict[str, Any]]:
    """In torch."""
    return initialised(Tagger()), FEEDS


def candidate() -> tuple[Any, dict[str, Any]]:
    """In JAX."""
    shapes = {"lookup": (V, D), "tags": (H, TAGS), "tags_b": (TAGS,)}
    for layer in ("lower", "upper"):
        shapes |= {f"{layer}_x": (D, 4 * H), f"{layer}_h": (H, 4 * H), f"{layer}_b": (4 * H,)}
    return jax.tree_util.Partial(tag, numbers(shapes)), FEEDS


FEEDS = {"ids": np.random.default_rng(3).integers(0, V, (3, 7))}
PORT = Port(
    "lstm", "torch → JAX", "a scan, gates in another order, two biases added up", reference, candidate, FEEDS, truth
)
