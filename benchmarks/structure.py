"""The structural part of a weight map at the scale of a billion parameters: no weight exists, no operator is run.

usage: structure.py [--layers N] [--width D]
"""

from __future__ import annotations

import argparse
import functools
import resource
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent.parent))

from regraft.compare.weight_map import structural_map
from regraft.compare.weight_map.mapping import Traced
from regraft.compare.weight_map.sites import sites_of
from regraft.runtime.jax_graph import JaxGraph
from regraft.runtime.named_weights import NamedWeight
from regraft.runtime.torch_export import TorchExportModel
from regraft.runtime.torch_graph import TorchGraph

HEADS, VOCABULARY, TOKENS = 8, 32000, 16


class Layer(nn.Module):
    """Norms, attention with three projections, a gated feed-forward part: nine weights."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.before, self.between = nn.RMSNorm(width), nn.RMSNorm(width)
        self.q, self.k, self.v, self.o = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.gate, self.up = (nn.Linear(width, 3 * width, bias=False) for _ in range(2))
        self.down = nn.Linear(3 * width, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.before(x)
        q, k, v = (p(y).unflatten(-1, (HEADS, -1)).transpose(1, 2) for p in (self.q, self.k, self.v))
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        x = x + self.o(mixed)
        y = self.between(x)
        return x + self.down(nn.functional.silu(self.gate(y)) * self.up(y))


class Decoder(nn.Module):
    """Embedding, layers, norm."""

    def __init__(self, layers: int, width: int) -> None:
        super().__init__()
        self.words, self.norm = nn.Embedding(VOCABULARY, width), nn.RMSNorm(width)
        self.layers = nn.ModuleList(Layer(width) for _ in range(layers))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.words(ids)
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)


def port(w: Any, ids: jax.Array, *, layers: int) -> jax.Array:
    """The same in JAX: query, key and value fused, kernels transposed."""
    x = w["table"][ids]
    for i in range(layers):
        own = functools.partial(lambda name, i=i: w[f"{name}{i}"])
        query, key, value = jnp.split(_norm(x, own("a")) @ own("qkv"), 3, -1)
        heads = [y.reshape(*y.shape[:2], HEADS, -1) for y in (query, key, value)]
        scores = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", heads[0], heads[1]))
        x = x + jnp.einsum("bhqk,bkhd->bqhd", scores, heads[2]).reshape(x.shape) @ own("out")
        y = _norm(x, own("b"))
        x = x + (jax.nn.silu(y @ own("w1")) * (y @ own("w3"))) @ own("w2")
    return _norm(x, w["end"])


def _norm(x: jax.Array, scale: jax.Array) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-6) * scale


def torch_traced(layers: int, width: int) -> Traced:
    """On the meta device."""
    with torch.device("meta"):
        network = Decoder(layers, width).eval()
        ids = torch.zeros(1, TOKENS, dtype=torch.int64)
    graph = TorchGraph(TorchExportModel.from_program(torch.export.export(network, (ids,))))
    tensors = {graph.weight_path(name): name for name in graph.constant_names}
    weights = {
        name: NamedWeight(name, tuple(one.shape), "float32", (tensors[name],))
        for name, one in network.named_parameters()
    }
    return Traced(None, graph, weights, sites_of(graph, weights))


def jax_traced(layers: int, width: int) -> Traced:
    """From shapes alone."""
    d = width
    shapes: dict[str, tuple[int, ...]] = {"table": (VOCABULARY, d), "end": (d,)}
    one = {"a": (d,), "b": (d,), "qkv": (d, 3 * d), "out": (d, d), "w1": (d, 3 * d), "w3": (d, 3 * d), "w2": (3 * d, d)}
    shapes |= {f"{name}{i}": shape for i in range(layers) for name, shape in one.items()}
    places = {name: jax.ShapeDtypeStruct(shape, "float32") for name, shape in shapes.items()}
    ids = jax.ShapeDtypeStruct((1, TOKENS), "int32")
    closed = jax.make_jaxpr(functools.partial(port, layers=layers))(places, ids)
    graph = JaxGraph(closed, [*sorted(places), "ids"], weights=places)
    weights = {name: NamedWeight(name, shape, "float32", (name,)) for name, shape in shapes.items()}
    return Traced(None, graph, weights, sites_of(graph, weights))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=111)
    parser.add_argument("--width", type=int, default=832)
    taken = parser.parse_args()
    warnings.simplefilter("ignore")
    began = time.process_time()
    reference, candidate = torch_traced(taken.layers, taken.width), jax_traced(taken.layers, taken.width)
    traced_s = time.process_time() - began
    found, _ = structural_map(reference, candidate)
    parameters = sum(torch.Size(one.shape).numel() for one in reference.weights.values())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    mapped_s = time.process_time() - began - traced_s
    print(
        f"{len(reference.weights)} tensors, {parameters / 1e9:.2f} G parameters, port {len(candidate.weights)}: "
        f"traced {traced_s:.1f} CPU s, mapped {mapped_s:.1f} CPU s, {len(found.pairs)} pairs, "
        f"{len(found.missing)} missing, {len(found.left_over)} left over, exact {found.is_exact}, {peak:.0f} MiB"
    )


if __name__ == "__main__":
    main()
