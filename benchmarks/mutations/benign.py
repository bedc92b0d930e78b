"""Benign pairs: each reference beside other writings of itself, on several feeds, with one thread and with two."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from benchmarks.mutations.architectures import references
from benchmarks.mutations.effects import example
from benchmarks.mutations.interface import BenignPair, Reference
from benchmarks.mutations.rewrites import REWRITES


def pairs(*, names: tuple[str, ...] = ()) -> Iterator[BenignPair]:
    """Every pair, one after the other.

    Args:
        names: of references; empty for all.
    Yields:
        for each reference and rewrite that has something to do there, one pair for each feeds of the reference, with
        one thread for the first, two for the second, and so on by turns.
    """
    for found in references():
        if names and found.name not in names:
            continue
        for rewrite in REWRITES:
            candidate = rewritten(found, rewrite)
            if candidate is None:
                continue
            for number, feeds in enumerate(found.feeds):
                name = f"{found.name}/{rewrite}/{number}"
                yield BenignPair(name, found.name, found.architecture, rewrite, candidate, feeds, 1 + number % 2)


def rewritten(of: Reference, rewrite: str) -> onnx.ModelProto | None:
    """A reference in another writing; None where there is nothing to rewrite."""
    return REWRITES[rewrite](of.proto, example(of.name))
