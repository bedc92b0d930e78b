"""The reference's weights in the candidate's places, and what is said of the map in evidence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.compare.weight_map import WeightMap, map_weights
from regraft.compare.weight_map.document import map_from_toml
from regraft.compare.weight_map.proof import live
from regraft.errors import UsageError
from regraft.record.evidence import JSON, Draft, Finding, Severity, Where
from regraft.runtime.feeding import feeds_for
from regraft.runtime.graphs import operator_graph
from regraft.runtime.named_weights import named_weights, weight_values, with_weights

if TYPE_CHECKING:
    from regraft.runtime.interface import Array, Feeds, Model
    from regraft.runtime.operator_graph import OperatorGraph

_LISTED = 6
_EXTRA = {"candidate": "replicate.extra_in_candidate", "reference": "replicate.extra_in_reference"}
_LOADED = 0.5
"""Share of weights that are the reference's from which a candidate counts as filled, so that the rest is a mistake."""


class Mapped(msgspec.Struct, frozen=True):
    """What became of the weights.

    Attributes:
        weight_map: of the two.
        model: the candidate with the reference's weights; None where some could not be mapped.
        values: the reference's weights.
    """

    weight_map: WeightMap
    model: Any = None
    values: dict[str, Array] = {}


def map_onto(
    draft: Draft,
    reference: Model,
    candidate: Model,
    feeds: Feeds,
    *,
    inputs: Mapping[str, str],
    given: Path | None = None,
    is_proven: bool = True,
) -> Mapped:
    """Find or read the map, say what it says, and fill the candidate.

    Args:
        draft: takes findings and measurements.
        reference, candidate: loaded.
        feeds: one set of inputs by the reference's names.
        inputs: reference's input → candidate's.
        given: a map of the user's; None to find one.
        is_proven: run the candidate on the reference's values to prove what is found.
    Raises:
        Unsupported: a network cannot be traced, or filled.
        UsageError, Damaged: the user's map does not fit.
    """
    theirs = {inputs[name]: value for name, value in feeds.items() if name in inputs}
    dtypes = {port.name: port.dtype for port in candidate.signature.inputs}
    theirs = {name: value.astype(dtypes.get(name, str(value.dtype))) for name, value in theirs.items()}
    ours = operator_graph(reference, feeds)
    values = weight_values(reference, ours)
    if given is None:
        found = map_weights(reference, candidate, feeds, inputs=inputs, is_proven=is_proven)
    else:
        other = named_weights(candidate, operator_graph(candidate, theirs))
        found = map_from_toml(
            given,
            shapes={name: one.shape for name, one in other.items()},
            reference_shapes={name: value.shape for name, value in values.items()},
        )
    found = _without_unused(draft, found, candidate, theirs)
    if given is not None and found.missing:
        raise UsageError(
            f"the map has nothing for {_listed(found.missing)}", where=str(given), hint="add it to the map"
        )
    _measure(draft, found)
    unasked = _unasked(reference, candidate, ours, feeds, theirs, found.left_over)
    is_whole = _report(draft, found, values, unasked)
    if not is_whole:
        return Mapped(found)
    made = _made(found, values, given)
    _report_own(draft, found, weight_values(candidate, operator_graph(candidate, theirs)), made, values)
    return Mapped(found, with_weights(candidate, made), values)


def _made(found: WeightMap, values: Mapping[str, Array], given: Path | None) -> dict[str, Array]:
    """The candidate's weights; what does not fit is told with the file of the map."""
    try:
        return found.to_candidate(values)
    except UsageError as error:
        raise UsageError(error.what, where=str(given or ""), hint=error.hint) from error


def _without_unused(draft: Draft, found: WeightMap, candidate: Model, theirs: Mapping[str, Array]) -> WeightMap:
    """The map without weights of the candidate that no output of it depends on: they make no other network."""
    if not found.missing:
        return found
    graph = operator_graph(candidate, theirs)
    needed = live(graph.nodes, graph.outputs)
    taken = {name for node in graph.nodes if node.name in needed for name in node.inputs}
    weights = named_weights(candidate, graph)
    unused = [name for name in found.missing if taken.isdisjoint(weights[name].tensors)]
    if unused:
        message = f"{_listed(unused)}: no output of the candidate depends on these"
        draft.find(Finding("replicate.unused", Severity.INFO, message, Where(candidate=unused[0])))
    return msgspec.structs.replace(found, missing=tuple(name for name in found.missing if name not in unused))


def _measure(draft: Draft, found: WeightMap) -> None:
    total = len(found.shapes)
    counts = Counter(found.status_of(name) or "missing" for name in found.shapes)
    for status in ("proven", "consistent", "ambiguous", "given"):
        if counts[status]:
            draft.measure("weights_mapped", counts[status], "weights", n=total, of={"status": status})
    taken = found.statistics
    draft.measure("map_evaluations", taken.evaluations, "blocks")
    draft.measure("map_seconds", taken.structure_s + taken.proof_s, "s", of={"structure_s": taken.structure_s})


def _unasked(
    reference: Model,
    candidate: Model,
    graph: OperatorGraph,
    feeds: Feeds,
    theirs: Mapping[str, Array],
    left_over: Sequence[str],
) -> set[str]:
    """Weights of the reference that no output depends on which the candidate returns, too."""
    names, returned = list(reference(feeds_for(reference, feeds))), set(candidate(theirs))
    shared = [tensor for name, tensor in zip(names, graph.outputs, strict=False) if name in returned]
    if not left_over or not shared:
        return set()
    needed = live(graph.nodes, shared)
    taken = {name for node in graph.nodes if node.name in needed for name in node.inputs}
    weights = named_weights(reference, graph)
    return {name for name in left_over if taken.isdisjoint(weights[name].tensors)}


def _report(draft: Draft, found: WeightMap, values: Mapping[str, Array], unasked: set[str]) -> bool:
    """One finding for each thing that stands in the way; whether the candidate can be filled all the same."""
    if unasked:
        message = f"{_listed(sorted(unasked))}: only outputs that the candidate does not return depend on these"
        draft.find(Finding("replicate.not_returned", Severity.INFO, message, Where(reference=min(unasked))))
    if found.lone_norms:
        _report_lone_norms(draft, found)
    elif found.resized and not found.is_exact:
        _report_resized(draft, found)
    else:
        _report_extra(draft, found.missing, "candidate", found.shapes)
        needed = [name for name in found.left_over if name not in unasked]
        _report_extra(draft, needed, "reference", found.reference_shapes)
    _report_folded(draft, found)
    tied = [name for name, sources in found.conflicts.items() if not _are_equal(values, sources)]
    for name in tied:
        sources = " and ".join(found.conflicts[name])
        draft.find(
            Finding(
                "replicate.tied", Severity.HIGH,
                f"the candidate uses {name} where the reference has {sources}, which differ",
                Where(reference=found.conflicts[name][0], candidate=name),
                fix="give the candidate a weight of its own in each place",
            )
        )  # fmt: skip
    open_ones = [name for name in found.shapes if found.status_of(name) == "ambiguous"]
    if open_ones:
        draft.find(
            Finding(
                "replicate.ambiguous", Severity.UNKNOWN,
                f"{_listed(open_ones)}: structure leaves several ways open, and none was shown to be right",
                Where(candidate=open_ones[0]), data={"weights": list(open_ones)},
                fix="write the map (-o map.toml), correct it, give it back (--map map.toml)",
            )
        )  # fmt: skip
    return not found.missing and not tied and not found.resized


def _report_folded(draft: Draft, found: WeightMap) -> None:
    """Norms of either that are part of other weights in the other, by the first of their weights."""
    _report_identities(draft, found)
    found_norms = ((pair.candidate.weight, pair.norm) for pair in found.pairs if pair.norm is not None)
    norms = {name: norm for name, norm in found_norms if not norm.is_added}
    if not norms:
        return
    pairs = [f"{norm.weights[0].rpartition('.')[0] or norm.weights[0]} in {name}" for name, norm in norms.items()]
    message = f"batch norms are folded into the weights in front of them: {_listed(pairs)}"
    data: dict[str, JSON] = {name: list(norm.weights) for name, norm in norms.items()}
    draft.find(Finding("replicate.folded", Severity.INFO, message, Where(candidate=next(iter(norms))), data=data))


def _report_identities(draft: Draft, found: WeightMap) -> None:
    """Norms of the candidate that the reference has folded: what they were before that, nothing says."""
    filled = [pair.candidate.weight for pair in found.pairs if pair.is_free and not pair.sources]
    if not filled:
        return
    norms = list(dict.fromkeys(name.rpartition(".")[0] or name for name in filled))
    message = (
        f"the reference has the batch norms {_listed(norms)} folded into the weights in front of them: the candidate's "
        "are set to the identity, one of infinitely many ways to fill them"
    )
    data: dict[str, JSON] = {"weights": list(filled)}
    draft.find(Finding("replicate.folded", Severity.INFO, message, Where(candidate=filled[0]), data=data))


def _report_lone_norms(draft: Draft, found: WeightMap) -> None:
    """The reference may be the same with its norms folded, which makes the candidate no other network."""
    message = (
        f"the candidate has batch norms ({_listed(found.lone_norms)}), the reference has none: it may have them "
        "folded, which is mapped only where each norm is one operator (torch, ONNX), right behind its projection"
    )
    fix = "name the reference as it was before its norms were folded, or compare what the candidate has: --own-weights"
    where = Where(candidate=found.lone_norms[0])
    draft.find(Finding("replicate.cannot_map", Severity.UNKNOWN, message, where, fix=fix))


def _report_resized(draft: Draft, found: WeightMap) -> None:
    candidate, reference = next(iter(found.resized.items()))
    more = f", and {len(found.resized) - 1} more" if len(found.resized) > 1 else ""
    theirs = found.shapes.get(candidate.split(" + ", maxsplit=1)[0])
    ours = found.reference_shapes.get(reference.split(" + ", maxsplit=1)[0])
    draft.find(
        Finding(
            "replicate.resized",
            Severity.HIGH,
            f"the networks have the same depth and other widths: {candidate} {theirs} stands where the reference has "
            f"{reference} {ours}{more}",
            Where(reference=reference, candidate=candidate),
            data={"candidate": list(found.resized), "reference": list(found.resized.values())},
            fix="build the candidate with the reference's widths",
        )
    )


def _report_extra(draft: Draft, names: Sequence[str], who: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Weights of one side that the other has nothing for, block by block."""
    other = "reference" if who == "candidate" else "candidate"
    for block, own in _blocks(names).items():
        named = f"{block} ({len(own)} weights: {_listed(own)})" if block else _listed(own)
        message = f"the {who} has {named}, the {other} has nothing for it"
        draft.find(
            Finding(
                _EXTRA[who],
                Severity.HIGH,
                message,
                Where(candidate=own[0]) if who == "candidate" else Where(reference=own[0]),
                data={"weights": {name: list(shapes[name]) for name in own}},
                fix=f"add it to the {other}" if who == "reference" else f"is it meant? The {other} does without it",
            )
        )


def _report_own(
    draft: Draft,
    found: WeightMap,
    own: Mapping[str, Array],
    made: Mapping[str, Array],
    values: Mapping[str, Array],
) -> None:
    """A candidate that is filled already: which of its weights are not what the map makes of the reference's."""
    import numpy as np

    free = {pair.candidate.weight for pair in found.pairs if pair.is_free}
    informative = {
        name: value for name, value in made.items() if name not in free and value.size and value.min() != value.max()
    }
    least = {name: _rounding(found, name, values) for name in informative}
    wrong = [
        name for name, value in informative.items() if not np.allclose(own[name], value, rtol=1e-5, atol=least[name])
    ]
    if not informative or len(wrong) > (1 - _LOADED) * len(informative) or not wrong:
        return
    for name in wrong:
        one, other = (np.sort(value, axis=None) for value in (own[name], made[name]))
        is_moved = np.allclose(one, other, rtol=1e-5, atol=least[name])
        sources = " + ".join(_sources(found, name))
        how = "holds the same numbers in another order" if is_moved else "holds other numbers"
        draft.find(
            Finding(
                "replicate.own_weights", Severity.HIGH,
                f"{name}: the candidate's own weight {how} than {sources} would give",
                Where(reference=sources, candidate=name),
                data={"cause": "weight_permuted" if is_moved else None},
                fix="convert it anew: --emit-converter convert.py",
            )
        )  # fmt: skip


def _rounding(found: WeightMap, name: str, values: Mapping[str, Array]) -> float:
    """By how much numbers of a weight may differ that was made in another order: a folded norm's terms may cancel."""
    norms = (pair.norm for pair in found.pairs if pair.candidate.weight == name and pair.norm is not None)
    return max([1e-7, *(1e-6 * norm.largest_term(values) for norm in norms if norm.is_added)])


def _sources(found: WeightMap, name: str) -> list[str]:
    return [source.piece.weight for pair in found.pairs if pair.candidate.weight == name for source in pair.sources]


def _are_equal(values: Mapping[str, Array], names: Iterable[str]) -> bool:
    import numpy as np

    first, *others = (values[name] for name in names)
    return all(np.array_equal(first, one) for one in others)


def _blocks(names: Sequence[str]) -> dict[str, list[str]]:
    """Weights by the part of their names up to the last number: `encoder.layer.5`."""
    found: dict[str, list[str]] = {}
    for name in names:
        parts = name.replace("/", ".").split(".")
        numbers = [i for i, part in enumerate(parts[:-1]) if part.isdigit()]
        found.setdefault(".".join(parts[: numbers[0] + 1]) if numbers else "", []).append(name)
    return found


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_LISTED]) + (" …" if len(names) > _LISTED else "")


__all__ = ["Mapped", "map_onto"]
