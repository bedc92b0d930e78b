"""Faults to plant: hypotheses about causes, turned round and put into a graph that is right.

A hypothesis counts as a fault only where its operator can tell: on what it was fed, or on values made up for it, the
operator must answer otherwise than it does. An epsilon that is tried at the value that it has is no fault.
"""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.compare.causes.interface import Family, Hypothesis, Run
from regraft.compare.causes.operands import operands
from regraft.compare.causes.settings import settings
from regraft.compare.causes.structure import structure
from regraft.errors import Unsupported

if TYPE_CHECKING:
    import numpy as np

    from regraft.runtime.operator_graph import OperatorGraph, OperatorNode

_FAMILIES: tuple[Family, ...] = (settings, operands, structure)
_MAX_HYPOTHESES = 240
"""Of one family about one operator that are looked at."""
_KEPT_A_CAUSE = 2
_MAX_WEIGHT = 1 << 22
"""Elements of a constant of which no variants are made: each is a copy of it."""
WITH_SUBGRAPHS = ("If", "Loop", "Scan", "SequenceMap")
"""onnxruntime 1.32 aborts the process when the operands of a Loop stand in another order."""
_VISITS = 3
_PROBES = ("normal", "small", "large", "halves")


class Planted(msgspec.Struct, frozen=True):
    """One fault.

    Attributes:
        node: the operator that carries it.
        position: of the operator in the graph's order.
        hypothesis: what is wrong with it, and how it runs then.
    """

    node: OperatorNode
    position: int
    hypothesis: Hypothesis


def plantable(graph: OperatorGraph, values: Mapping[str, Any], *, limit: int, seed: int) -> Iterator[Planted]:
    """Faults for a graph, spread over the kinds of operators and of causes.

    Args:
        graph: with ONNX operators all families of causes apply; of other graphs an operator is left out, or one of
            its weights is changed.
        values: every tensor of one pass.
        limit: at most so many.
        seed: of the choice.
    """
    import numpy as np

    random = np.random.default_rng(seed)
    used: Counter[str] = Counter()
    chosen: set[tuple[str, str]] = set()
    count = 0
    positions = {node.name: position for position, node in enumerate(graph.nodes)}
    for node in (*_spread(graph.nodes, random),) * _VISITS:
        if count == limit:
            return
        fault = _one(graph, node, values, random, used, chosen)
        if fault is not None:
            used[fault.cause] += 1
            chosen.add((node.name, fault.cause))
            count += 1
            yield Planted(node, positions[node.name], fault)


def _spread(nodes: Sequence[OperatorNode], random: np.random.Generator) -> list[OperatorNode]:
    """One operator of each kind, then a second of each, and so on."""
    shuffled = [nodes[int(i)] for i in random.permutation(len(nodes))]
    seen: Counter[str] = Counter()
    turn: dict[str, int] = {}
    for node in shuffled:
        turn[node.name] = seen[node.operator]
        seen[node.operator] += 1
    return sorted(shuffled, key=lambda node: turn[node.name])


def _one(
    graph: OperatorGraph,
    node: OperatorNode,
    values: Mapping[str, Any],
    random: np.random.Generator,
    used: Counter[str],
    chosen: set[tuple[str, str]],
) -> Hypothesis | None:
    """A fault of one operator, of the cause that was used least."""
    sampled = _sampled(graph, node, values, random)
    by_cause = {cause: some for cause, some in sampled.items() if (node.name, cause) not in chosen}
    order = sorted(by_cause, key=lambda cause: (used[cause], random.random()))
    for cause in order:
        for hypothesis in by_cause[cause]:
            if tells_apart(graph, node, hypothesis, values, random):
                return hypothesis
    return None


def _sampled(
    graph: OperatorGraph, node: OperatorNode, values: Mapping[str, Any], random: np.random.Generator
) -> dict[str, list[Hypothesis]]:
    """A few hypotheses of each cause, drawn evenly from all of that cause without holding them all."""
    kept: dict[str, list[Hypothesis]] = {}
    seen: Counter[str] = Counter()
    for hypothesis in _hypotheses(graph, node, values):
        seen[hypothesis.cause] += 1
        place = int(random.integers(seen[hypothesis.cause]))
        some = kept.setdefault(hypothesis.cause, [])
        if len(some) < _KEPT_A_CAUSE:
            some.append(hypothesis)
        elif place < _KEPT_A_CAUSE:
            some[place] = hypothesis
    return kept


def _hypotheses(graph: Any, node: OperatorNode, values: Mapping[str, Any]) -> Iterator[Hypothesis]:
    if not hasattr(graph, "protos"):
        yield from _of_any_graph(graph, node, values)
        return
    for family in _FAMILIES:
        if family is operands and (node.operator in WITH_SUBGRAPHS or _is_heavy(graph, node)):
            continue
        yield from itertools.islice(family(graph, node, values), _MAX_HYPOTHESES)


def _is_heavy(graph: OperatorGraph, node: OperatorNode) -> bool:
    held = (graph.constant(name) for name in node.inputs if name)
    return any(value is not None and value.size > _MAX_WEIGHT for value in held)


def _of_any_graph(graph: OperatorGraph, node: OperatorNode, values: Mapping[str, Any]) -> Iterator[Hypothesis]:
    """What can be done to an operator of which only inputs, weights and results are known."""
    made = next((name for name in node.outputs if name), "")
    now: Any = values.get(made)
    if not hasattr(now, "dtype"):
        return
    for name in node.inputs:
        held: Any = values.get(name)
        if getattr(held, "shape", None) == now.shape and held.dtype == now.dtype:
            run: Run = functools.partial(_handed_on, made, name)
            yield Hypothesis("node_missing", f"{node.operator} is missing", run)
        weight: Any = graph.constant(name) if name else None
        if weight is None or weight.dtype.kind != "f" or not 1 < weight.size <= _MAX_WEIGHT:
            continue
        run = functools.partial(_with_weight, graph, node, name, -weight)
        yield Hypothesis("weight_changed", f"{name} is negated", run)
        run = functools.partial(_with_weight, graph, node, name, weight[::-1].copy())
        yield Hypothesis("channel_order", f"{name} is reversed", run)


def _handed_on(made: str, name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {made: values[name]}


def _with_weight(
    graph: OperatorGraph, node: OperatorNode, name: str, weight: Any, values: Mapping[str, Any]
) -> dict[str, Any]:
    return graph.run(node, {**values, name: weight})


def tells_apart(
    graph: OperatorGraph,
    node: OperatorNode,
    hypothesis: Hypothesis,
    values: Mapping[str, Any],
    random: np.random.Generator,
) -> bool:
    """Can the operator itself answer otherwise under a hypothesis, and run?

    Args:
        graph: of the operator.
        node: the operator.
        hypothesis: about it.
        values: every tensor of one pass; tried first.
        random: of the values that are made up, in the shapes of its floating-point inputs.
    """
    try:
        if _differ(hypothesis.run(values), {name: values[name] for name in node.outputs if name}):
            return True
    except (Unsupported, ValueError, KeyError, IndexError):
        return False
    for kind in _PROBES:
        probe = _probe(graph, node, values, kind, random)
        try:
            if probe and _differ(hypothesis.run({**values, **probe}), graph.run(node, {**values, **probe})):
                return True
        except (Unsupported, ValueError, KeyError, IndexError):
            continue
    return False


def _probe(
    graph: OperatorGraph, node: OperatorNode, values: Mapping[str, Any], kind: str, random: np.random.Generator
) -> dict[str, Any]:
    import numpy as np

    probe = {}
    for name in dict.fromkeys(node.inputs):
        value: Any = values.get(name)
        if not name or getattr(value, "dtype", None) is None or value.dtype.kind != "f":
            continue
        if graph.constant(name) is not None:
            continue
        normal = random.standard_normal(value.shape)
        made = {"normal": normal, "small": 1e-4 * normal, "large": 30 * normal, "halves": np.round(4 * normal) / 2}
        probe[name] = np.asarray(made[kind]).astype(value.dtype)
    return probe


def _differ(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    return any(name in mine and not same(mine[name], value) for name, value in theirs.items())


def same(one: Any, other: Any) -> bool:
    """Are two values of a graph the same, bit by bit except for the sign of zero and the kind of NaN?"""
    import numpy as np

    if not hasattr(one, "dtype") or not hasattr(other, "dtype"):
        return bool(one == other)
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return bool(np.array_equal(one, other, equal_nan=one.dtype.kind == "f"))
