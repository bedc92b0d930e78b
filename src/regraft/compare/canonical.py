"""The canonical trace: every operator of the reference on canonical inputs, exactly, with what rounding does to it.

A canonical value is the exact result of an operator on canonical inputs, rounded once to the dtype that the operator
gives it. Whoever is compared gets these values as inputs, operator by operator: an error is then the error of that
operator alone.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.compare.deviation import HUGE, Deviation, deviation
from regraft.compare.floors import Floors, SmallPart, quick_ratio
from regraft.compare.matching import TensorIndex
from regraft.compare.noise import OF_ONE, Ratio, ratios, unit_roundoff
from regraft.compare.roles import role
from regraft.errors import Unsupported
from regraft.runtime.rounding import as_dtype, as_like, float_dtype, round_to, rounded

if TYPE_CHECKING:
    from regraft.runtime.interface import Array, Feeds
    from regraft.runtime.operator_graph import OperatorGraph, OperatorNode
    from regraft.runtime.spill import Spill

JITTERED_RUNS = 4
PLAUSIBLE = 1e-3
"""Relative error of one operator in float32 beyond which it is no rounding."""
_ROUNDING_OF_ONE = 2.0**-22
"""An error that is rounding whatever the result's size: a sigmoid of −20 is computed from numbers near one."""
FEW = 256
"""A tensor of so few elements can be exact by chance: its floor is that of jittered runs, too."""
DWARFED = 100.0
"""Elements beyond so many times the median (or the lowest tenth) hide the errors of the others."""
MIN_SMALL = 8
_SAMPLED = 1 << 14
"""Elements from which the typical size of a large tensor's elements is taken."""


class CanonicalTensor(msgspec.Struct):
    """One tensor of the reference.

    Attributes:
        name: of the tensor.
        maker: position of its operator in the graph's order; -1 for what is fed.
        value: canonical value, in the dtype that the reference gives it; bfloat16 in float32.
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
    floors: tuple[Floors, tuple[SmallPart, Floors] | None] | None = None

    def ratio(self, other: Array, *, unit: float) -> Ratio | None:
        """The deviation of an array of the same shape in noise floors; None where they are not comparable.

        Args:
            other: what is to be compared.
            unit: unit roundoff of the judged precision.
        """
        if self.own is None or other.dtype.kind not in "fV" or other.shape != self.value.shape:
            return None
        if self.floors is None:
            self.floors = self._floors(self.own, unit)
        quick = quick_ratio(other, self.value, *self.floors)
        if quick is not None:
            return quick
        found = deviation(other, self.value)
        if found.incomparable:
            return None
        (ratio,) = ratios([found], [self.own], unit=unit)
        if self.small is None:
            return ratio
        places = self.small.places(self.value)
        part = deviation(other[places], self.value[places])
        (fine,) = ratios([part], [self.small.own], unit=unit)
        return Ratio(max(ratio.rms, fine.rms), max(ratio.peak, fine.peak), ratio.floor)

    def _floors(self, own: Deviation, unit: float) -> tuple[Floors, tuple[SmallPart, Floors] | None]:
        small = None if self.small is None else (self.small, Floors.of(self.small.own, unit))
        return Floors.of(own, unit), small


class CanonicalTrace:
    """The canonical values of a reference on one set of feeds.

    Args:
        graph: of the reference.
        feeds: its inputs.
        precision: judged precision: its rounding is emulated after every operator to find the floor.
        constants: name → value in place of the reference's weight, as weights that were rounded on purpose.
        is_empty: run nothing: whoever makes it knows the tensors already.
        spill: where values are put, so that few of them are in memory; None to hold them.
    """

    def __init__(
        self,
        graph: OperatorGraph,
        feeds: Feeds,
        *,
        precision: str = "float32",
        constants: Mapping[str, Array] | None = None,
        is_empty: bool = False,
        spill: Spill | None = None,
    ) -> None:
        self.graph = graph
        self.spill = spill
        self.unit = unit_roundoff(precision)
        self.precision = precision
        self.constants = dict(constants or {})
        self.values: dict[str, Any] = dict(self.constants)
        self.tensors: dict[str, CanonicalTensor] = {}
        self.islands: list[str] = []
        self._indices: dict[bool, TensorIndex] = {}
        self.stopped: str = ""
        """Why the trace ends early: the operator that the reference itself cannot run; empty otherwise."""
        for name, value in feeds.items():
            self._keep(name, -1, value, _exactly(value), None, dtype=float_dtype(value))
        for position, node in enumerate(() if is_empty else graph.nodes):
            if spill is not None:
                spill.breathe()
            try:
                self._run(position, node)
            except Unsupported as error:
                self.stopped = error.what
                return

    def index(self, *, blocked: bool = False) -> TensorIndex:
        """The tensors by what they hold, made once.

        Args:
            blocked: as for `TensorIndex`.
        """
        if blocked not in self._indices:
            self._indices[blocked] = TensorIndex(self, blocked=blocked)
        return self._indices[blocked]

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
            places = small.places(tensor.value)
            part = deviation(found[places], tensor.value[places])
            small = SmallPart(small.bound, small.count, _larger(part, small.own))
        return msgspec.structs.replace(tensor, own=own, small=small, floors=None)

    def _run(self, position: int, node: OperatorNode) -> None:
        plain = self._emulated(node)
        own_run = plain if self.precision == "float32" else self.graph.run(node, self.values)
        errors: dict[str, Deviation] = {}
        try:
            exact = self.graph.run(node, self.values, precision="float64")
            errors = {
                name: deviation(own_run[name], value) for name, value in exact.items() if _fits(value, own_run[name])
            }
            is_exact = all(_is_rounding(errors.get(name)) for name, value in exact.items() if _is_float(value))
        except Unsupported:
            is_exact = False
        if not is_exact:
            exact, errors = own_run, {}
            if any(_is_float(value) for value in exact.values()):
                self.islands.append(node.name)
        is_few = any(_is_float(value) and value.size <= FEW for value in exact.values())
        jittered = list(self._jittered(node)) if is_few or not is_exact else []
        for name, value in exact.items():
            if not hasattr(value, "dtype"):
                self.values[name] = as_like(value, own_run[name])
                continue
            runs = [plain[name], *(run[name] for run in jittered if _is_close(value, run[name]))]
            known = errors.get(name) if plain is own_run else None
            own, unstable = _own_error(value, runs, known)
            if own is not None and role(node.operator) == "sigmoid":
                own = _at_least(own, OF_ONE * self.unit)
            small = _small_part(value, runs) if own is not None else None
            dtype = float_dtype(own_run[name])
            self._keep(name, position, value, own, unstable, dtype=dtype, is_exact=is_exact, small=small)

    def _emulated(self, node: OperatorNode) -> dict[str, Any]:
        """The operator's own run, with inputs and results rounded to the judged precision."""
        if self.precision == "float32":
            return self.graph.run(node, self.values)
        values = dict(self.values)
        for name in node.inputs:
            value = values.get(name, self.graph.constant(name) if name else None)
            if value is not None and _is_float(value):
                values[name] = rounded(value, self.precision)
        found = self.graph.run(node, values)
        return {name: rounded(v, self.precision) if _is_float(v) else v for name, v in found.items()}

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
        dtype: str,
        is_exact: bool = True,
        small: SmallPart | None = None,
    ) -> None:
        import numpy as np

        if not name:
            return
        kept = np.ascontiguousarray(as_dtype(value, dtype) if _is_float(value) else value).reshape(value.shape)
        kept = self.spill.put(kept) if self.spill is not None else kept
        self.values[name] = kept
        self.tensors[name] = CanonicalTensor(name, position, kept, own, unstable, family_of(kept), is_exact, small)


def family_of(value: Array) -> str:
    """The same text for arrays that hold the same numbers in the same order; -0 counts as 0.

    Two checksums that nobody has a reason to deceive: a cryptographic one costs as much as the operators do.
    """
    if value.dtype == object:
        return hashlib.sha256(repr(value.tolist()).encode()).hexdigest()
    import numpy as np

    plain: Any = np.ascontiguousarray(as_dtype(value, "float32") if _is_float(value) else value)
    if plain.dtype.kind == "f":
        plain = plain + 0.0
    content = plain.reshape(-1).view(np.uint8)
    words = content[: content.size // 8 * 8].view(np.uint64)
    return f"{plain.dtype}:{plain.size}:{zlib.crc32(content):08x}{int(words.sum(dtype=np.uint64)):016x}"


def _is_close(exact: Any, plain: Any) -> bool:
    """Is the difference of a size that rounding can have? Always for what is no floating-point array."""
    return not _is_float(exact) or (_fits(exact, plain) and _is_rounding(deviation(plain, exact)))


def _fits(exact: Any, plain: Any) -> bool:
    return _is_float(exact) and getattr(plain, "shape", None) == exact.shape


def _is_rounding(error: Deviation | None) -> bool:
    """Can a difference be rounding?

    A kernel in float64 that is further off is another operator (onnx's reference evaluator ignores the lengths of
    sequences); a jittered run that is further off has met a discontinuity.
    """
    if error is None or error.incomparable:
        return False
    return error.relative <= PLAUSIBLE or error.peak <= _ROUNDING_OF_ONE


def _small_part(exact: Array, runs: list[Array]) -> SmallPart | None:
    """The elements that the largest ones would hide, where there are both in number."""
    import numpy as np

    size = np.abs(exact).astype(np.result_type(exact.dtype, np.float32), copy=False)  # in float16, HUGE is no number
    sample = size.reshape(-1)[:: max(1, size.size // _SAMPLED) | 1]
    usable = sample[(sample > 0) & (sample < HUGE)]  # NaN is in neither
    if usable.size < MIN_SMALL:
        return None
    largest = float(size.max()) if size.max() < HUGE else float(size[size < HUGE].max(initial=0.0))
    low, median = (DWARFED * float(bound) for bound in np.quantile(usable, (0.1, 0.5)))
    bound = median if largest > median else low
    if largest <= bound:
        return None
    kept = round_to(exact, "float32")
    part = SmallPart(bound, 0, Deviation(0, 0.0, (), 0.0, (), 0.0, 0.0))
    places = part.places(kept)
    count = int(places.sum())
    if count < MIN_SMALL:
        return None
    own, _ = _own_error(exact[places], [run[places] for run in runs if run.shape == exact.shape])
    return SmallPart(bound, count, own) if own is not None else None


def _own_error(
    exact: Array, candidates: list[Array], first: Deviation | None = None
) -> tuple[Deviation | None, Array | None]:
    """The largest error of several runs, or where they differ from the exact integers.

    Args:
        exact: what they should be.
        candidates: runs; those of another shape say nothing.
        first: error of the first of them, where it is known.
    """
    runs = [one for one in candidates if one.shape == exact.shape]
    if _is_float(exact):
        found = first
        for one in runs if first is None else runs[1:]:
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


def _at_least(own: Deviation, floor: float) -> Deviation:
    return msgspec.structs.replace(own, rms=max(own.rms, floor), peaks=tuple(max(peak, floor) for peak in own.peaks))


def _is_float(value: Any) -> bool:
    return hasattr(value, "dtype") and (value.dtype.kind == "f" or "float" in str(value.dtype))
