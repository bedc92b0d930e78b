"""Which taps fit into one pass: groups of tensors whose bytes stay below a budget."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

TRACE_BYTES = 256 << 20
"""Taps that one pass of a graph runtime holds at the same time. A single larger tensor still makes one group."""

_Item = TypeVar("_Item")


def groups_within(
    items: Sequence[_Item], sizes: Sequence[int | None], *, budget: int = TRACE_BYTES
) -> Iterator[list[_Item]]:
    """Consecutive groups of at most `budget` bytes; a size that is not known counts as the largest known one."""
    known = [size for size in sizes if size is not None]
    unknown = max(known, default=0)
    group: list[_Item] = []
    total = 0
    for item, size in zip(items, sizes, strict=True):
        weight = unknown if size is None else size
        if group and total + weight > budget:
            yield group
            group, total = [], 0
        group.append(item)
        total += weight
    if group:
        yield group


def sizes_of(names: Sequence[str], known: Mapping[str, int]) -> list[int | None]:
    """The sizes in the order of the names, None where nothing is known."""
    return [known.get(name) for name in names]
