"""What became of a weight on its way to the data."""

from __future__ import annotations

import msgspec

from regraft.compare.weight_map.interface import Reading


class Derived(msgspec.Struct, frozen=True):
    """A tensor that is made of a weight.

    Attributes:
        weight: its name.
        axes: for each axis of the tensor, the axes of the weight that lie in it; none for an extent of 1.
        part: axis, start and stop of what is left of the weight; None for all.
        flips: axes of the weight that are reversed.
        path: what else was done, in order: `rsqrt`, `neg`, `lookup`, …
    """

    weight: str
    axes: tuple[tuple[int, ...], ...]
    part: tuple[int, int, int] | None = None
    flips: frozenset[int] = frozenset()
    path: tuple[str, ...] = ()

    @property
    def is_flipped(self) -> bool:
        """Are axes reversed?"""
        return bool(self.flips)

    def after(self, word: str) -> Derived:
        """The same, with something done to it."""
        return msgspec.structs.replace(self, path=(*self.path, word))


def moved(derived: Derived, reading: Reading, shape: tuple[int, ...]) -> Derived:
    """A weight behind an operator that moves its numbers, or some of them.

    Args:
        derived: before.
        reading: of kind `move`.
        shape: of the result.
    """
    axes, move = derived.axes, reading.move
    if not _has_rank(len(axes), reading):  # a product or a sum lies in between: its axes are no more the weight's
        return msgspec.structs.replace(derived, axes=((),) * len(shape)).after(reading.word)
    if reading.word == "permute":
        return msgspec.structs.replace(derived, axes=tuple(axes[axis] for axis in move))
    if reading.word == "reshape":
        return msgspec.structs.replace(derived, axes=_reshaped(axes, *move))
    if reading.word == "broadcast":
        found: list[tuple[int, ...]] = [()] * len(shape)
        for axis, place in zip(axes, move, strict=True):
            found[place] = axis
        return msgspec.structs.replace(derived, axes=tuple(found))
    if reading.word == "flip":
        reversed_ = frozenset(source for axis in move for source in axes[axis])
        return msgspec.structs.replace(derived, flips=derived.flips ^ reversed_)
    if reading.word in ("slice", "select"):
        return _cut(derived, *move, is_gone=reading.word == "select")
    return derived if reading.word == "same" else derived.after(reading.word)


def _has_rank(rank: int, reading: Reading) -> bool:
    """Is a tensor of so many axes what the move is about?"""
    word, move = reading.word, reading.move
    if word in ("permute", "broadcast"):
        return rank == len(move)
    if word == "reshape":
        return rank == len(move[0])
    if word in ("flip", "slice", "select"):
        return bool(move) and rank > max(move if word == "flip" else move[:1])
    return True


def _cut(derived: Derived, axis: int, start: int, stop: int, *, is_gone: bool) -> Derived:
    sources = derived.axes[axis]
    axes = tuple(own for i, own in enumerate(derived.axes) if not (is_gone and i == axis))
    if len(sources) != 1 or derived.part is not None:
        return msgspec.structs.replace(derived, axes=axes, path=(*derived.path, "slice"))
    return msgspec.structs.replace(derived, axes=axes, part=(sources[0], start, stop))


def _reshaped(
    axes: tuple[tuple[int, ...], ...], before: tuple[int, ...], after: tuple[int, ...]
) -> tuple[tuple[int, ...], ...]:
    """Axes that are merged hold the sources of all; axes that one is split into each hold its sources."""
    found: list[tuple[int, ...]] = [() for _ in after]
    ours = [(i, extent) for i, extent in enumerate(before) if extent != 1]
    theirs = [(i, extent) for i, extent in enumerate(after) if extent != 1]
    i = j = 0
    while i < len(ours) and j < len(theirs):
        left, right = [ours[i]], [theirs[j]]
        while _product(left) != _product(right):
            if _product(left) < _product(right) and i + 1 < len(ours):
                i += 1
                left.append(ours[i])
            elif j + 1 < len(theirs):
                j += 1
                right.append(theirs[j])
            else:
                break
        sources = tuple(source for axis, _ in left for source in axes[axis])
        for axis, _ in right:
            found[axis] = sources
        i, j = i + 1, j + 1
    return tuple(found)


def _product(pairs: list[tuple[int, int]]) -> int:
    total = 1
    for _, extent in pairs:
        total *= extent
    return total
