"""A small BERT encoder as old exporters write it: LayerNorm, GELU and attention decomposed into single operators."""

from __future__ import annotations

import math

import numpy as np
from benchmarks.mutations.interface import Feeds, Reference
from benchmarks.mutations.sketch import Sketch

VOCABULARY, LONGEST, WIDTH, HEADS, INNER, LABELS = 150, 40, 48, 4, 96, 3


def references() -> list[Reference]:
    """Two layers, opset 17; tokens and their mask go in, hidden states and two heads come out."""
    net = Sketch("encoder", opset=17, seed=202)
    ids = net.input("input_ids", "int64", ("batch", "tokens"))
    kinds = net.input("token_type_ids", "int64", ("batch", "tokens"))
    mask = net.input("attention_mask", "int64", ("batch", "tokens"))
    words = net.normal("words", VOCABULARY, WIDTH, fan_in=1)
    with net.scope("embeddings"):
        x = _embedded(net, words, ids, kinds)
    with net.scope("mask"):
        bias = _mask_bias(net, mask)
    for layer in range(2):
        with net.scope(f"layer{layer}"):
            x = _layer(net, x, bias)
    with net.scope("pooler"):
        first = net.node("Gather", x, net.scalar(0, "first", "int64"), axis=1)  # (B, D)
        pooled = net.node("Gemm", first, net.normal("weight", WIDTH, WIDTH), _bias(net, WIDTH), transB=1)
        pooled = net.node("Tanh", pooled)
    with net.scope("classifier"):
        logits = net.node("Gemm", pooled, net.normal("weight", LABELS, WIDTH), _bias(net, LABELS), transB=1)
        probabilities = net.node("Softmax", logits, axis=-1)
    with net.scope("language"):  # the weights are tied to the embeddings
        tied = net.node("Transpose", words, perm=[1, 0])
        tokens = net.node("Mul", net.node("MatMul", x, tied), net.scalar(WIDTH**-0.5, "scale"))
    net.output(tokens, "token_logits", "float32", ("batch", "tokens", VOCABULARY))
    net.output(x, "hidden_states", "float32", ("batch", "tokens", WIDTH))
    net.output(logits, "logits", "float32", ("batch", LABELS))
    net.output(probabilities, "probabilities", "float32", ("batch", LABELS))
    return [Reference("encoder", "bert", net.proto(), [_feeds(3, 7, 1), _feeds(2, 11, 2), _feeds(5, 7, 3)])]


def _feeds(batch: int, tokens: int, seed: int) -> Feeds:
    """Token ids without 0, which pads; every row but the first is shorter than the longest."""
    random = np.random.default_rng(seed)
    lengths = np.concatenate([[tokens], random.integers(2, tokens, batch - 1)])
    mask = (np.arange(tokens)[None] < lengths[:, None]).astype(np.int64)  # (B, T)
    ids = random.integers(1, VOCABULARY, (batch, tokens)) * mask
    kinds = (np.arange(tokens)[None] > lengths[:, None] // 2).astype(np.int64) * mask
    return {"input_ids": ids.astype(np.int64), "token_type_ids": kinds, "attention_mask": mask}


def _bias(net: Sketch, size: int, name: str = "bias") -> str:
    return net.weight(name, 0.2 * net.random.standard_normal(size))


def _embedded(net: Sketch, words: str, ids: str, kinds: str) -> str:
    words = net.node("Gather", words, ids)
    types = net.node("Gather", net.normal("types", 2, WIDTH, fan_in=4), kinds)
    tokens = net.node("Gather", net.node("Shape", ids), net.ints(1, name="axis"), axis=0)
    positions = net.node(
        "Slice", net.normal("positions", LONGEST, WIDTH, fan_in=4), net.ints(0), tokens, net.ints(0), net.ints(1)
    )
    x = net.node("Add", net.node("Add", words, types), positions)
    return _norm(net, x)


def _mask_bias(net: Sketch, mask: str) -> str:
    """0 where a token may be looked at, -10000 where it pads. (B, 1, 1, T)"""
    seen = net.node("Cast", net.node("Unsqueeze", mask, net.ints(1, 2)), to=1)
    return net.node("Mul", net.node("Sub", net.scalar(1.0, "one"), seen), net.scalar(-10000.0, "blocked"))


def _norm(net: Sketch, x: str, epsilon: float = 1e-5) -> str:
    with net.scope("norm"):
        centred = net.node("Sub", x, net.node("ReduceMean", x, axes=[-1]))
        variance = net.node("ReduceMean", net.node("Pow", centred, net.scalar(2.0, "two")), axes=[-1])
        deviation = net.node("Sqrt", net.node("Add", variance, net.scalar(epsilon, "epsilon")))
        scaled = net.node("Mul", net.node("Div", centred, deviation), net.uniform("weight", WIDTH, low=0.6, high=1.4))
        return net.node("Add", scaled, _bias(net, WIDTH))


def _linear(net: Sketch, x: str, inputs: int, outputs: int, name: str) -> str:
    with net.scope(name):
        weight = net.normal("weight", inputs, outputs, fan_in=inputs)
        return net.node("Add", net.node("MatMul", x, weight), _bias(net, outputs))


def _heads(net: Sketch, x: str, name: str, perm: list[int]) -> str:
    with net.scope(name):
        return net.node("Transpose", net.node("Reshape", x, net.ints(0, 0, HEADS, WIDTH // HEADS)), perm=perm)


def _layer(net: Sketch, x: str, bias: str) -> str:
    with net.scope("attention"):
        query = _heads(net, _linear(net, x, WIDTH, WIDTH, "query"), "query", [0, 2, 1, 3])  # (B, nh, T, hs)
        key = _heads(net, _linear(net, x, WIDTH, WIDTH, "key"), "key", [0, 2, 3, 1])  # (B, nh, hs, T)
        value = _heads(net, _linear(net, x, WIDTH, WIDTH, "value"), "value", [0, 2, 1, 3])  # (B, nh, T, hs)
        scores = net.node("Div", net.node("MatMul", query, key), net.scalar(math.sqrt(WIDTH // HEADS), "scale"))
        weights = net.node("Softmax", net.node("Add", scores, bias), axis=-1)
        mixed = net.node("Transpose", net.node("MatMul", weights, value), perm=[0, 2, 1, 3])
        mixed = net.node("Reshape", mixed, net.ints(0, 0, WIDTH))
        x = _norm(net, net.node("Add", _linear(net, mixed, WIDTH, WIDTH, "out"), x))
    with net.scope("feed_forward"):
        inner = _gelu(net, _linear(net, x, WIDTH, INNER, "up"))
        return _norm(net, net.node("Add", _linear(net, inner, INNER, WIDTH, "down"), x))


def _gelu(net: Sketch, x: str) -> str:
    with net.scope("gelu"):
        error = net.node("Erf", net.node("Div", x, net.scalar(math.sqrt(2.0), "root")))
        twice = net.node("Mul", x, net.node("Add", error, net.scalar(1.0, "one")))
        return net.node("Mul", twice, net.scalar(0.5, "half"))
