"""BERT, and its port to JAX: projections to heads, kernels transposed, key called before query."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from benchmarks.ports.interface import Arrays, Port, initialised, numbers
from torch import nn

LAYERS, D, NH, F, V, T = 3, 24, 3, 64, 41, 20  # width, heads, inner width, vocabulary, positions
EPSILON = 1e-12


class Layer(nn.Module):
    """Attention and a feed-forward part, each with a norm behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.dense = (nn.Linear(D, D) for _ in range(4))
        self.norm1, self.norm2 = nn.LayerNorm(D, eps=EPSILON), nn.LayerNorm(D, eps=EPSILON)
        self.intermediate, self.output = nn.Linear(D, F), nn.Linear(F, D)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        B, L, _ = x.shape  # noqa: N806
        query, key, value = (p(x).view(B, L, NH, -1).transpose(1, 2) for p in (self.query, self.key, self.value))
        y = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x = self.norm1(x + self.dense(y.transpose(1, 2).reshape(B, L, D)))
        return self.norm2(x + self.output(nn.functional.gelu(self.intermediate(x))))


class Encoder(nn.Module):
    """Token, position and segment embeddings, then layers."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.positions, self.segments = nn.Embedding(V, D), nn.Embedding(T, D), nn.Embedding(2, D)
        self.norm = nn.LayerNorm(D, eps=EPSILON)
        self.layer = nn.ModuleList(Layer() for _ in range(LAYERS))

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        places = torch.arange(ids.shape[1], device=ids.device)
        x = self.norm(self.words(ids) + self.positions(places) + self.segments(torch.zeros_like(ids)))
        for layer in self.layer:
            x = layer(x, mask[:, None, None].bool())
        return x


def block_shapes(d: int, nh: int, f: int) -> dict[str, tuple[int, ...]]:
    """Weights of one layer of the port: width, heads, inner width."""
    return {
        "k": (d, nh, d // nh), "bk": (nh, d // nh), "q": (d, nh, d // nh), "bq": (nh, d // nh), "v": (d, nh, d // nh),
        "bv": (nh, d // nh), "mix": (nh, d // nh, d), "bmix": (d,), "g1": (d,), "h1": (d,), "w1": (d, f), "b1": (f,),
        "w2": (f, d), "b2": (d,), "g2": (d,), "h2": (d,),
    }  # fmt: skip


def port_shapes(layers: int, d: int, nh: int, f: int, v: int, t: int) -> dict[str, tuple[int, ...]]:
    """All weights of the port; v words, t places."""
    found = {"tokens": (v, d), "places": (t, d), "kinds": (2, d), "g": (d,), "h": (d,)}
    return found | {f"block{i}_{name}": shape for i in range(layers) for name, shape in block_shapes(d, nh, f).items()}


def encode(w: Any, ids: jax.Array, mask: jax.Array, segments: jax.Array | int = 0) -> jax.Array:
    """The same in JAX, of any size."""
    x = w["tokens"][ids] + w["places"][: ids.shape[1]] + w["kinds"][segments]
    x = _norm(x, w["g"], w["h"])
    for i in range(sum(name.endswith("_mix") for name in w)):
        start = f"block{i}_"
        own = {name.removeprefix(start): value for name, value in w.items() if name.startswith(start)}
        x = _layer(own, x, mask)
    return x


def _layer(w: Any, x: jax.Array, mask: jax.Array) -> jax.Array:
    key = jnp.einsum("bld,dhk->blhk", x, w["k"]) + w["bk"]
    query = jnp.einsum("bld,dhk->blhk", x, w["q"]) + w["bq"]
    value = jnp.einsum("bld,dhk->blhk", x, w["v"]) + w["bv"]
    scores = jnp.einsum("bqhd,bkhd->bhqk", query / np.sqrt(query.shape[-1]), key)
    scores = jnp.where(mask[:, None, None] > 0, scores, -1e30)
    mixed = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores), value)
    x = _norm(x + jnp.einsum("blhk,hkd->bld", mixed, w["mix"]) + w["bmix"], w["g1"], w["h1"])
    inner = jax.nn.gelu(x @ w["w1"] + w["b1"], approximate=False)
    return _norm(x + inner @ w["w2"] + w["b2"], w["g2"], w["h2"])


def _norm(x: jax.Array, scale: jax.Array, shift: jax.Array) -> jax.Array:
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + EPSILON) * scale + shift


def truth(w: Arrays) -> dict[str, np.ndarray]:
    """By hand."""
    found = {"tokens": w["words.weight"], "places": w["positions.weight"], "kinds": w["segments.weight"],
             "g": w["norm.weight"], "h": w["norm.bias"]}  # fmt: skip
    for i in range(LAYERS):
        ours, theirs = f"layer.{i}.", f"block{i}_"
        for short, name in (("q", "query"), ("k", "key"), ("v", "value")):
            found[theirs + short] = w[f"{ours}{name}.weight"].T.reshape(D, NH, -1)
            found[f"{theirs}b{short}"] = w[f"{ours}{name}.bias"].reshape(NH, -1)
        found[theirs + "mix"] = w[ours + "dense.weight"].T.reshape(NH, -1, D)
        found[theirs + "w1"], found[theirs + "w2"] = w[ours + "intermediate.weight"].T, w[ours + "output.weight"].T
        names = {"bmix": "dense.bias", "b1": "intermediate.bias", "b2": "output.bias", "g1": "norm1.weight",
                 "h1": "norm1.bias", "g2": "norm2.weight", "h2": "norm2.bias"}  # fmt: skip
        found |= {theirs + short: w[ours + name] for short, name in names.items()}
    return found


def reference() -> tuple[Any, dict[str, Any]]:
    """In torch."""
    return initialised(Encoder()), FEEDS


def candidate() -> tuple[Any, dict[str, Any]]:
    """In JAX."""
    return jax.tree_util.Partial(encode, numbers(port_shapes(LAYERS, D, NH, F, V, T))), FEEDS


_IDS = np.random.default_rng(0).integers(1, V, (3, 11))
FEEDS = {"ids": _IDS, "mask": (np.arange(11)[None] < 11 - 2 * np.arange(3)[:, None]).astype(np.int64)}
PORT = Port(
    "bert", "torch → JAX", "heads as axes, kernels transposed, key before query, positions cut instead of looked up",
    reference, candidate, FEEDS, truth,
)  # fmt: skip
