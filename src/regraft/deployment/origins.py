"""The diagnosis of a verification: where two models part, and how far each layer is from the other's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.compare.kept import FloorCache
from regraft.compare.layers import Layer, PlainTrace, divergence_by_layer, layers_of_taps
from regraft.compare.localise import Localisation, localise
from regraft.compare.noise import UNIT_ROUNDOFF
from regraft.errors import RegraftError
from regraft.progress import progress
from regraft.runtime.feeding import feeds_for
from regraft.runtime.graphs import operator_graph
from regraft.runtime.spill import Spill

if TYPE_CHECKING:
    from regraft.runtime.feeds import FeedCase
    from regraft.runtime.interface import Feeds, Model
    from regraft.runtime.operator_graph import OperatorGraph

DIAGNOSIS_ERRORS = (RegraftError, ValueError, TypeError, RuntimeError, KeyError, IndexError, AttributeError)
"""What a diagnosis may end in without costing the verdict, which stands on the outputs alone."""


class Pair(msgspec.Struct, frozen=True):
    """Two models, and what of one is what of the other.

    Attributes:
        reference, candidate: loaded models.
        inputs: reference's input → candidate's.
        outputs: reference's output → candidate's.
        precision: whose rounding counts as noise.
        threads: of each operator.
        floors: where what was measured of the reference is kept; None for nowhere.
        spill: where traces put their values; None to hold them in memory.
    """

    reference: Any
    candidate: Any
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    precision: str
    threads: int | None = None
    floors: FloorCache | None = None
    spill: Spill | None = None


class Diagnosis(msgspec.Struct, frozen=True):
    """What was found.

    Attributes:
        localisation: None where the candidate's operators cannot be run alone.
        layers: in the reference's order.
        strangers: taps of the candidate that are no tensor of the reference, where its operators cannot be run alone.
        case: on which feeds.
        reason: why there is no localisation; empty where there is one.
        graphs: reference and candidate, for who wants to reduce an origin; None without a localisation.
        of_optimised: the origins lie in the graph that the runtime's optimiser makes, not in the one that it is given.
    """

    localisation: Localisation | None
    layers: tuple[Layer, ...]
    strangers: tuple[str, ...]
    case: FeedCase
    reason: str = ""
    graphs: tuple[Any, Any] | None = None
    of_optimised: bool = False


def diagnose(pair: Pair, cases: Sequence[FeedCase], worst: int, *, diverges: bool, layers: bool = True) -> Diagnosis:
    """Localise on the feeds that diverge most, and measure every layer on them.

    Args:
        pair: the two models.
        cases: feeds that both accept; the first is ordinary, an eager reference is exported with it.
        worst: which of them to look at.
        diverges: the outputs differ by more than rounding: if no operator does, the optimiser is asked.
        layers: measure every layer also where nothing differs.
    Raises:
        One of `DIAGNOSIS_ERRORS` when the reference does not show its operators.
    """
    case = cases[worst]
    with progress("localising", total=3, unit="passes") as advance:
        reference = operator_graph(pair.reference, cases[0].feeds, threads=pair.threads)
        theirs = _theirs(pair, case.feeds)
        advance(1)
        try:
            candidate = operator_graph(pair.candidate, theirs, threads=pair.threads)
        except RegraftError as error:
            return _of_taps(pair, reference, case, theirs, error.what)
        precision = pair.precision if pair.precision in UNIT_ROUNDOFF else "float32"
        precision = "float32" if precision == "float64" else precision
        links = {
            "inputs": dict(pair.inputs),
            "outputs": _tensors(pair, reference, candidate, cases[0].feeds),
            "precision": precision,
            "floors": pair.floors,
            "spill": pair.spill,
        }
        found = localise(reference, candidate, _ours(pair, case.feeds), **links)  # type: ignore[arg-type]
        advance(1)
        optimised = _optimised(pair.candidate) if diverges and not found.origins else None
        if optimised is not None:
            candidate = optimised
            found = localise(reference, candidate, _ours(pair, case.feeds), **links)  # type: ignore[arg-type]
        measured: list[Layer] = []
        if layers or diverges or found.origins:
            trace = _plain_trace(pair, reference, case, precision)
            measured = divergence_by_layer(trace, candidate, theirs, pairs=found.pairs)
        advance(1)
    return Diagnosis(
        found, tuple(measured), (), case, graphs=(reference, candidate), of_optimised=optimised is not None
    )


def _of_taps(pair: Pair, reference: OperatorGraph, case: FeedCase, theirs: Feeds, reason: str) -> Diagnosis:
    """The taps of one pass, for a candidate that is a recording."""
    trace = _plain_trace(pair, reference, case, "float32")
    layers, strangers = layers_of_taps(trace, pair.candidate.trace(theirs))
    return Diagnosis(None, tuple(layers), tuple(strangers), case, reason)


def _plain_trace(pair: Pair, reference: OperatorGraph, case: FeedCase, precision: str) -> PlainTrace:
    make = PlainTrace if pair.floors is None else pair.floors.plain
    return make(reference, _ours(pair, case.feeds), precision=precision, spill=pair.spill)


def _ours(pair: Pair, feeds: Feeds) -> dict[str, Any]:
    return feeds_for(pair.reference, feeds)


def _theirs(pair: Pair, feeds: Feeds) -> dict[str, Any]:
    given = {pair.inputs[name]: value for name, value in feeds.items() if name in pair.inputs}
    return feeds_for(pair.candidate, given)


def _tensors(pair: Pair, reference: OperatorGraph, candidate: OperatorGraph, feeds: Feeds) -> dict[str, str]:
    """Tensor that the reference returns → tensor that the candidate returns in its place."""
    ours = returned_tensors(pair.reference, reference, feeds)
    theirs = returned_tensors(pair.candidate, candidate, _theirs(pair, feeds))
    return {ours[a]: theirs[b] for a, b in pair.outputs.items() if a in ours and b in theirs}


def returned_tensors(model: Model, graph: OperatorGraph, feeds: Feeds) -> dict[str, str]:
    """Output as the model names it → tensor of its graph."""
    names = [port.name for port in model.signature.outputs] or list(model(feeds_for(model, feeds)))
    if set(names) <= set(graph.outputs):
        return {name: name for name in names}
    return dict(zip(names, graph.outputs, strict=False))


def _optimised(candidate: Model) -> OperatorGraph | None:
    """The graph that a runtime makes of a candidate before it runs it; None where it cannot be had."""
    if type(candidate).__name__ != "OnnxRuntimeModel":
        return None
    from regraft.runtime.onnx_graph import OnnxGraph

    model: Any = candidate
    return OnnxGraph(model.optimised_proto(), where=f"{candidate.where} as optimised")
