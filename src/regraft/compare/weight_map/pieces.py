"""How a weight of the candidate is made out of weights of the reference: arrays in, arrays out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.compare.weight_map.interface import IN, NONE, OUT, SPACE
from regraft.errors import UsageError

if TYPE_CHECKING:
    from regraft.runtime.interface import Array


class Piece(msgspec.Struct, frozen=True):
    """A weight, or a slice of one, with what its axes mean.

    Attributes:
        weight: its name.
        shape: of the whole weight.
        axes: one letter for each axis, see `interface.OUT`.
        part: axis, start and stop of the slice; None for all.
    """

    weight: str
    shape: tuple[int, ...]
    axes: str
    part: tuple[int, int, int] | None = None

    @property
    def extents(self) -> tuple[int, ...]:
        """Of the slice."""
        if self.part is None:
            return self.shape
        axis, start, stop = self.part
        return (*self.shape[:axis], stop - start, *self.shape[axis + 1 :])

    def size(self, letter: str) -> int:
        """Product of the extents with a letter."""
        return math.prod(extent for extent, own in zip(self.extents, self.axes, strict=True) if own == letter)

    @property
    def space(self) -> tuple[int, ...]:
        """Extents of the places of a convolution, in order."""
        return tuple(extent for extent, own in zip(self.extents, self.axes, strict=True) if own == SPACE)

    @property
    def order(self) -> tuple[int, ...]:
        """Axes with letters in the canonical order: O, I, S, then the rest; equal letters as they stand."""
        ranks = {OUT: 0, IN: 1, SPACE: 2}
        return tuple(sorted(range(len(self.axes)), key=lambda axis: ranks.get(self.axes[axis], 3)))

    def canonical(self, value: Array) -> Array:
        """The slice as (O, I, *S)."""
        if self.part is not None:
            axis, start, stop = self.part
            value = value[(slice(None),) * axis + (slice(start, stop),)]
        value = value.transpose(self.order)
        rest = value.shape[sum(letter in (OUT, IN, SPACE) for letter in self.axes) :]
        return value.reshape(self.size(OUT), self.size(IN), *self.space, *(extent for extent in rest if extent != 1))

    def placed(self, canonical: Array, into: Array) -> None:
        """Write what is (O, I, *S) to where the slice lies in the whole weight."""
        import numpy as np

        order = self.order
        turned = canonical.reshape([self.extents[axis] for axis in order]).transpose(np.argsort(order))
        if self.part is None:
            into[...] = turned
        else:
            axis, start, stop = self.part
            into[(slice(None),) * axis + (slice(start, stop),)] = turned


class Source(msgspec.Struct, frozen=True):
    """What is taken of a weight of the reference.

    Attributes:
        piece: the weight.
        rows: start and stop along O; None for all.
        heads: O lies as (heads, parts, rest), and `rows` counts parts; 0 where it does not.
        parts: with `heads`, how many parts each head has.
    """

    piece: Piece
    rows: tuple[int, int] | None = None
    heads: int = 0
    parts: int = 1

    def canonical(self, value: Array) -> Array:
        """What is taken, as (O, I, *S)."""
        found = self.piece.canonical(value)
        if self.heads:
            found = found.reshape(self.heads, self.parts, -1, *found.shape[1:])  # (nh, parts, hs, I, *S)
            start, stop = self.rows or (0, self.parts)
            found = found[:, start:stop].swapaxes(0, 1)
            return found.reshape(-1, *found.shape[3:])
        return found if self.rows is None else found[slice(*self.rows)]


class Norm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A norm with fixed statistics that is part of the projection in front of it.

    Attributes:
        scale, shift: weights of the reference; empty where the norm has none.
        centre, variance: its statistics.
        epsilon: added to the variance.
        is_added: the candidate's weight is what the projection adds, not what it multiplies by.
    """

    scale: str
    shift: str
    centre: str
    variance: str
    epsilon: float
    is_added: bool = False

    @property
    def weights(self) -> tuple[str, ...]:
        """Of the reference, all that there are."""
        return tuple(name for name in (self.scale, self.shift, self.centre, self.variance) if name)

    def largest_term(self, reference: Mapping[str, Array]) -> float:
        """The largest |centre · factor| + |shift| of its channels: what cancels where the norm adds."""
        import numpy as np

        wide: dict[str, Any] = {name: reference[name].astype(np.float64) for name in self.weights}
        factor = wide.get(self.scale, 1.0) / np.sqrt(wide[self.variance] + self.epsilon)
        return float((np.abs(wide[self.centre] * factor) + np.abs(wide.get(self.shift, 0.0))).max(initial=0.0))

    def folded(self, value: Array, reference: Mapping[str, Array]) -> Array:
        """What the projection's weight, or what it adds, is with the norm in it, in float64.

        Args:
            value: (O, I, *S).
            reference: weight → array.
        """
        import numpy as np

        along = (-1, *(1,) * (value.ndim - 1))
        wide: dict[str, Any] = {name: reference[name].astype(np.float64).reshape(along) for name in self.weights}
        factor = wide.get(self.scale, 1.0) / np.sqrt(wide[self.variance] + self.epsilon)
        if not self.is_added:
            return np.asarray(value * factor)
        return np.asarray((value - wide[self.centre]) * factor + wide.get(self.shift, 0.0))


class Pair(msgspec.Struct, frozen=True):
    """A weight of the candidate, and what it is in the reference.

    Attributes:
        candidate: the weight, or a slice of it.
        sources: of the reference: one, or several that are joined along O; none for one number.
        is_sum: the sources are added, not joined.
        heads: the joined sources are interleaved: O of the candidate lies as (heads, sources, rest); 0 if not.
        blocks: order of equal blocks along O (the gates of a recurrent layer); empty where it is the same.
        inputs: extents into which I is split, and the order in which the candidate has them (a flattened image):
            `((C, H, W), (1, 2, 0))`; None where I is the same.
        is_flipped: places are reversed.
        norm: of the reference that is folded into the candidate's weight; None for most.
        fill: number that the weight is filled with where there are no sources.
        is_free: infinitely many other numbers would do, together with those of its norm.
        status: `proven`, `consistent`, `ambiguous`, or `given` by the user.
        why: what it rests on.
    """

    candidate: Piece
    sources: tuple[Source, ...]
    is_sum: bool = False
    heads: int = 0
    blocks: tuple[int, ...] = ()
    inputs: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    is_flipped: bool = False
    status: str = "consistent"
    why: str = ""
    norm: Norm | None = None
    fill: float = 0.0
    is_free: bool = False

    @property
    def needed(self) -> tuple[str, ...]:
        """All weights of the reference that go into it."""
        own = tuple(source.piece.weight for source in self.sources)
        return own if self.norm is None else (*own, *self.norm.weights)

    def place(self, reference: Mapping[str, Array], into: Array) -> None:
        """Write the candidate's numbers into an array of the whole weight's shape.

        Args:
            reference: weight → array.
            into: shape of the candidate's weight; changed.
        Raises:
            UsageError: the numbers do not fit.
        """
        import numpy as np

        try:
            if not self.sources:
                shape = (self.candidate.size(OUT), self.candidate.size(IN), *self.candidate.space)
                value = np.full(shape, self.fill, into.dtype)
            else:
                value = self._joined([source.canonical(reference[source.piece.weight]) for source in self.sources])
            if self.norm is not None:
                value = self.norm.folded(value, reference)
            self.candidate.placed(self._turned(value), into)
        except ValueError as error:
            names = " + ".join(source.piece.weight for source in self.sources)
            raise UsageError(f"{names} does not fit {self.candidate.weight}: {error}", hint="edit the map") from error

    def _joined(self, parts: Sequence[Array]) -> Array:
        import numpy as np

        if self.is_sum:
            total: Array = np.sum(parts, axis=0, dtype=parts[0].dtype)
            return total
        if self.heads:
            split = [one.reshape(self.heads, -1, *one.shape[1:]) for one in parts]  # (nh, hs, I, *S)
            joined = np.concatenate(split, axis=1)
            return joined.reshape(-1, *joined.shape[2:])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _turned(self, value: Array) -> Array:
        import numpy as np

        if self.blocks:
            cut = value.reshape(len(self.blocks), -1, *value.shape[1:])  # (gates, H, I, *S)
            value = cut[list(self.blocks)].reshape(value.shape)
        if self.inputs is not None:
            extents, order = self.inputs
            split = value.reshape(value.shape[0], *extents)
            value = split.transpose(0, *(axis + 1 for axis in order)).reshape(value.shape)
        if self.is_flipped:
            value = np.flip(value, axis=tuple(range(2, value.ndim)))
        return value


def letters_of(shape: Sequence[int], letter: str = OUT) -> str:
    """The same letter for all axes, `NONE` for those of extent 1."""
    return "".join(NONE if extent == 1 else letter for extent in shape)
