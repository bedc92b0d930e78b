"""Structure, then proof, then a map that can be applied, read and edited."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.compare.canonical import CanonicalTrace
from regraft.compare.weight_map.applying import Applier
from regraft.compare.weight_map.matching import Matching, matched
from regraft.compare.weight_map.pieces import Pair
from regraft.compare.weight_map.proof import Proof, Prover, generic
from regraft.compare.weight_map.sites import Site, sites_of
from regraft.runtime.graphs import operator_graph
from regraft.runtime.named_weights import NamedWeight, named_weights, weight_values

if TYPE_CHECKING:
    from regraft.runtime.interface import Array, Feeds, Model
    from regraft.runtime.operator_graph import OperatorGraph

_STATISTICS = ("centre", "variance")
PROVEN, GIVEN, CONSISTENT, AMBIGUOUS = "proven", "given", "consistent", "ambiguous"


class MapStatistics(msgspec.Struct, frozen=True):
    """What finding a map took.

    Attributes:
        structure_s, proof_s: seconds; the first includes tracing both networks.
        evaluations: blocks that were run to choose between ways; 0 where structure left none open.
        operators: of the candidate, run one by one in all.
    """

    structure_s: float
    proof_s: float = 0.0
    evaluations: int = 0
    operators: int = 0


class WeightMap(msgspec.Struct, frozen=True):
    """Weights of a candidate as weights of a reference.

    Attributes:
        pairs: in the candidate's order of use.
        shapes: weight of the candidate → extents.
        reference_shapes: weight of the reference → extents.
        missing: weights of the candidate that nothing of the reference is for.
        left_over: weights of the reference that nothing of the candidate takes.
        conflicts: weights of the candidate that would have to be two weights of the reference at once (tied in one of
            the two only), with those.
        resized: weight of the candidate → weight of the reference in the same place, of other extents.
        contradictions: regions of the candidate's operators that no way of mapping explains.
        is_exact: both networks use weights in the same places.
        lone_norms: statistics of norms that the candidate has, where the reference, which has no such norms, may have
            them folded into other weights.
        statistics: what finding it took.
    """

    pairs: tuple[Pair, ...]
    shapes: dict[str, tuple[int, ...]]
    reference_shapes: dict[str, tuple[int, ...]]
    missing: tuple[str, ...] = ()
    left_over: tuple[str, ...] = ()
    conflicts: dict[str, tuple[str, ...]] = {}
    resized: dict[str, str] = {}
    contradictions: tuple[tuple[str, ...], ...] = ()
    is_exact: bool = True
    lone_norms: tuple[str, ...] = ()
    statistics: MapStatistics = MapStatistics(0.0)

    def to_candidate(self, reference: Mapping[str, Array]) -> dict[str, Array]:
        """Re-name and re-lay out; weights whose sources are not all given are left out.

        Args:
            reference: weight → array.
        Raises:
            UsageError: an array does not fit (an edited map).
        """
        given = [pair for pair in self.pairs if all(name in reference for name in pair.needed)]
        whole = {pair.candidate.weight for pair in self.pairs} - {
            pair.candidate.weight for pair in self.pairs if pair not in given
        }
        return _Shaped(self.shapes, reference).of_pairs(pair for pair in given if pair.candidate.weight in whole)

    def to_reference(self, candidate: Mapping[str, Array]) -> dict[str, Array]:
        """The way back, of gradients as of weights: where several were added up, each gets what their sum has."""
        import numpy as np

        found: dict[str, Array] = {}
        for pair in self.pairs:
            value = candidate.get(pair.candidate.weight)
            if value is None or pair.norm is not None:  # what is folded cannot be told apart
                continue
            for source in pair.sources:
                name = source.piece.weight
                sources = (source,) if pair.is_sum else pair.sources
                shapes = {one.piece.weight: self.reference_shapes[one.piece.weight] for one in sources}
                places = {
                    weight: np.full(shape, -1, np.int64) if weight != name else _numbered(shape)
                    for weight, shape in shapes.items()
                }
                into = np.full(self.shapes[pair.candidate.weight], -1, np.int64)
                msgspec.structs.replace(pair, sources=sources).place(places, into)
                target = found.setdefault(name, np.zeros(shapes[name], value.dtype))
                target.reshape(-1)[into[into >= 0]] = value[into >= 0]
        return found

    def status_of(self, weight: str) -> str:
        """The weakest status of the pairs that make a weight of the candidate; empty where there is none."""
        order = (AMBIGUOUS, CONSISTENT, GIVEN, PROVEN)
        own = [pair.status for pair in self.pairs if pair.candidate.weight == weight]
        return min(own, key=order.index) if own else ""


class _Shaped(Applier):
    def __init__(self, shapes: Mapping[str, tuple[int, ...]], values: Mapping[str, Array]) -> None:
        super().__init__({name: NamedWeight(name, shape, "float32") for name, shape in shapes.items()}, values)


class Traced(msgspec.Struct):
    """A network whose uses of weights are known.

    Attributes:
        model: loaded.
        graph: its operators.
        weights: by name.
        sites: uses, in order.
    """

    model: Any
    graph: Any
    weights: dict[str, NamedWeight]
    sites: list[Site]


def traced(model: Model, feeds: Feeds) -> Traced:
    """Trace a network and read how it uses its weights.

    Args:
        model: of torch, JAX, Keras or ONNX.
        feeds: inputs that it accepts.
    Raises:
        Unsupported: its operators cannot be had, or are not read.
    """
    graph: OperatorGraph = operator_graph(model, feeds)
    weights = named_weights(model, graph)
    return Traced(model, graph, weights, sites_of(graph, weights))


def structural_map(reference: Traced, candidate: Traced) -> tuple[WeightMap, Matching]:
    """What structure alone says: no operator is run, no weight is read.

    Args:
        reference, candidate: traced; their weights may have no values.
    """
    began = time.perf_counter()
    matching = matched(reference.sites, candidate.sites)
    found = _map(reference, candidate, matching, None)
    return msgspec.structs.replace(found, statistics=MapStatistics(time.perf_counter() - began)), matching


def map_weights(
    reference: Model, candidate: Model, feeds: Feeds, *, inputs: Mapping[str, str], is_proven: bool = True
) -> WeightMap:
    """Find which weight of a candidate is which of a reference.

    Args:
        reference: its weights are what the candidate should have.
        candidate: another implementation; the values of its own weights do not matter.
        feeds: inputs by the reference's names; extents that differ between axes tell layouts apart.
        inputs: reference's input → candidate's.
        is_proven: run the candidate's operators on the reference's values; False leaves what structure says.
    Returns:
        the map; what could not be mapped is named in it.
    Raises:
        Unsupported: a network cannot be traced, or its operators are not read.
    """
    began = time.perf_counter()
    theirs = {inputs[name]: value for name, value in feeds.items() if name in inputs}
    ours, other = traced(reference, feeds), traced(candidate, _as_declared(candidate, theirs))
    _, matching = structural_map(ours, other)
    middle = time.perf_counter()
    if not is_proven:
        found = _map(ours, other, matching, None)
        return msgspec.structs.replace(found, statistics=MapStatistics(middle - began))
    proof = _proof(ours, other, matching, feeds, inputs)
    statistics = MapStatistics(middle - began, time.perf_counter() - middle, proof.evaluations, proof.operators)
    return msgspec.structs.replace(_map(ours, other, matching, proof), statistics=statistics)


def _proof(ours: Traced, theirs: Traced, matching: Matching, feeds: Feeds, inputs: Mapping[str, str]) -> Proof:
    values = weight_values(ours.model, ours.graph)
    changed = generic(values, ours.sites)
    constants = {tensor: value for name, value in changed.items() for tensor in ours.weights[name].tensors}
    trace = CanonicalTrace(ours.graph, feeds, constants=constants)
    outputs = dict(zip(ours.graph.outputs, theirs.graph.outputs, strict=False))
    prover = Prover(
        trace, theirs.graph, theirs.weights, (ours.sites, theirs.sites), matching, {**values, **changed},
        inputs=inputs, outputs=outputs,
    )  # fmt: skip
    return prover.run()


def _as_declared(model: Model, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Feeds in the dtypes of a model's own inputs: JAX counts tokens in 32 bits."""
    dtypes = {port.name: port.dtype for port in model.signature.inputs}
    return {name: value.astype(dtypes.get(name, str(value.dtype))) for name, value in feeds.items()}


def _map(ours: Traced, theirs: Traced, matching: Matching, proof: Proof | None) -> WeightMap:
    pairs: dict[tuple[object, ...], Pair] = {}
    conflicts: dict[str, list[str]] = {}
    for i, choice in enumerate(matching.choices):
        for pair in choice.pairs:
            key = (pair.candidate.weight, pair.candidate.part)
            status = _status(pair, i, choice.ways, proof)
            if key in pairs and _sources(pairs[key]) != _sources(pair):
                conflicts.setdefault(pair.candidate.weight, [*_sources(pairs[key])]).extend(_sources(pair))
            pairs.setdefault(key, msgspec.structs.replace(pair, status=status))
    used = {name for pair in pairs.values() for name in pair.needed}
    done = {pair.candidate.weight for pair in pairs.values()}
    return WeightMap(
        tuple(pairs.values()),
        {name: one.shape for name, one in theirs.weights.items()},
        {name: one.shape for name, one in ours.weights.items()},
        _unused(theirs, done),
        _unused(ours, used),
        {name: tuple(dict.fromkeys(found)) for name, found in conflicts.items()},
        {two.name: one.name for one, two in matching.resized},
        tuple(proof.contradictions) if proof is not None else (),
        matching.is_exact,
        _lone_norms(ours, matching),
    )


def _lone_norms(ours: Traced, matching: Matching) -> tuple[str, ...]:
    """Means and variances that the candidate alone has; a mean by itself is no norm."""
    own = [unit for unit in matching.extra_candidate if unit.role in _STATISTICS]
    is_norm = {unit.role for unit in own} == set(_STATISTICS)
    has_some = any(site.role in _STATISTICS for site in ours.sites)
    return tuple(unit.name for unit in own) if is_norm and not has_some else ()


def _status(pair: Pair, index: int, ways: Sequence[object], proof: Proof | None) -> str:
    if proof is not None and pair.candidate.weight in proof.proven:
        return PROVEN
    is_open = len(ways) > 1 and (proof is None or index not in proof.settled)
    return AMBIGUOUS if is_open else CONSISTENT


def _sources(pair: Pair) -> tuple[str, ...]:
    return tuple(one.piece.weight for one in pair.sources)


def _unused(network: Traced, done: Iterable[str]) -> tuple[str, ...]:
    """Weights without a partner that some operator takes, and learned ones that none does."""
    known = set(done)
    taken = {site.piece.weight for site in network.sites}
    return tuple(
        name for name, one in network.weights.items() if name not in known and (one.is_learned or name in taken)
    )


def _numbered(shape: tuple[int, ...]) -> Any:
    import numpy as np

    return np.arange(int(np.prod(shape)), dtype=np.int64).reshape(shape)
