"""Masks of attention in graphs of ncnn: its `SDPA` wants a row for every query, and reads beyond a mask that has one.

Source: ncnn 1.0.20261020, measured: a mask (1, 1, S) gives other numbers than the same one spread to (1, T, S).
"""

from __future__ import annotations

from collections.abc import Mapping

from regraft.package.formats.ncnn import MAGIC, Layer, text_layers

_QUERY, _MASK = 0, 3
_HAS_MASK = 5
_FIRST_BLOB = 4
"""Words of a line before the names of its blobs."""


def spread_masks(graph: str, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """A graph in which every mask of one row is repeated for every query, by a layer in front of the attention.

    Args:
        graph: `.param` as text.
        shapes: blob → its shape without the batch, rows and columns last.
    Returns:
        the same graph where no mask has one row.
    """
    layers, _ = text_layers(graph, "")
    _, counts, *rows = graph.strip().split("\n")
    known = dict(shapes)
    made = []
    for layer, row in zip(layers, rows, strict=True):
        if layer.type == "Split":
            known |= {copy: known[layer.inputs[0]] for copy in layer.outputs if layer.inputs[0] in known}
        queries = _missing_rows(layer, known)
        if not queries:
            made.append(row)
            continue
        words = row.split()
        mask, spread = layer.inputs[_MASK], f"{layer.inputs[_MASK]}_spread"
        words[_FIRST_BLOB + _MASK] = spread
        made.append(f"Tile spread_{layer.name} 1 1 {mask} {spread} 0={len(known[mask]) - 2} 1={queries}")
        made.append(" ".join(words))
    added = len(made) - len(rows)
    before = [int(word) for word in counts.split()]
    return "\n".join([str(MAGIC), f"{before[0] + added} {before[1] + added}", *made]) + "\n"


def _missing_rows(layer: Layer, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """How many rows its mask should have, where it has one; 0 where nothing is missing."""
    if layer.type != "SDPA" or not layer.numbers.get(_HAS_MASK) or len(layer.inputs) <= _MASK:
        return 0
    mask, query = (shapes.get(layer.inputs[place], ()) for place in (_MASK, _QUERY))
    if len(mask) < 2 or len(query) < 2 or mask[-2] != 1 or query[-2] == 1:
        return 0
    return query[-2]
