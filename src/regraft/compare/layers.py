"""Divergence by layer: how far each tensor of a candidate is from the reference's when nothing is forced.

The pairs come from an alignment by value (`localise`), or, for a candidate whose operators cannot be run alone, from
the taps of one pass of it. Errors propagate here, as they do when the network is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.compare.canonical import CanonicalTensor
from regraft.compare.deviation import deviation
from regraft.compare.exact import array_dtype
from regraft.compare.matching import Layout, TensorIndex
from regraft.compare.noise import ratios, unit_roundoff
from regraft.compare.roles import moves_only
from regraft.errors import Unsupported
from regraft.runtime.liveness import run_through
from regraft.runtime.operator_graph import is_passing
from regraft.runtime.rounding import as_like

if TYPE_CHECKING:
    from regraft.compare.matching import Match
    from regraft.runtime.interface import Array, Feeds, Tap
    from regraft.runtime.operator_graph import OperatorGraph, OperatorNode
    from regraft.runtime.spill import Spill

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
        is_empty: run nothing: whoever makes it knows the tensors already.
        spill: where values are put, so that few of them are in memory; None to hold them.
    """

    def __init__(
        self,
        graph: OperatorGraph,
        feeds: Feeds,
        *,
        precision: str = "float32",
        is_empty: bool = False,
        spill: Spill | None = None,
    ) -> None:
        self.graph = graph
        self.unit = unit_roundoff(precision)
        self.tensors: dict[str, CanonicalTensor] = {}
        if is_empty:
            return
        given = {name: (value, array_dtype(value, "float64")) for name, value in feeds.items()}
        try:
            for position, _, made in run_through(graph, given, self._twice):
                if spill is not None:
                    spill.breathe()
                for name, (own, value) in made.items():
                    if name and hasattr(value, "dtype") and value.dtype.kind == "f" and value.shape == own.shape:
                        kept = value if own.dtype == "float64" else value.astype("float32")
                        kept = spill.put(kept) if spill is not None else kept
                        error = deviation(own, value)
                        self.tensors[name] = CanonicalTensor(name, position, kept, error, None, family="")
        except Unsupported:
            return

    def _twice(self, node: OperatorNode, values: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
        """An operator in its own precision and exactly, each on what the same pass made before."""
        taken = [name for name in dict.fromkeys(node.inputs) if name in values]
        own = self.graph.run(node, {name: values[name][0] for name in taken})
        exact = {name: values[name][1] for name in taken}
        try:
            made = self.graph.run(node, exact, precision="float64")
        except Unsupported:
            made = self.graph.run(node, {name: as_like(value, values[name][0]) for name, value in exact.items()})
        return {name: (own[name], value) for name, value in made.items()}


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
    turned = layout.to_reference(value, tensor.value.shape)
    ratio = tensor.ratio(turned, unit=trace.unit)
    if ratio is None:  # some elements are finite in one only: the others are compared all the same
        (ratio,) = ratios([deviation(turned, tensor.value)], [tensor.own], unit=trace.unit)
    scale = tensor.own.scale_rms
    relative = ratio.rms * ratio.floor / scale if scale > 0 else 0.0
    return Layer(tensor.name, name, node.operator, node.scope, tensor.maker, ratio.rms, ratio.peak, relative)


def _plain(graph: OperatorGraph, feeds: Feeds) -> Iterator[tuple[str, Array]]:
    """Floating-point tensors of one pass, operator by operator; it ends where an operator cannot be run."""
    if is_passing(graph):
        found = graph.plain(dict(feeds))
        yield from ((name, value) for name, value in found.items() if value.dtype.kind == "f")
        return
    try:
        for _, _, made in run_through(graph, feeds, graph.run):
            yield from ((name, v) for name, v in made.items() if hasattr(v, "dtype") and v.dtype.kind == "f")
    except Unsupported:
        return
