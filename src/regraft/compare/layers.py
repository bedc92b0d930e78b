"""Divergence by layer: the taps of a torch reference and of a converted graph that carry the same name."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.compare.deviation import deviation
from regraft.compare.exact import feeds_for
from regraft.compare.noise import ratios, unit_roundoff
from regraft.runtime.grouping import TRACE_BYTES, groups_within
from regraft.runtime.interface import TapStatistics

if TYPE_CHECKING:
    from regraft.runtime.interface import Array, Feeds, Model

_MAX_LAYERS = 4096
_LAYOUT = (
    "view", "reshape", "transpose", "permute", "expand", "slice", "select", "unsqueeze", "squeeze", "clone", "to.",
    "contiguous", "_to_copy", "t.", "detach", "alias", "split", "getitem", "dropout", "flatten",
)  # fmt: skip
"""Operators that move numbers without changing them; exporters renumber these, so that their names mislead."""
_STRANGE = 0.5
_HEALED = 1000


class Layer(msgspec.Struct, frozen=True):
    """One tap of both models.

    Attributes:
        name: of the tap, as the exporter carried it over.
        operator: of the reference.
        scope: module of the reference that the operator was written in.
        order: position in the reference's order of execution.
        rms_ratio, peak_ratio: divergence in noise floors.
        relative: RMS difference per RMS of the exact tap.
    """

    name: str
    operator: str
    scope: str
    order: int
    rms_ratio: float
    peak_ratio: float
    relative: float


def divergence_by_layer(
    reference: Model, candidate: Model, feeds: Feeds, *, inputs: Mapping[str, str], precision: str
) -> list[Layer]:
    """Compare the taps that two models have under one name, in the reference's order.

    The reference is exported, because only its graph has the names that an exporter carries over. Both run
    unoptimised, in groups of taps whose tensors fit into bounded memory.

    Args:
        reference: eager torch model, or exported program.
        candidate: model whose taps kept those names.
        feeds: one set of inputs, by the reference's names.
        inputs: reference's input → candidate's.
        precision: whose floor is the unit.
    Returns:
        the layers that match; empty when none does.
    Raises:
        Unsupported: the reference cannot be exported or cast, or the candidate cannot be traced.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch 2.13 warns of itself when it copies a graph
        own = _graph(reference, feeds)
        exact = own.cast("float64")
        rounded = own if precision == own.effective_precision else own.cast(precision)
    theirs = {inputs[name]: value for name, value in feeds.items() if name in inputs}
    known = {tap.name: tap for tap in exact.trace(feeds_for(exact, feeds), reduce=_shape)}
    shared = [
        tap.name
        for tap in candidate.trace(feeds_for(candidate, theirs), reduce=_shape)
        if tap.name in known
        and not _moves_only(known[tap.name].operator)
        and _comparable(tap.kept, known[tap.name].kept)
    ]
    sizes = [math.prod(known[name].kept.shape) * 8 if known[name].kept else 0 for name in shared]
    layers: list[Layer] = []
    for group in groups_within(shared[:_MAX_LAYERS], sizes[:_MAX_LAYERS], budget=TRACE_BYTES):
        truth = dict(_values(exact, feeds_for(exact, feeds), group))
        noise = dict(_values(rounded, feeds_for(rounded, feeds), group))
        for name, value in _values(candidate, feeds_for(candidate, theirs), group):
            tap = known[name]
            error, floor = deviation(value, truth[name]), deviation(noise[name], truth[name])
            (ratio,) = ratios([error], [floor], unit=unit_roundoff(precision))
            layers.append(Layer(name, tap.operator, tap.scope, tap.order, ratio.rms, ratio.peak, error.relative))
    return _without_strangers(sorted(layers, key=lambda layer: layer.order))


def _without_strangers(layers: Sequence[Layer]) -> list[Layer]:
    """Leave out pairs that are not the same tensor.

    A divergence as large as the tensor itself does not heal: where a later layer agrees a thousand times better,
    the name was given to something else.
    """
    kept: list[Layer] = []
    best_later = math.inf
    for layer in reversed(layers):
        if layer.relative < _STRANGE or best_later > layer.relative / _HEALED:
            kept.append(layer)
            best_later = min(best_later, layer.relative) if layer.relative > 0 else best_later
    return kept[::-1]


def _moves_only(operator: str) -> bool:
    return operator.removeprefix("aten.").startswith(_LAYOUT)


def _graph(reference: Any, feeds: Feeds) -> Any:
    from regraft.runtime.torch_export import TorchExportModel, exported
    from regraft.runtime.torch_module import TorchModel

    if isinstance(reference, TorchModel):
        return TorchExportModel.from_program(exported(reference, feeds), where=reference.where)
    return reference


def _shape(value: Array) -> TapStatistics:
    return TapStatistics(value.shape, str(value.dtype), 0.0, 0.0, 0.0)


def _comparable(ours: TapStatistics | None, theirs: TapStatistics | None) -> bool:
    return (
        ours is not None
        and theirs is not None
        and ours.shape == theirs.shape
        and "float" in ours.dtype
        and theirs.dtype == "float64"
    )


def _values(model: Model, feeds: Feeds, names: Sequence[str]) -> Iterator[tuple[str, Array]]:
    for tap in model.trace(feeds, taps=names):
        if tap.value is not None:
            yield tap.name, tap.value
