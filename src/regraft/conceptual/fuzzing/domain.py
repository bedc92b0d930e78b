"""What may be fed: sizes that the reference takes, also those that an example fixes, and ranges of integers.

A signature that was made from example inputs names the batch alone. Whether another axis is free (a sequence, the sides
of an image) is found by running the reference with it longer; which integers are legal (a vocabulary) likewise.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.errors import BadFeeds, Unsupported
from regraft.package.formats import Port

if TYPE_CHECKING:
    from regraft.runtime.interface import Array, Feeds, Model

REFUSALS = (Unsupported, BadFeeds)
"""What models raise for inputs that they do not take."""
_LONGER = ((1, 1), (1, 2), (2, 0), (2, 4))
"""Times and plus of the extents at which an axis is tried; networks that halve their input want a multiple."""
_SIZES = ((0, 1), (0, 2), (0, 3), (1, -1), (1, 1), (2, 0), (2, 1), (3, 2))
"""Times and plus of the usual extent: one, the other parity, and beyond the usual length."""
_MOST_ELEMENTS, _MOST_TIMES = 1 << 22, 8
_MOST_S = 20.0
"""Seconds in which sizes are asked for, one pass each."""
_HIGHEST = 1 << 20
"""An input that takes this integer indexes no table."""
_CHECKS_INDICES = ("torch", "onnxruntime")
"""Runtimes that refuse an index beyond a table; JAX takes the last entry silently."""
_DRAWN = ("float", "int", "bool", "complex")
"""Parts of the names of dtypes whose values can be made up."""
_FROM_EXAMPLES = ("TorchModel", "JaxModel")


class Domain(msgspec.Struct, frozen=True):
    """Inputs of a reference.

    Attributes:
        ports: by the reference's names; a free extent is a symbol.
        usual: symbol → extent in the inputs that both are known to take.
        sizes: symbol → extents that the reference takes, the usual one first; without those that the candidate fixes.
        freed: symbols that the signature has no name for.
        ranges: integer input → lowest and highest legal value.
    """

    ports: tuple[Port, ...]
    usual: dict[str, int]
    sizes: dict[str, tuple[int, ...]]
    freed: frozenset[str]
    ranges: dict[str, tuple[int, int]]

    def shape(self, port: Port, setting: Mapping[str, int]) -> tuple[int, ...]:
        """Extents of an input where symbols have these sizes."""
        return tuple(setting[e] if isinstance(e, str) else int(e or 0) for e in port.shape or ())

    def setting_of(self, feeds: Feeds) -> dict[str, int]:
        """The size of each symbol in some feeds."""
        return {
            extent: int(size)
            for port in self.ports
            for extent, size in zip(port.shape or (), feeds[port.name].shape, strict=True)
            if isinstance(extent, str)
        }

    def settings(self) -> Iterator[dict[str, int]]:
        """The usual sizes, each symbol at each other size, then all at their smallest (no rows apart) and largest."""
        yield dict(self.usual)
        others = {
            symbol: [size for size in sizes if size != self.usual[symbol]] for symbol, sizes in self.sizes.items()
        }
        for turn in range(max(map(len, others.values()), default=0)):
            for symbol, sizes in others.items():
                if turn < len(sizes):
                    yield {**self.usual, symbol: sizes[turn]}
        if sum(bool(sizes) for sizes in others.values()) > 1:
            for choose in (min, max):
                yield {symbol: choose(size for size in sizes if size) for symbol, sizes in self.sizes.items()}


def is_mask(port: Port, ranges: Mapping[str, tuple[int, int]]) -> bool:
    """Is it zeros and ones that say what counts?"""
    is_whole = "int" in port.dtype or port.dtype == "bool"
    return is_whole and "mask" in port.name.lower() and ranges.get(port.name, (0, 1)) == (0, 1)


def domain_of(
    reference: Model, candidate: Model, feeds: Feeds, *, inputs: Mapping[str, str]
) -> tuple[Domain, Model, Model]:
    """What may be fed, and both models with signatures that let it through.

    Args:
        reference: decides what is legal.
        candidate: sizes that its own file or layers fix are kept.
        feeds: that both take, by the reference's names.
        inputs: reference's input → candidate's.
    Raises:
        Unsupported: an input is of a dtype whose values cannot be made up, as of texts.
    """
    for port in reference.signature.inputs:
        if not any(part in port.dtype for part in _DRAWN):
            raise Unsupported(f"values of input {port.name} ({port.dtype}) cannot be made up", where=reference.where)
    ports, declared = _ports(reference, feeds)
    wide = relaxed(reference, {port.name: (None,) * len(port.shape or ()) for port in ports})
    fixed = _fixed(candidate, inputs)
    names = _free_axes(wide, ports, feeds, fixed)
    ports = [
        Port(p.name, p.dtype, tuple(names.get((p.name, i), e) for i, e in enumerate(p.shape or ()))) for p in ports
    ]
    usual = {e: int(size) for p in ports for e, size in zip(p.shape or (), feeds[p.name].shape, strict=True)
             if isinstance(e, str)}  # fmt: skip
    shapes = {port.name: port.shape for port in ports}
    ours = relaxed(reference, shapes)
    theirs = relaxed(candidate, {inputs[name]: shape for name, shape in shapes.items() if name in inputs})
    held = {e for p in ports for i, e in enumerate(p.shape or ()) if (p.name, i) in fixed and isinstance(e, str)}
    until = time.monotonic() + _MOST_S
    sizes = {symbol: (size, *([] if symbol in held else _sizes(ours, ports, feeds, symbol, size, until)))
             for symbol, size in usual.items()}  # fmt: skip
    found = Domain(tuple(ports), usual, sizes, frozenset(usual) - declared, _ranges(ours, ports, feeds))
    return found, ours, theirs


def relaxed(model: Model, shapes: Mapping[str, Sequence[int | str | None] | None]) -> Model:
    """The same model with other extents in its signature, where that only repeats an example; others as they are."""
    any_model: Any = model
    kind = type(model).__name__
    if kind not in _FROM_EXAMPLES:
        return model
    ports = [Port(p.name, p.dtype, tuple(shapes.get(p.name) or p.shape or ())) for p in model.signature.inputs]
    if kind == "TorchModel":
        from regraft.runtime.torch_module import TorchModel

        ranges = model.signature.ranges
        return TorchModel(any_model.module, inputs=ports, ranges=ranges, threads=any_model.threads, where=model.where)
    from regraft.runtime.jax_model import JaxModel

    return JaxModel(any_model.function, inputs=ports, weights=any_model.weights, where=model.where)


def resized(value: Array, axis: int, size: int) -> Array:
    """An array with an axis cut, or continued from its beginning."""
    import numpy as np

    made: Array = np.take(value, np.arange(size) % max(1, value.shape[axis]), axis=axis)
    return made


def accepts(model: Model, feeds: Feeds) -> bool:
    """Does it run on these?"""
    from regraft.runtime.feeding import feeds_for

    try:
        model(feeds_for(model, feeds))
    except REFUSALS:
        return False
    return True


def _ports(reference: Model, feeds: Feeds) -> tuple[list[Port], set[str]]:
    """Inputs with a symbol for each extent that the signature leaves open, and these symbols."""
    found, declared = [], set()
    for port in reference.signature.inputs:
        shape = port.shape if port.shape is not None else (None,) * feeds[port.name].ndim
        named = tuple(f"{port.name}.{axis}" if e is None else e for axis, e in enumerate(shape))
        declared |= {extent for extent in named if isinstance(extent, str)}
        found.append(Port(port.name, port.dtype, named))
    return found, declared


def _fixed(candidate: Model, inputs: Mapping[str, str]) -> set[tuple[str, int]]:
    """Axes, by the reference's names, that the candidate's own file or layers give a size to."""
    if type(candidate).__name__ in _FROM_EXAMPLES:
        return set()
    ours = {theirs: name for name, theirs in inputs.items()}
    return {
        (ours[port.name], axis)
        for port in candidate.signature.inputs
        for axis, extent in enumerate(port.shape or ())
        if isinstance(extent, int)
    }


def _free_axes(
    wide: Model, ports: Sequence[Port], feeds: Feeds, fixed: set[tuple[str, int]]
) -> dict[tuple[str, int], str]:
    """Axes with a size in the signature that may have another: alone, or together with those of the same extent."""
    if type(wide).__name__ not in _FROM_EXAMPLES:
        return {}
    waiting = [(port.name, axis) for port in ports for axis, extent in enumerate(port.shape or ())
               if isinstance(extent, int) and extent > 0]  # fmt: skip
    found: dict[tuple[str, int], str] = {}
    groups = [[place] for place in waiting]
    by_extent: dict[int, list[tuple[str, int]]] = {}
    for name, axis in waiting:
        by_extent.setdefault(feeds[name].shape[axis], []).append((name, axis))
    groups += [group for group in by_extent.values() if len(group) > 1]
    for group in groups:
        if any(place in found or place in fixed for place in group):
            continue
        if any(accepts(wide, _with_sizes(feeds, group, times, plus)) for times, plus in _LONGER):
            found |= dict.fromkeys(group, f"{group[0][0]}.{group[0][1]}")
    return found


def _with_sizes(feeds: Feeds, places: Sequence[tuple[str, int]], times: int, plus: int) -> dict[str, Array]:
    made = dict(feeds)
    for name, axis in places:
        made[name] = resized(made[name], axis, times * feeds[name].shape[axis] + plus)
    return made


def _sizes(model: Model, ports: Sequence[Port], feeds: Feeds, symbol: str, usual: int, until: float) -> list[int]:
    """Other sizes of a symbol that the reference takes, none too heavy; also 0, where it is the batch."""
    places = [(p.name, axis) for p in ports for axis, extent in enumerate(p.shape or ()) if extent == symbol]
    wanted = [times * usual + plus for times, plus in _SIZES]
    if all(axis == 0 for _, axis in places):
        wanted.append(0)
    elements = sum(feeds[name].size for name, _ in places)
    most = max(elements, min(_MOST_ELEMENTS, _MOST_TIMES * elements))
    found = []
    for size in dict.fromkeys(wanted):
        if size == usual or size < 0 or elements * size > most * usual or time.monotonic() > until:
            continue
        made = dict(feeds)
        for name, axis in places:
            made[name] = resized(made[name], axis, size)
        if accepts(model, made):
            found.append(size)
    return found


def _ranges(model: Model, ports: Sequence[Port], feeds: Feeds) -> dict[str, tuple[int, int]]:
    """Legal integers of each input: as the signature says, else as far as the reference goes, else as in the feeds."""
    stated = model.signature.ranges
    found = {}
    for port in ports:
        value = feeds[port.name]
        if "int" not in port.dtype or not value.size:
            continue
        if is_mask(port, stated):
            found[port.name] = (0, 1)
        elif not value.ndim:
            found[port.name] = (int(value), int(value))  # a lone integer is a setting: a sample rate
        else:
            found[port.name] = stated.get(port.name) or _probed(model, port.name, feeds)
    return found


def _probed(model: Model, name: str, feeds: Feeds) -> tuple[int, int]:
    import numpy as np

    value = feeds[name]
    known = int(value.max())
    lowest = min(0, int(value.min()))

    def takes(integer: int) -> bool:
        return accepts(model, {**feeds, name: (value * 0 + integer).astype(value.dtype)})

    highest = min(_HIGHEST, int(np.iinfo(str(value.dtype)).max))
    if model.runtime not in _CHECKS_INDICES or takes(highest):
        return lowest, max(known, 1)
    beyond = min(highest, max(2, known + 1))
    while beyond < highest and takes(beyond):
        beyond = min(highest, 2 * beyond)
    low = known
    while beyond - low > 1:
        middle = math.floor((low + beyond) / 2)
        low, beyond = (middle, beyond) if takes(middle) else (low, middle)
    return lowest, low
