"""A mask of one row, spread over the queries, as ncnn itself computes it."""

from __future__ import annotations

import numpy as np
import pytest

from regraft.deployment.convert.hops.ncnn_masks import spread_masks
from regraft.package.formats.ncnn import text_layers
from regraft.runtime.ncnn_model import NcnnModel

GRAPH = """7767517
7 9
Input q 0 1 q
Input k 0 1 k
Input v 0 1 v
Input m 0 1 m
Split s 1 2 m a b
SDPA one 4 1 q k v a o 5=1
ReLU r 1 1 b kept
"""
SHAPES = {"q": (4, 9, 8), "k": (4, 6, 8), "v": (4, 6, 8), "m": (1, 1, 6)}


def test_a_layer_repeats_the_row_for_every_query() -> None:
    spread = spread_masks(GRAPH, SHAPES)
    layers, problems = text_layers(spread, "")
    assert problems == ()
    tile, attention = layers[5], layers[6]
    assert (tile.type, tile.inputs, tile.outputs, tile.numbers) == ("Tile", ("a",), ("a_spread",), {0: 1, 1: 9})
    assert attention.inputs == ("q", "k", "v", "a_spread")
    assert spread.split("\n")[1] == "8 10"


@pytest.mark.parametrize(
    ("graph", "shapes"),
    [
        (GRAPH, {**SHAPES, "m": (1, 9, 6)}),
        (GRAPH, {**SHAPES, "q": (4, 1, 8)}),
        (GRAPH, {}),
        (GRAPH.replace("o 5=1", "o"), SHAPES),
        (GRAPH.replace("SDPA one 4 1 q k v a o 5=1", "SDPA one 3 1 q k v o 5=1"), SHAPES),
    ],
)
def test_what_has_a_row_for_every_query_stays(graph: str, shapes: dict[str, tuple[int, ...]]) -> None:
    assert spread_masks(graph, shapes) == graph


def test_ncnn_computes_what_was_meant() -> None:
    pytest.importorskip("ncnn")
    rng = np.random.default_rng(0)
    feeds = {name: rng.normal(size=SHAPES[name]).astype("float32") for name in ("q", "k", "v")}
    feeds["m"] = np.zeros(SHAPES["m"], "float32")
    feeds["m"][..., 4:] = -1e9
    scores = feeds["q"] @ feeds["k"].transpose(0, 2, 1) / np.sqrt(8) + feeds["m"]
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    meant = weights / weights.sum(-1, keepdims=True) @ feeds["v"]
    model = NcnnModel(b"", graph=spread_masks(GRAPH, SHAPES), precision="float32", threads=1)
    # means of 4 numbers near one, whose shares come from sums of 8 products
    np.testing.assert_allclose(model(feeds)["o"], meant, rtol=0, atol=2e-6)
