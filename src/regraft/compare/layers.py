"""Divergence by layer: how far each tensor of a candidate is from the reference's when nothing is forced.

The pairs come from an alignment by value (`localise`), or, for a candidate whose operators cannot be run alone, from
the taps of one pass of it. Errors propagate here, as they do when the network is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.compare.canonical import CanonicalTensor, family_of
from regraft.compare.deviation import deviation
from regraft.compare.exact import array_dtype
from regraft.compare.matching import Layout, TensorIndex
from regraft.compare.noise import ratios, unit_roundoff
from regraft.compare.roles import moves_only
from regraft.errors import Unsupported

if TYPE_CHECKING:
    from regraft.compare.matching import Match
    from regraft.runtime.interface import Array, Feeds, Tap
    from regraft.runtime.operator_graph import OperatorGraph

_MAX_LAYERS = 4096


class Layer(msgspec.Struct, frozen=True):
    """One tensor of both models.

    Attributes:
        name: of the reference's tensor.
        candidate: of the candidate's.
        operator: of the reference.
        scope: module of the reference that the operator was written in.
        order: position in the reference's order of execution.
        rms_ratio, peak_ratio: divergence in noise floors.
        relative: RMS difference per RMS of the exact tensor.
    """

    name: str
    candidate: str
    operator: str
    scope: str
    order: int
    rms_ratio: float
    peak_ratio: float
    relative: float


class PlainTrace:
    """Every floating-point tensor of one pass of a reference, exactly, with the error of its own run.

    Has what a `TensorIndex` wants of a trace.

    Args:
        graph: of the reference.
        feeds: its inputs.
        precision: of the own run, whose error is the floor; lower ones than float32 are not emulated here.
    """

    def __init__(self, graph: OperatorGraph, feeds: Feeds, *, precision: str = "float32") -> None:
        self.graph = graph
        self.unit = unit_roundoff(precision)
        self.tensors: dict[str, CanonicalTensor] = {}
        exact: dict[str, Any] = {name: array_dtype(value, "float64") for name, value in feeds.items()}
        plain: dict[str, Any] = dict(feeds)
        for position, node in enumerate(graph.nodes):
            try:
                own = graph.run(node, plain)
                try:
                    made = graph.run(node, exact, precision="float64")
                except Unsupported:
                    made = graph.run(node, {name: array_dtype(value, "float32") for name, value in exact.items()})
            except Unsupported:
                return
            exact |= made
            plain |= own
            for name, value in made.items():
                if name and hasattr(value, "dtype") and value.dtype.kind == "f" and value.shape == own[name].shape:
                    error = deviation(own[name], value)
                    kept = value.astype("float32")
                    self.tensors[name] = CanonicalTensor(name, position, kept, error, None, family_of(kept))


def divergence_by_layer(
    trace: PlainTrace, candidate: OperatorGraph, feeds: Feeds, *, pairs: Mapping[str, Match]
) -> list[Layer]:
    """Compare the tensors that an alignment paired, in the reference's order.

    Args:
        trace: of the reference.
        candidate: graph of the candidate.
        feeds: by the candidate's names, the same numbers as the reference's.
        pairs: candidate's tensor → the reference's, with layout.
    Returns:
        one layer a tensor of the reference; those that only rearrange numbers are left out.
    """
    layers: dict[str, Layer] = {}
    for name, value in _plain(candidate, feeds):
        match = pairs.get(name)
        tensor = trace.tensors.get(match.name) if match is not None else None
        if match is None or tensor is None or tensor.name in layers or value.size != tensor.value.size:
            continue
        layer = _layer(trace, tensor, name, value, match.layout)
        if layer is not None:
            layers[tensor.name] = layer
    return sorted(layers.values(), key=lambda layer: layer.order)[:_MAX_LAYERS]


def layers_of_taps(trace: PlainTrace, taps: Iterable[Tap]) -> tuple[list[Layer], list[str]]:
    """Compare the taps of one pass with a reference, paired by value alone.

    Args:
        trace: of the reference.
        taps: of the candidate, in its order.
    Returns:
        layers in the reference's order, and names of taps that are no tensor of the reference.
    """
    index = TensorIndex(trace)
    layers: dict[str, Layer] = {}
    strangers = []
    for tap in taps:
        if tap.value is None or tap.value.dtype.kind != "f":
            continue
        match = index.find(tap.value, prefer=lambda tensor, name=tap.name: (tensor.name != name, tensor.maker))  # type: ignore[misc]
        if match is None:
            strangers.append(tap.name)
            continue
        tensor = trace.tensors[match.name]
        layer = _layer(trace, tensor, tap.name, tap.value, match.layout)
        if layer is not None and tensor.name not in layers:
            layers[tensor.name] = layer
    return sorted(layers.values(), key=lambda layer: layer.order)[:_MAX_LAYERS], strangers


def _layer(trace: PlainTrace, tensor: CanonicalTensor, name: str, value: Array, layout: Layout) -> Layer | None:
    node = trace.graph.nodes[tensor.maker]
    if moves_only(node.operator) or tensor.own is None:
        return None
    error = deviation(layout.to_reference(value, tensor.value.shape), tensor.value)
    (ratio,) = ratios([error], [tensor.own], unit=trace.unit)
    return Layer(tensor.name, name, node.operator, node.scope, tensor.maker, ratio.rms, ratio.peak, error.relative)


def _plain(graph: OperatorGraph, feeds: Feeds) -> Iterator[tuple[str, Array]]:
    """Floating-point tensors of one pass, operator by operator; it ends where an operator cannot be run."""
    passing: Any = graph
    if hasattr(passing, "plain"):
        found = passing.plain(dict(feeds))
        yield from ((name, value) for name, value in found.items() if value.dtype.kind == "f")
        return
    values: dict[str, Any] = dict(feeds)
    for node in graph.nodes:
        try:
            made = graph.run(node, values)
        except Unsupported:
            return
        values |= made
        yield from (
            (name, value) for name, value in made.items() if hasattr(value, "dtype") and value.dtype.kind == "f"
        )
