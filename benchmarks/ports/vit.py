"""A vision transformer with torch's fused attention; its port to JAX has three projections, called value first."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from benchmarks.ports.interface import Arrays, Port, initialised, numbers
from torch import nn

LAYERS, D, NH, F, CLASSES, PATCH = 2, 24, 3, 40, 5, 4
PLACES = 3 * 5


class Layer(nn.Module):
    """Norms in front."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(D, eps=1e-6), nn.LayerNorm(D, eps=1e-6)
        self.attention = nn.MultiheadAttention(D, NH, batch_first=True)
        self.fc1, self.fc2 = nn.Linear(D, F), nn.Linear(F, D)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.fc2(nn.functional.gelu(self.fc1(self.norm2(x))))


class Vision(nn.Module):
    """Patches, a class token, positions."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, D, PATCH, PATCH)
        self.token = nn.Parameter(torch.zeros(1, 1, D))
        self.positions = nn.Parameter(torch.zeros(1, PLACES + 1, D))
        self.layers, self.norm = nn.ModuleList(Layer() for _ in range(LAYERS)), nn.LayerNorm(D, eps=1e-6)
        self.head = nn.Linear(D, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x)[:, 0])


SHAPES = {
    "pre_g": (D,), "pre_b": (D,), "v": (D, NH, D // NH), "v_b": (NH, D // NH), "q": (D, NH, D // NH),
    "q_b": (NH, D // NH), "k": (D, NH, D // NH), "k_b": (NH, D // NH), "o": (NH, D // NH, D), "o_b": (D,),
    "mid_g": (D,), "mid_b": (D,), "grow": (D, F), "grow_b": (F,), "back": (F, D), "back_b": (D,),
}  # fmt: skip


def classify(w: Any, x: jax.Array) -> jax.Array:
    """The same in JAX."""
    x = jax.lax.conv_general_dilated(
        x.transpose(0, 2, 3, 1), w["stem"], (PATCH, PATCH), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    x = x.reshape(x.shape[0], -1, D) + w["stem_b"]
    first = jnp.broadcast_to(w["cls"], (x.shape[0], 1, D))
    x = jnp.concatenate([first, x], 1) + w["grid"]
    for i in range(LAYERS):
        own = {name: w[f"enc{i}"][name] for name in SHAPES}
        y = _norm(x, own["pre_g"], own["pre_b"])
        value, query, key = (jnp.einsum("bld,dhk->blhk", y, own[n]) + own[f"{n}_b"] for n in ("v", "q", "k"))
        scores = jnp.einsum("bkhd,bqhd->bhqk", key, query) / np.sqrt(D // NH)
        mixed = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores), value)
        x = x + jnp.einsum("blhk,hkd->bld", mixed, own["o"]) + own["o_b"]
        inner = jax.nn.gelu(_norm(x, own["mid_g"], own["mid_b"]) @ own["grow"] + own["grow_b"], approximate=False)
        x = x + inner @ own["back"] + own["back_b"]
    return _norm(x[:, 0], w["end_g"], w["end_b"]) @ w["classes"] + w["classes_b"]


def _norm(x: jax.Array, scale: jax.Array, shift: jax.Array) -> jax.Array:
    mean = x.mean(-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(x.var(-1, keepdims=True) + 1e-6) * scale + shift


def truth(w: Arrays) -> dict[str, np.ndarray]:
    """By hand."""
    found = {
        "stem": w["patches.weight"].transpose(2, 3, 1, 0), "stem_b": w["patches.bias"], "cls": w["token"][0, 0],
        "grid": w["positions"][0], "end_g": w["norm.weight"], "end_b": w["norm.bias"], "classes": w["head.weight"].T,
        "classes_b": w["head.bias"],
    }  # fmt: skip
    for i in range(LAYERS):
        own, theirs = f"layers.{i}.", f"enc{i}."
        kernels = np.split(w[own + "attention.in_proj_weight"], 3)
        biases = np.split(w[own + "attention.in_proj_bias"], 3)
        for name, kernel, bias in zip("qkv", kernels, biases, strict=True):
            found[theirs + name], found[f"{theirs}{name}_b"] = kernel.T.reshape(D, NH, -1), bias.reshape(NH, -1)
        found[theirs + "o"] = w[own + "attention.out_proj.weight"].T.reshape(NH, -1, D)
        names = {"o_b": "attention.out_proj.bias", "pre_g": "norm1.weight", "pre_b": "norm1.bias", "back_b": "fc2.bias",
                 "mid_g": "norm2.weight", "mid_b": "norm2.bias", "grow_b": "fc1.bias"}  # fmt: skip
        found |= {theirs + short: w[own + name] for short, name in names.items()}
        found[theirs + "grow"], found[theirs + "back"] = w[own + "fc1.weight"].T, w[own + "fc2.weight"].T
    return found


def reference() -> tuple[Any, dict[str, Any]]:
    """In torch."""
    return initialised(Vision()), FEEDS


def candidate() -> tuple[Any, dict[str, Any]]:
    """In JAX, with weights in a tree."""
    shapes = {"stem": (PATCH, PATCH, 3, D), "stem_b": (D,), "cls": (D,), "grid": (PLACES + 1, D), "end_g": (D,),
              "end_b": (D,), "classes": (D, CLASSES), "classes_b": (CLASSES,)}  # fmt: skip
    weights: dict[str, Any] = numbers(shapes)
    weights |= {f"enc{i}": numbers(SHAPES, seed=10 + i) for i in range(LAYERS)}
    return jax.tree_util.Partial(classify, weights), FEEDS


FEEDS = {"x": np.random.default_rng(6).normal(size=(2, 3, 12, 20)).astype(np.float32)}
PORT = Port(
    "vit", "torch → JAX", "fused projection split into heads, value first, class token, weights in a tree", reference,
    candidate, FEEDS, truth,
)  # fmt: skip
