"""The forward pass in evaluation mode, by the divergence engine: which operator differs, and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from regraft.compare.judge import Judgement
from regraft.compare.localise import Origin, localise
from regraft.conceptual.stages.exact import PRECISION, Exact, asked, judged
from regraft.conceptual.stages.interface import Divergence, StageResult, Status
from regraft.conceptual.stages.pairs import Paired
from regraft.errors import RegraftError, Unsupported
from regraft.runtime.graphs import operator_graph

if TYPE_CHECKING:
    from regraft.conceptual.stages.interface import Array, Arrays, Side, WeightMap
    from regraft.runtime.operator_graph import OperatorGraph

_MAX_BATCHES = 3


class ForwardStage:
    """Outputs on the batches, the reference's weights in both; where they differ, operators are compared one by one."""

    name = "forward"
    needs = frozenset({"model", "batches"})

    def compare(self, reference: Side, candidate: Side, weights: WeightMap, *, seed: int) -> StageResult:
        """As `Stage.compare`."""
        paired = Paired(reference, candidate, weights)
        batches = reference.batches[:_MAX_BATCHES]
        if not batches:
            raise Unsupported("there is no batch", where=reference.where, hint="let the factory return `batches`")
        ours = reference.weights()
        theirs = paired.weights(ours)
        exact = [_exact(reference, ours, one, seed) for one in batches]
        answers = [
            paired.outputs(known.values, candidate.evaluated(theirs, paired.fed(one), dtype=PRECISION))
            for known, one in zip(exact, batches, strict=True)
        ]
        if other := _other_shape(answers[0], exact[0].values):
            return StageResult(self.name, Status.DIVERGES, (other,))
        every = {name: judged(name, [one[name] for one in answers], exact) for name in exact[0].values}
        measured = {"ratio": max(one.ratio.rms for one in every.values()), "batches": float(len(batches))}
        wrong = {name: one for name, one in every.items() if one.judgement is not Judgement.WITHIN}
        if not wrong:
            return StageResult(self.name, Status.AGREES, reason=f"outputs on {len(batches)} batches", measured=measured)
        name, worst = max(wrong.items(), key=lambda one: one[1].ratio.rms)
        is_beyond = any(one.judgement is Judgement.BEYOND for one in wrong.values())
        judgement = Judgement.BEYOND if is_beyond else Judgement.UNDECIDED
        notes: tuple[str, ...] = ()
        try:
            origins = _origins(paired, ours, theirs, batches[worst.worst])
        except RegraftError as error:
            origins, notes = (), (f"operators were not compared: {error}",)
        found = tuple(
            Divergence(
                place=place, cause=one.cause or "", detail=one.detail, judgement=judgement,
                ratio=one.ratio.rms if one.ratio else None, first=worst.first, names=one.reference,
            )
            for place, one in origins
        )  # fmt: skip
        if not found:
            detail = f"{worst.ratio.rms:.3g} noise floors"
            found = (Divergence(name, "", detail, judgement, worst.ratio.rms, worst.ratio.floor, worst.first),)
        status = Status.DIVERGES if judgement is Judgement.BEYOND else Status.UNDECIDED
        return StageResult(self.name, status, found, "", notes, measured)


def _exact(reference: Side, ours: Arrays, batch: Arrays, seed: int) -> Exact:
    return asked(lambda given, dtype: reference.evaluated(given, batch, dtype=dtype), ours, seed=seed)


def _other_shape(theirs: Mapping[str, Array], ours: Mapping[str, Array]) -> Divergence | None:
    for name, value in ours.items():
        if theirs[name].shape != value.shape:
            detail = f"{name} is {value.shape} in the reference, {theirs[name].shape} in the candidate"
            return Divergence(name, "shape", detail)
    return None


def _origins(paired: Paired, ours: Arrays, theirs: Arrays, batch: Arrays) -> tuple[tuple[str, Origin], ...]:
    """Origins with the scope of the reference that they are in."""
    mine, my_feeds = paired.reference.model(ours, batch)
    their, their_feeds = paired.candidate.model(theirs, paired.fed(batch))
    graphs = operator_graph(mine, my_feeds), operator_graph(their, their_feeds)
    names = dict(zip(my_feeds, graphs[1].inputs, strict=True))
    found = localise(*graphs, my_feeds, inputs=names)
    return tuple((_scope(graphs[0], one), one) for one in found.origins)


def _scope(graph: OperatorGraph, origin: Origin) -> str:
    scopes = {node.name: node.scope for node in graph.nodes}
    found = [scopes.get(name) or name for name in origin.reference]
    return found[0] if found else ", ".join(origin.candidate)
