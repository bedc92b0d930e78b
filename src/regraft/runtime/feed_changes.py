"""Feeds made from other feeds: changed by chance, but with values and sizes such as the data has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.runtime.feeds import FeedCase
from regraft.runtime.interface import Signature

if TYPE_CHECKING:
    import numpy as np

    from regraft.runtime.interface import Array, Feeds

_NEAR = 1e-3
"""Share of an input's range by which a neighbour differs in each element."""
_FEW = 0.02
_MOST_LEVELS = 4096


class Bounds(msgspec.Struct, frozen=True):
    """What an input may hold.

    Attributes:
        low, high: of floating-point numbers and of integers with a range.
        levels: the only values that are known to be legal; None where a range is.
        is_mask: ones, followed by zeros.
    """

    low: float
    high: float
    levels: Array | None = None
    is_mask: bool = False


class FeedChanger:
    """Makes feeds out of feeds.

    Floating-point inputs stay between the least and the largest value that the cases have for them. Integers stay in
    the range that the signature states; without one, only values that the cases have are used. Inputs of zeros and
    ones whose name says mask stay masks, with at least one 1 a row. Symbolic dimensions stay between the sizes that the
    cases have.

    Args:
        signature: of the model.
        cases: at least one.
    """

    def __init__(self, signature: Signature, cases: Sequence[FeedCase]) -> None:
        self._cases = [case.feeds for case in cases]
        self._shapes = {port.name: port.shape for port in signature.inputs}
        self._bounds = {
            name: _bounds(name, [case[name] for case in self._cases if name in case], signature.ranges.get(name))
            for name in self._cases[0]
        }
        self._sizes = self._seen_sizes()

    def changed(self, feeds: Feeds, random: np.random.Generator) -> dict[str, Array]:
        """Other feeds: one or two inputs are changed, the sizes perhaps too.

        Args:
            feeds: to start from.
            random: decides.
        """
        made = dict(feeds)
        if any(len(sizes) > 1 for sizes in self._sizes.values()) and random.random() < 0.15:
            made = self._resized(made, random)
        names = [name for name, value in made.items() if value.size and value.dtype.kind in "fiub"]
        for _ in range(int(random.integers(1, 3))):
            if names:
                name = names[int(random.integers(len(names)))]
                made[name] = self._change(name, made[name], random)
        return made

    def neighbour(self, feeds: Feeds, random: np.random.Generator) -> dict[str, Array]:
        """Feeds that differ a little everywhere: in a thousandth of the range, or in a few integers."""
        made = dict(feeds)
        for name, value in feeds.items():
            bounds = self._bounds[name]
            if value.dtype.kind == "f":
                step = _NEAR * min(bounds.high - bounds.low, 2 * float(abs(value).max(initial=0.0)))
                made[name] = _clipped(
                    value.astype("float64") + step * random.standard_normal(value.shape), bounds, value
                )
            elif value.dtype.kind in "iu" and not bounds.is_mask and value.size > 1:
                made[name] = _some_replaced(value, _drawn(value.shape, bounds, random), _FEW, random)
        return made

    def _change(self, name: str, value: Array, random: np.random.Generator) -> Array:
        bounds = self._bounds[name]
        if random.random() < 0.15:
            return self._rows_swapped(name, value, random)
        if bounds.is_mask:
            return _mask(value, random)
        if value.dtype.kind == "f":
            choice = _FLOAT_CHANGES[int(random.integers(len(_FLOAT_CHANGES)))]
            return _clipped(choice(value.astype("float64"), bounds, random), bounds, value)
        if value.dtype.kind == "b":
            return _some_replaced(value, random.integers(0, 2, value.shape), random.random(), random)
        return _integers(value, bounds, random)

    def _rows_swapped(self, name: str, value: Array, random: np.random.Generator) -> Array:
        """Rows of another case in the place of some, or the same rows in another order."""
        import numpy as np

        if value.ndim == 0:
            return value
        other = self._cases[int(random.integers(len(self._cases)))].get(name)
        if other is None or other.shape[1:] != value.shape[1:] or not len(other):
            return np.ascontiguousarray(value[random.permutation(len(value))])
        taken = random.random(len(value)) < 0.5
        rows = random.integers(0, len(other), len(value))
        return np.where(taken.reshape(-1, *[1] * (value.ndim - 1)), other[rows], value)

    def _resized(self, feeds: dict[str, Array], random: np.random.Generator) -> dict[str, Array]:
        """Every symbolic dimension at a size between those that were seen; what is there is repeated or cut."""
        import numpy as np

        chosen = {symbol: int(random.integers(min(s), max(s), endpoint=True)) for symbol, s in self._sizes.items()}
        made = {}
        for name, value in feeds.items():
            made[name] = value
            for axis, symbol in enumerate(_symbols(name, self._shapes.get(name), value)):
                if symbol in chosen and value.shape[axis]:
                    made[name] = np.take(made[name], np.arange(chosen[symbol]) % value.shape[axis], axis=axis)
        return made

    def _seen_sizes(self) -> dict[str, set[int]]:
        found: dict[str, set[int]] = {}
        for case in self._cases:
            for name, value in case.items():
                for axis, symbol in enumerate(_symbols(name, self._shapes.get(name), value)):
                    if symbol is not None:
                        found.setdefault(symbol, set()).add(value.shape[axis])
        return found


def _symbols(name: str, shape: Sequence[int | str | None] | None, value: Array) -> list[str | None]:
    """Symbol of each axis; an axis without a name has one of its own."""
    if shape is None or len(shape) != value.ndim:
        return [None] * value.ndim
    return [None if isinstance(extent, int) else extent or f"{name}.{axis}" for axis, extent in enumerate(shape)]


def _bounds(name: str, values: Sequence[Array], legal: tuple[int, int] | None) -> Bounds:
    import numpy as np

    kind = values[0].dtype.kind
    if kind not in "fiu":
        return Bounds(0.0, 1.0)
    flat = np.concatenate([value.ravel() for value in values])
    usable = flat[np.isfinite(flat)] if kind == "f" else flat
    low, high = (float(usable.min()), float(usable.max())) if usable.size else (0.0, 0.0)
    if kind == "f":
        return Bounds(low, high)
    is_mask = "mask" in name.lower() and low >= 0 and high <= 1
    if legal is not None:
        return Bounds(float(legal[0]), float(legal[1]), is_mask=is_mask)
    return Bounds(low, high, np.unique(flat)[:_MOST_LEVELS], is_mask)


def _clipped(made: Any, bounds: Bounds, like: Array) -> Array:
    import numpy as np

    result: Array = np.clip(made, bounds.low, bounds.high).astype(like.dtype)
    return result


def _drawn(shape: tuple[int, ...], bounds: Bounds, random: np.random.Generator) -> Array:
    if bounds.levels is not None:
        return bounds.levels[random.integers(0, len(bounds.levels), shape)]
    return random.integers(int(bounds.low), int(bounds.high), shape, endpoint=True)


def _some_replaced(value: Array, other: Array, share: float, random: np.random.Generator) -> Array:
    """Some elements taken from elsewhere, at least one."""
    import numpy as np

    chosen = random.random(value.shape) < share
    chosen.reshape(-1)[int(random.integers(value.size))] = True
    return np.where(chosen, other, value).astype(value.dtype)


def _integers(value: Array, bounds: Bounds, random: np.random.Generator) -> Array:
    import numpy as np

    fresh = _drawn(value.shape, bounds, random)
    ends = _drawn((2,), bounds, random) if bounds.levels is not None else np.array([bounds.low, bounds.high])
    makers: tuple[Callable[[], Array], ...] = (
        lambda: _some_replaced(value, fresh, 0.1, random),
        lambda: _some_replaced(value, fresh, 0.7, random),
        lambda: _some_replaced(value, np.full(value.shape, ends[int(random.integers(2))]), random.random(), random),
        lambda: np.full(value.shape, fresh.reshape(-1)[0]),
        lambda: np.flip(value, axis=-1) if value.ndim else value,
    )
    return np.array(makers[int(random.integers(len(makers)))](), dtype=value.dtype)


def _mask(value: Array, random: np.random.Generator) -> Array:
    """Ones of another length in each row; the last axis is padded on the right."""
    import numpy as np

    if value.ndim == 0 or not value.size:
        return value
    lengths = random.integers(1, value.shape[-1], value.shape[:-1], endpoint=True)
    return (np.arange(value.shape[-1]) < lengths[..., None]).astype(value.dtype)


def _scaled(x: Any, bounds: Bounds, random: np.random.Generator) -> Any:
    return x * float(2.0 ** random.uniform(-3, 4))


def _shifted(x: Any, bounds: Bounds, random: np.random.Generator) -> Any:
    return x + random.uniform(-0.5, 0.5) * (bounds.high - bounds.low)


def _sparse(x: Any, bounds: Bounds, random: np.random.Generator) -> Any:
    """Most elements at zero, or at the end of the range that is nearest to it."""
    import numpy as np

    return np.where(random.random(x.shape) < random.uniform(0.5, 0.99), min(max(0.0, bounds.low), bounds.high), x)


def _extreme(x: Any, bounds: Bounds, random: np.random.Generator) -> Any:
    """Some elements, or all, at the ends of the range."""
    import numpy as np

    ends = np.where(random.random(x.shape) < random.random(), bounds.low, bounds.high)
    return np.where(random.random(x.shape) < random.choice([0.1, 0.5, 1.0]), ends, x)


def _plane_extreme(x: Any, bounds: Bounds, random: np.random.Generator) -> Any:
    """One index of one axis (a channel, a feature) at an end of the range."""
    import numpy as np

    if x.ndim == 0:
        return x
    axis = int(random.integers(x.ndim))
    made = np.moveaxis(x.copy(), axis, 0)
    made[int(random.integers(x.shape[axis]))] = random.choice([bounds.low, bounds.high])
    return np.moveaxis(made, 0, axis)


def _pushed(x: Any, bounds: Bounds, random: np.random.Generator) -> Any:
    """Every element further from the middle of the range: the same signs, larger."""
    import numpy as np

    middle = (bounds.low + bounds.high) / 2
    return np.where(x >= np.median(x), middle + (bounds.high - middle), middle - (middle - bounds.low))


def _constant(x: Any, bounds: Bounds, random: np.random.Generator) -> Any:
    import numpy as np

    return np.full(x.shape, random.uniform(bounds.low, bounds.high))


def _fresh(x: Any, bounds: Bounds, random: np.random.Generator) -> Any:
    """Uniform in a part of the range."""
    width = (bounds.high - bounds.low) * float(2.0 ** -random.uniform(0, 6))
    start = random.uniform(bounds.low, bounds.high - width)
    return random.uniform(start, start + width, x.shape)


def _moved(x: Any, bounds: Bounds, random: np.random.Generator) -> Any:
    """A few coordinates moved by a part of the range."""
    import numpy as np

    step = (bounds.high - bounds.low) * float(2.0 ** -random.uniform(0, 6)) * random.standard_normal(x.shape)
    return np.where(random.random(x.shape) < random.choice([0.02, 0.2, 1.0]), x + step, x)


_FLOAT_CHANGES: tuple[Callable[[Any, Bounds, Any], Any], ...] = (
    _scaled, _shifted, _sparse, _extreme, _plane_extreme, _pushed, _constant, _fresh, _moved, _moved,
)  # fmt: skip
