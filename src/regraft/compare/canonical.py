"""The canonical trace: every operator of the reference on canonical inputs, exactly, with what rounding does to it.

A canonical value is the exact result of an operator on canonical inputs, rounded to float32 once. Whoever is compared
gets these values as inputs, operator by operator: an error is then the error of that operator alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.compare.deviation import HUGE, Deviation, by_channel, deviation
from regraft.compare.noise import FLUSHED, Ratio, ratios, unit_roundoff
from regraft.errors import Unsupported
from regraft.runtime.rounding import round_to

if TYPE_CHECKING:
    from regraft.runtime.interface import Array, Feeds
    from regraft.runtime.operator_graph import OperatorGraph, OperatorNode

JITTERED_RUNS = 4
PLAUSIBLE = 1e-3
"""Relative error of one operator in float32 beyond which it is no rounding."""
FEW = 256
"""A tensor of so few elements can be exact by chance: its floor is that of jittered runs, too."""
DWARFED = 100.0
"""Elements beyond so many times the median (or the lowest tenth) hide the errors of the others."""
MIN_SMALL = 8


class CanonicalTensor(msgspec.Struct):
    """One tensor of the reference.

    Attributes:
        name: of the tensor.
        maker: position of its operator in the graph's order; -1 for what is fed.
        value: canonical value; floating tensors in float32.
        own: error of the operator's own run in the judged precision, None for integers.
        unstable: integers that the operator's own runs disagree on; None where there are none.
        family: the same for tensors that hold the same numbers in the same order, whatever their shape.
        is_exact: computed in float64; otherwise the floor is that of jittered inputs.
    """

    name: str
    maker: int
    value: Array
    own: Deviation | None
    unstable: Array | None
    family: str
    is_exact: bool = True
    small: SmallPart | None = None
    floors: Floors | None = None

    def ratio(self, other: Array, *, unit: float) -> Ratio | None:
        """The deviation of an array of the same shape in noise floors; None where they are not comparable.

        Args:
            other: what is to be compared.
            unit: unit roundoff of the judged precision.
        """
        if self.own is None or other.dtype.kind not in "fV" or other.shape != self.value.shape:
            return None
        quick = self._quick_ratio(other, unit)
        if quick is not None:
            return quick
        found = deviation(other, self.value)
        if found.incomparable:
            return None
        (ratio,) = ratios([found], [self.own], unit=unit)
        if self.small is None:
            return ratio
        part = deviation(other[self.small.places], self.value[self.small.places])
        (fine,) = ratios([part], [self.small.own], unit=unit)
        return Ratio(max(ratio.rms, fine.rms), max(ratio.peak, fine.peak), ratio.floor)

    def _quick_ratio(self, other: Array, unit: float) -> Ratio | None:
        """The same from floors that are kept; None where something must be left out of the comparison."""
        assert self.own is not None
        if self.floors is None:
            self.floors = Floors.of(self.value, self.own, unit)
        ratio = self.floors.ratio(other, self.value)
        if ratio is None or self.small is None:
            return ratio
        places = self.small.places
        if self.small.floors is None:
            self.small.floors = Floors.of(self.value[places], self.small.own, unit)
        fine = self.small.floors.ratio(other[places], self.value[places])
        return None if fine is None else Ratio(max(ratio.rms, fine.rms), max(ratio.peak, fine.peak), ratio.floor)


class Floors(msgspec.Struct, frozen=True):
    """The floors of one tensor, ready for many comparisons: what `ratios` works out, kept as arrays.

    Attributes:
        rms: floor of the RMS, in the tensor's unit.
        peaks: floor of the largest error, by channel.
        is_plain: all values are finite and none is a mask, so that nothing is left out.
    """

    rms: float
    peaks: Array
    is_plain: bool

    @classmethod
    def of(cls, value: Array, own: Deviation, unit: float) -> Floors:
        """From the error of the reference's own run."""
        import numpy as np

        peaks, scales = np.array(own.peaks), np.array(own.scale_peaks)
        largest = scales.max(initial=0.0)
        relative = max(own.peak / largest if largest > 0 else 0.0, unit)
        is_plain = bool(np.isfinite(value).all()) and float(np.abs(value).max(initial=0.0)) < HUGE
        return cls(
            max(own.rms, unit * own.scale_rms, FLUSHED),
            np.maximum(np.maximum(peaks, relative * scales), FLUSHED),
            is_plain,
        )

    def ratio(self, other: Array, value: Array) -> Ratio | None:
        """The ratio of an array to the tensor's value; None where something must be left out of the comparison."""
        import numpy as np

        if not self.is_plain or not value.size:
            return None
        error = by_channel(other).astype(np.float64)
        error -= by_channel(value).astype(np.float64)  # (N, C)
        np.abs(error, out=error)
        peaks = error.max(axis=0)
        if not np.isfinite(peaks).all():
            return None
        rms = float(np.sqrt(np.square(error, out=error).mean()))
        return Ratio(rms / self.rms, float((peaks / self.peaks).max()), self.rms)


class SmallPart(msgspec.Struct):
    """The elements of a tensor that others dwarf: scores beside those that a mask pushed to −10,000.

    Attributes:
        places: where they are, a boolean array of the tensor's shape.
        own: error of the operator's own run there.
        floors: made when they are first wanted.
    """

    places: Array
    own: Deviation
    floors: Floors | None = None


class CanonicalTrace:
    """The canonical values of a reference on one set of feeds.

    Args:
        graph: of the reference.
        feeds: its inputs.
        precision: judged precision: its rounding is emulated after every operator to find the floor.
        constants: name → value in place of the reference's weight, as weights that were rounded on purpose.
    """

    def __init__(
        self,
        graph: OperatorGraph,
        feeds: Feeds,
        *,
        precision: str = "float32",
        constants: Mapping[str, Array] | None = None,
    ) -> None:
        self.graph = graph
        self.unit = unit_roundoff(precision)
        self.precision = precision
        self.constants = dict(constants or {})
        self.values: dict[str, Any] = dict(self.constants)
        self.tensors: dict[str, CanonicalTensor] = {}
        self.islands: list[str] = []
        self.stopped: str = ""
        """Why the trace ends early: the operator that the reference itself cannot run; empty otherwise."""
        for name, value in feeds.items():
            self._keep(name, -1, value, _exactly(value), None)
        for position, node in enumerate(graph.nodes):
            try:
                self._run(position, node)
            except Unsupported as error:
                self.stopped = error.what
                return

    def region(self, ends: Iterable[str], cuts: Iterable[str]) -> list[OperatorNode]:
        """The operators on which tensors depend, up to tensors whose family is one of the cuts, in order."""
        families = {self.tensors[name].family for name in cuts if name in self.tensors}
        found: set[int] = set()
        waiting = [name for name in ends if name in self.tensors]
        while waiting:
            position = self.tensors[waiting.pop()].maker
            if position < 0 or position in found:
                continue
            found.add(position)
            taken = (name for name in self.graph.nodes[position].inputs if name in self.tensors)
            waiting.extend(name for name in taken if self.tensors[name].family not in families)
        return [self.graph.nodes[position] for position in sorted(found)]

    def leaves(self, region: Iterable[OperatorNode]) -> set[str]:
        """Families of the tensors that a region takes from outside, constants apart."""
        nodes = list(region)
        inside = {name for node in nodes for name in node.outputs}
        return {
            self.tensors[name].family
            for node in nodes
            for name in node.inputs
            if name in self.tensors and name not in inside
        }

    def segment(self, region: Iterable[OperatorNode], *, patches: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Run a region in its own precision on canonical inputs, its operators on each other's results.

        Args:
            region: operators in order.
            patches: operator name → what to run in its place: a function from values to its outputs.
        """
        values = dict(self.values)
        made: dict[str, Any] = {}
        for node in region:
            replaced = (patches or {}).get(node.name)
            found = replaced(values) if replaced else self.graph.run(node, values)
            values |= found
            made |= found
        return made

    def with_segment_floor(self, name: str, region: list[OperatorNode]) -> CanonicalTensor | None:
        """A tensor with the floor of a whole region: the error of the region's own run at its end."""
        tensor = self.tensors[name]
        try:
            found = self.segment(region).get(name)
        except Unsupported:
            return None
        if tensor.own is None or found is None or found.shape != tensor.value.shape:
            return None
        own = _larger(deviation(found, tensor.value), tensor.own)
        small = tensor.small
        if small is not None:
            part = deviation(found[small.places], tensor.value[small.places])
            small = SmallPart(small.places, _larger(part, small.own))
        return msgspec.structs.replace(tensor, own=own, small=small, floors=None)

    def _run(self, position: int, node: OperatorNode) -> None:
        plain = self._emulated(node)
        own_run = plain if self.precision == "float32" else self.graph.run(node, self.values)
        try:
            exact = self.graph.run(node, self.values, precision="float64")
            is_exact = all(_is_close(value, own_run[name]) for name, value in exact.items())
        except Unsupported:
            is_exact = False
        if not is_exact:
            exact = own_run
            if any(_is_float(value) for value in exact.values()):
                self.islands.append(node.name)
        is_few = any(_is_float(value) and value.size <= FEW for value in exact.values())
        jittered = list(self._jittered(node)) if is_few or not is_exact else []
        for name, value in exact.items():
            if not hasattr(value, "dtype"):
                self.values[name] = value
                continue
            runs = [plain[name], *(run[name] for run in jittered if _is_close(value, run[name]))]
            own, unstable = _own_error(value, runs)
            small = _small_part(value, runs) if own is not None else None
            self._keep(name, position, value, own, unstable, is_exact=is_exact, small=small)

    def _emulated(self, node: OperatorNode) -> dict[str, Any]:
        """The operator's own run, with inputs and results rounded to the judged precision."""
        if self.precision == "float32":
            return self.graph.run(node, self.values)
        values = dict(self.values)
        for name in node.inputs:
            value = values.get(name, self.graph.constant(name) if name else None)
            if value is not None and _is_float(value):
                values[name] = round_to(value, self.precision)
        found = self.graph.run(node, values)
        return {name: round_to(v, self.precision) if _is_float(v) else v for name, v in found.items()}

    def _jittered(self, node: OperatorNode) -> Iterator[dict[str, Any]]:
        """Runs whose floating-point inputs and weights are moved by one unit in the last place."""
        from regraft.compare.jitter import jittered_feeds

        for seed in range(JITTERED_RUNS):
            own = {name: self.values.get(name, self.graph.constant(name)) for name in node.inputs if name}
            arrays = {name: value for name, value in own.items() if value is not None and _is_float(value)}
            yield self.graph.run(node, {**self.values, **jittered_feeds(arrays, seed=seed, unit=2 * self.unit)})

    def _keep(
        self,
        name: str,
        position: int,
        value: Array,
        own: Deviation | None,
        unstable: Array | None,
        *,
        is_exact: bool = True,
        small: SmallPart | None = None,
    ) -> None:
        if not name:
            return
        kept = round_to(value, "float32") if _is_float(value) else value
        self.values[name] = kept
        self.tensors[name] = CanonicalTensor(name, position, kept, own, unstable, family_of(kept), is_exact, small)


def family_of(value: Array) -> str:
    """The same text for arrays that hold the same numbers in the same order; -0 counts as 0."""
    if value.dtype == object:
        return hashlib.sha256(repr(value.tolist()).encode()).hexdigest()
    import numpy as np

    plain: Any = np.ascontiguousarray(value)
    if plain.dtype.kind == "f":
        plain = plain + 0.0
    return f"{plain.dtype}:{plain.size}:{hashlib.blake2b(plain.tobytes(), digest_size=16).hexdigest()}"


def _is_close(exact: Any, plain: Any) -> bool:
    """Is the difference of a size that rounding can have?

    A kernel in float64 that is further off is another operator (onnx's reference evaluator ignores the lengths of
    sequences); a jittered run that is further off has met a discontinuity.
    """
    if not _is_float(exact) or getattr(plain, "shape", None) != exact.shape:
        return not _is_float(exact)
    error = deviation(plain, exact)
    return error.incomparable == 0 and error.relative <= PLAUSIBLE


def _small_part(exact: Array, runs: list[Array]) -> SmallPart | None:
    """The elements that the largest ones would hide, where there are both in number."""
    import numpy as np

    size = np.abs(exact)
    usable = np.isfinite(size) & (size > 0) & (size < HUGE)
    if usable.sum() < MIN_SMALL:
        return None
    bound = DWARFED * float(np.median(size[usable]))
    if float(size[usable].max()) <= bound:
        median = float(np.quantile(size[usable], 0.1))
        bound = DWARFED * median
        if float(size[usable].max()) <= bound:
            return None
    places = usable & (size <= bound)
    if places.sum() < MIN_SMALL:
        return None
    own, _ = _own_error(exact[places], [run[places] for run in runs if run.shape == exact.shape])
    return SmallPart(places, own) if own is not None else None


def _own_error(exact: Array, candidates: list[Array]) -> tuple[Deviation | None, Array | None]:
    runs = [one for one in candidates if one.shape == exact.shape]
    if _is_float(exact):
        found = None
        for one in runs:
            error = deviation(one, exact)
            found = error if found is None else _larger(found, error)
        return found or _exactly(exact), None
    unstable = None
    for one in runs:
        differs = one != exact
        unstable = differs if unstable is None else unstable | differs
    return None, unstable if unstable is not None and unstable.any() else None


def _exactly(value: Array) -> Deviation | None:
    return deviation(value, value) if _is_float(value) else None


def _larger(one: Deviation, other: Deviation) -> Deviation:
    return msgspec.structs.replace(
        one,
        rms=max(one.rms, other.rms),
        peaks=tuple(max(pair) for pair in zip(one.peaks, other.peaks, strict=True)),
    )


def _is_float(value: Any) -> bool:
    return hasattr(value, "dtype") and (value.dtype.kind == "f" or "float" in str(value.dtype))
