"""What a map that people edited must keep to, so that it makes weights, and makes all of each."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

from regraft.compare.weight_map.interface import EXPERT, IN, NONE, OUT, SPACE
from regraft.compare.weight_map.pieces import Pair, Piece
from regraft.errors import UsageError

_LETTERS = frozenset({OUT, IN, SPACE, EXPERT, NONE})


def check_pairs(pairs: Sequence[Pair], where: str) -> None:
    """See that every pair says something that can be, and that no weight is given twice or in part.

    Args:
        pairs: whose weights are there, and have as many axes as they name letters.
        where: the file.
    Raises:
        UsageError: the first thing that is wrong.
    """
    for pair in pairs:
        for complaint in _complaints(pair):
            raise UsageError(f"{pair.candidate.weight}: {complaint}", where=where, hint="edit the map")
    by_weight: dict[str, list[Piece]] = {}
    for pair in pairs:
        by_weight.setdefault(pair.candidate.weight, []).append(pair.candidate)
    for weight, pieces in by_weight.items():
        complaint = _covering(pieces)
        if complaint:
            raise UsageError(f"{weight}: {complaint}", where=where, hint="edit the map")


def _complaints(pair: Pair) -> Iterator[str]:
    for piece in (pair.candidate, *(source.piece for source in pair.sources)):
        unknown = set(piece.axes) - _LETTERS
        if unknown:
            yield f"axes = {piece.axes!r} of {piece.weight} has {min(unknown)!r}; letters are O, I, S, E and ."
        if piece.part is not None:
            axis, start, stop = piece.part
            if not (0 <= axis < len(piece.shape) and 0 <= start < stop <= piece.shape[axis]):
                yield f"part = {list(piece.part)} is not within {piece.weight}, which is {list(piece.shape)}"
    for source in pair.sources:
        start, stop = source.rows or (0, 1)
        if source.heads < 0 or source.parts < 1 or not 0 <= start < stop:
            yield f"rows, heads and parts of {source.piece.weight} count from 0 upwards"
            continue
        extent = source.piece.size(OUT)
        if source.heads and extent % (source.heads * source.parts):
            yield f"{extent} of {source.piece.weight} are not {source.heads} heads of {source.parts} parts"
        if stop > (source.parts if source.heads else extent):
            yield f"rows = {[start, stop]} go beyond {source.piece.weight}, which is {list(source.piece.shape)}"
    yield from _other_extents(pair)
    if sorted(pair.blocks) != list(range(len(pair.blocks))):
        yield f"blocks = {list(pair.blocks)} is no order of {len(pair.blocks)} blocks"
    if pair.heads < 0:
        yield "heads count from 0 upwards"
    if pair.inputs is not None:
        extents, order = pair.inputs
        if sorted(order) != list(range(len(extents))) or min(extents, default=0) < 1:
            yield f"inputs = {[list(extents), list(order)]} are no extents and an order of them"
    epsilon = pair.norm.epsilon if pair.norm is not None else 0.0
    if not (math.isfinite(pair.fill) and math.isfinite(epsilon) and epsilon >= 0):
        yield "fill is a finite number, epsilon one from 0 upwards"
    if pair.fill and pair.sources:
        yield "it is filled with a number, or made of weights of the reference, not both"


def _other_extents(pair: Pair) -> Iterator[str]:
    """Where one weight is made of one other with the same letters, each letter counts as many on both sides."""
    if len(pair.sources) != 1 or pair.sources[0].rows is not None or pair.candidate.part is not None:
        return
    ours, theirs = pair.sources[0].piece, pair.candidate
    letters = set(theirs.axes) - {NONE}
    for letter in sorted(letters if letters == set(ours.axes) - {NONE} else ()):
        if ours.size(letter) != theirs.size(letter):
            counts = f"{theirs.size(letter)}, in {ours.weight} {ours.size(letter)}"
            yield f"{letter} of axes = {theirs.axes!r} counts {counts}"


def _covering(pieces: Sequence[Piece]) -> str:
    """What is wrong with the parts of one weight; empty where they are all of it, once."""
    if len(pieces) == 1 and pieces[0].part is None:
        return ""
    parts = [piece.part for piece in pieces if piece.part is not None]
    if len(parts) < len(pieces) or len({axis for axis, _, _ in parts}) > 1:
        return "it is given twice"
    extent = pieces[0].shape[parts[0][0]]
    ends = [0, *itertools.chain.from_iterable((start, stop) for _, start, stop in sorted(parts)), extent]
    if ends[::2] != ends[1::2]:
        return f"its parts are not all of its {extent} entries, each once"
    return ""
