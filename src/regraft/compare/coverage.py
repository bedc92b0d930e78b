"""Fault coverage: which faults would these feeds bring to an output?

Feeds that pass say little if a fault would have passed as well. So faults are planted in a graph that is right, and
each is run from its operator onwards on the same feeds.
Source: mutation analysis of tests (DeMillo, Lipton and Sayward, Hints on test data selection, 1978), with converter
faults for operators of mutation and the measured thresholds for the oracle.
"""

from __future__ import annotations

import time
from collections import ChainMap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.compare.binomial import Share, share
from regraft.compare.decisions import Decisions
from regraft.compare.deviation import Deviation, deviation
from regraft.compare.exercise import Exercise, Exerciser
from regraft.compare.judge import Judgement, Threshold, judge
from regraft.compare.measure import Answer, OutputSeries
from regraft.compare.planting import WITH_SUBGRAPHS, Planted, plantable, same
from regraft.errors import Unsupported

if TYPE_CHECKING:
    from regraft.runtime.interface import Array, Feeds
    from regraft.runtime.operator_graph import OperatorGraph, OperatorNode

MAX_PLANTED = 32
TIME_S = 20.0
_STOPS = (Unsupported, ValueError, KeyError, IndexError)


class PlantedFault(msgspec.Struct, frozen=True):
    """A fault and what became of it.

    Attributes:
        name, operator: of the operator that carries it.
        cause, detail: as localising would name it.
        feeds: position of the feeds that brought it to an output; None when none did.
    """

    name: str
    operator: str
    cause: str
    detail: str
    feeds: int | None


class FaultCoverage(msgspec.Struct, frozen=True):
    """What feeds can show.

    Attributes:
        faults: those that were tried.
        share: of them that went beyond the fault threshold at an output, with an exact 95 % interval; None when none
            was planted. A bound from below: some faults no input can show (a bias that the next softmax removes).
            The sample is spread over kinds of operators and causes: the share is one of kinds, not of operators.
        exercise: operators and branches that the feeds put to work.
        seconds: that it took.
        is_complete: False when time ran out before every fault had met all feeds; those that had met some count.
        reason: why nothing could be planted; empty otherwise.
    """

    faults: tuple[PlantedFault, ...] = ()
    share: Share | None = None
    exercise: Exercise | None = None
    seconds: float = 0.0
    is_complete: bool = True
    reason: str = ""

    @property
    def unreached(self) -> tuple[PlantedFault, ...]:
        """Faults that no feed brought to an output."""
        return tuple(fault for fault in self.faults if fault.feeds is None)

    @property
    def blind_operators(self) -> tuple[str, ...]:
        """Operators none of whose faults was seen."""
        seen = {fault.name for fault in self.faults if fault.feeds is not None}
        return tuple(dict.fromkeys(fault.name for fault in self.unreached if fault.name not in seen))


def fault_coverage(
    graph: OperatorGraph,
    cases: Sequence[Feeds],
    answers: Sequence[Answer],
    *,
    limits: Threshold,
    outputs: Mapping[str, str] | None = None,
    limit: int = MAX_PLANTED,
    seed: int = 0,
    time_s: float = TIME_S,
) -> FaultCoverage:
    """Plant faults in a graph and see which of them the feeds bring beyond the threshold at an output.

    Args:
        graph: of the reference, or of a candidate that was found to be the same; ONNX offers most faults.
        cases: feeds by the graph's names.
        answers: what the reference says to each of them, with its floors.
        limits: thresholds for the kind of floor in `answers`.
        outputs: name in `answers` → name in the graph; None where they are the same.
        limit: most faults.
        seed: of their choice.
        time_s: most seconds; checked between runs of one fault on one set of feeds.
    Raises:
        ValueError: there are not as many answers as cases.
    """
    started = time.monotonic()
    if len(cases) != len(answers):
        raise ValueError(f"{len(answers)} answers to {len(cases)} sets of feeds")
    names = dict(outputs or {name: name for name in graph.outputs})
    scorer = _Scorer(answers, names, limits)
    run = _Run(graph, scorer, limit, seed, started + time_s)
    for position, feeds in enumerate(cases):
        if not run.on(position, feeds):
            break
    return run.result(time.monotonic() - started)


class _Run:
    """Faults that still wait for feeds that show them."""

    def __init__(self, graph: OperatorGraph, scorer: _Scorer, limit: int, seed: int, deadline: float) -> None:
        self._graph = graph
        self._scorer = scorer
        self._limit, self._seed, self._deadline = limit, seed, deadline
        self._exerciser = Exerciser(graph)
        self._waiting: list[Planted] | None = None
        self._faults: list[PlantedFault] = []
        self._last_use = {name: i for i, node in enumerate(graph.nodes) for name in node.inputs}
        self._last_use |= {name: len(graph.nodes) for name in scorer.names.values()}
        self._complete = True
        self._reason = ""

    def on(self, position: int, feeds: Feeds) -> bool:
        """Run what waits on one set of feeds; False when time is up."""
        try:
            values = traced(self._graph, feeds)
        except Unsupported as error:
            self._reason = self._reason or error.what
            return True
        self._exerciser.add(values)
        is_first = self._waiting is None
        waiting = self._planted(values) if self._waiting is None else self._waiting
        still: list[Planted] = []
        for tried, fault in enumerate(waiting):
            if time.monotonic() > self._deadline:
                self._complete = False
                self._waiting = still if is_first else still + waiting[tried:]
                return False
            outcome = self._outcome(fault, values, position)
            if outcome is False:
                still.append(fault)
            elif outcome or not is_first:  # what does not run on the first feeds is no silent fault
                self._faults.append(_told(fault, position))
        self._waiting = still
        return True

    def _planted(self, values: Mapping[str, Any]) -> list[Planted]:
        """Faults for the graph, in at most half of the time."""
        begun = time.monotonic()
        found = []
        for fault in plantable(self._graph, values, limit=self._limit, seed=self._seed):
            found.append(fault)
            if time.monotonic() > (begun + self._deadline) / 2:
                self._complete = False
                break
        return found

    def result(self, seconds: float) -> FaultCoverage:
        """Reached faults, and those that waited in vain."""
        faults = [*self._faults, *(_told(fault, None) for fault in self._waiting or ())]
        reached = sum(fault.feeds is not None for fault in faults)
        reason = "" if faults else self._reason or "no operator of the graph can be given a fault"
        return FaultCoverage(
            tuple(faults),
            share(reached, len(faults)) if faults else None,
            self._exerciser.result(),
            seconds,
            self._complete,
            reason,
        )

    def _outcome(self, fault: Planted, values: dict[str, Any], position: int) -> bool | None:
        """Is the fault seen at an output? None where the network stops with it."""
        try:
            changed = self._behind(fault, values)
            return self._scorer.is_beyond(position, changed)
        except _STOPS:
            return None

    def _behind(self, fault: Planted, values: dict[str, Any]) -> dict[str, Any]:
        """Tensors that a fault changes, as far as they are still of use; it ends where nothing differs any more."""
        changed: dict[str, Any] = {}
        given = ChainMap(changed, values)
        alive: set[str] = set()
        for position in range(fault.position, len(self._graph.nodes)):
            node = self._graph.nodes[position]
            if position == fault.position:
                found = fault.hypothesis.run(values)
            elif alive.isdisjoint(node.inputs):
                continue
            else:
                _check_shapes(node, changed, values)
                found = self._graph.run(node, given)
            for name, value in found.items():
                if name and not same(value, values[name]):
                    changed[name] = value
                    alive.add(name)
            alive = {name for name in alive if self._last_use.get(name, -1) > position}
            if not alive:
                break
        return {name: value for name, value in changed.items() if name in alive}


def _check_shapes(node: OperatorNode, changed: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Keep other shapes from operators with subgraphs: onnxruntime 1.32 aborts the process in Scan and Loop."""
    if node.operator in WITH_SUBGRAPHS:
        for name in node.inputs:
            if getattr(changed.get(name), "shape", None) not in (None, getattr(values.get(name), "shape", None)):
                raise Unsupported(f"{node.operator} {node.name!r} is given another shape")


def _told(fault: Planted, position: int | None) -> PlantedFault:
    node, hypothesis = fault.node, fault.hypothesis
    return PlantedFault(node.name, node.operator, hypothesis.cause, hypothesis.detail, position)


def traced(graph: OperatorGraph, feeds: Feeds) -> dict[str, Any]:
    """Every tensor of one pass, operator by operator, in the graph's own precision.

    Raises:
        Unsupported: an operator does not run.
    """
    values: dict[str, Any] = dict(feeds)
    for node in graph.nodes:
        values |= graph.run(node, values)
    return values


class _Scorer:
    """Judges outputs with a fault in them as `verify` would judge a candidate with that fault."""

    def __init__(self, answers: Sequence[Answer], names: Mapping[str, str], limits: Threshold) -> None:
        self.names = dict(names)
        self._answers = answers
        self._limits = limits
        own = {name: [answer.own[limits.precision][name] for answer in answers] for name in names}
        self._own: dict[str, list[Deviation]] = own

    def is_beyond(self, position: int, changed: Mapping[str, Array]) -> bool:
        """Does any changed output lie beyond the fault threshold?

        Raises:
            ValueError: an output has another shape than the reference's.
        """
        return any(
            self._judgement(position, name, changed[theirs]) is Judgement.BEYOND
            for name, theirs in self.names.items()
            if theirs in changed
        )

    def _judgement(self, position: int, name: str, value: Array) -> Judgement:
        answer = self._answers[position]
        truth = answer.truth[name]
        excused = 0
        if truth.dtype.kind in "iub":
            excused = int(((value != truth) & answer.unstable.get(name, False)).sum())
        own = self._own[name]
        others = [_silent(one) for one in own]
        others[position] = deviation(value, truth)
        none: list[Decisions] = []
        series = OutputSeries(
            name,
            others,
            {self._limits.precision: own},
            none,
            [excused if i == position else 0 for i in range(len(own))],
        )
        return judge(series, self._limits).judgement


def _silent(own: Deviation) -> Deviation:
    return msgspec.structs.replace(own, rms=0.0, peaks=(0.0,) * len(own.peaks), flips=0, incomparable=0)
