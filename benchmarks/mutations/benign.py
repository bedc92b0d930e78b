"""Benign pairs: each reference beside other writings of itself, on several feeds, with one thread and with two."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import onnx
from benchmarks.mutations import architectures
from benchmarks.mutations.architectures import reference
from benchmarks.mutations.effects import example
from benchmarks.mutations.interface import BenignPair
from benchmarks.mutations.rewrites import REWRITES


def pairs(*, names: tuple[str, ...] = ()) -> Iterator[BenignPair]:
    """Every pair, one after the other: for each reference and rewrite that has something to do there, all feeds.

    Args:
        names: of references; empty for all.
    """
    for name in benign_names(references=names):
        yield pair(name)


def benign_names(*, references: tuple[str, ...] = ()) -> list[str]:
    """Names of all pairs, `<reference>/<rewrite>/<number of the feeds>`; empty `references` for all."""
    return [
        f"{found.name}/{rewrite}/{number}"
        for found in architectures.references()
        if not references or found.name in references
        for rewrite in REWRITES
        if rewritten(found.name, rewrite) is not None
        for number in range(len(found.feeds))
    ]


def pair(name: str) -> BenignPair:
    """The pair of that name; the candidate's session should have one thread for even numbers of feeds, two for odd."""
    of, rewrite, number = name.split("/")
    found, candidate = reference(of), rewritten(of, rewrite)
    assert candidate is not None
    feeds = found.feeds[int(number)]
    return BenignPair(name, of, found.architecture, rewrite, candidate, feeds, 1 + int(number) % 2)


@lru_cache(4)
def rewritten(name: str, rewrite: str) -> onnx.ModelProto | None:
    """A reference in another writing; None where there is nothing to rewrite."""
    return REWRITES[rewrite](reference(name).proto, example(name))
