"""Every distinct operator of a graph in every runtime and dtype: works, differs, is slow, or is missing."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.compare.deviation import deviation
from regraft.compare.judge import Judgement, judge, threshold
from regraft.compare.measure import OutputSeries
from regraft.errors import RegraftError, Unsupported
from regraft.runtime.rounding import round_to
from regraft.runtime.single_operators import (
    HALVES,
    DistinctOperators,
    SingleOperator,
    narrowed_inputs,
    narrowed_values,
    nothing_model,
    operator_model,
)

if TYPE_CHECKING:
    from regraft.runtime.interface import Array, Feeds
    from regraft.runtime.onnx_graph import OnnxGraph
    from regraft.runtime.operator_process import OperatorProcess

SLOWER = 3.0
"""Times the fastest runtime's median from which an operator is slow."""
LEAST_MS = 0.1
"""What a slow operator loses at least: smaller differences are those of calls from Python."""
_ROUNDS = 5
_AS_IT_IS = "as it is"
"""In place of a dtype, where an operator takes and makes no floating-point numbers."""


class Status(StrEnum):
    """What a runtime makes of an operator."""

    WORKS = "works"
    DIFFERS = "differs"
    SLOW = "slow"
    MISSING = "missing"
    UNDECIDED = "undecided"
    NOT_ASKED = "not asked"


class Probe(msgspec.Struct, frozen=True):
    """One operator in one runtime and dtype.

    Attributes:
        operator: its kind, with its domain where that is not ONNX's own.
        name: of the first such operator.
        count: how many there are in the graph that differ in nothing.
        shapes: dtype and shape of every input, in words.
        runtime: that was asked; empty where none was.
        dtype: that it was asked to compute in.
        status: what it made of it.
        floors: RMS of the error in noise floors, of the worst output; None where nothing can be compared.
        ms: median wall time of a pass; None where it does not run.
        slower: times the median of the fastest runtime in this dtype.
        message: why it is missing, differs or is undecided.
    """

    operator: str
    name: str
    count: int
    shapes: str
    runtime: str
    dtype: str
    status: Status
    floors: float | None = None
    ms: float | None = None
    slower: float | None = None
    message: str = ""


class Truth(msgspec.Struct, frozen=True):
    """What an operator should say in a dtype, and by how much rounding alone lets it miss that.

    Attributes:
        exact: output → value in float64, from the rounded inputs.
        own: output → value of onnxruntime in float32, rounded to the dtype.
        reason: why there is nothing exact; empty where there is.
    """

    exact: dict[str, Any]
    own: dict[str, Any]
    reason: str = ""


def probes(graph: OnnxGraph, feeds: Feeds, processes: Sequence[OperatorProcess]) -> list[Probe]:
    """Try every distinct operator of a graph, on the tensors that it meets in one pass.

    Args:
        graph: the operators.
        feeds: inputs of the graph.
        processes: one of each runtime; they take turns when they are timed.
    Raises:
        Unsupported: the pass itself cannot be made.
    """
    found: list[tuple[tuple[Any, ...], Probe]] = []
    operators = DistinctOperators(graph, feeds)
    bench = _Bench(processes)
    for operator in operators:
        found += [(operator.key, one) for one in _tried(graph, operator, bench)]
    return [msgspec.structs.replace(one, count=operators.counts[key]) for key, one in found]


class _Bench:
    """The runtimes, and what a call that computes nothing costs in each of them, in ms, by runtime and dtype."""

    def __init__(self, processes: Sequence[OperatorProcess]) -> None:
        self.processes = processes
        self.call_ms: dict[tuple[str, str], float] = {}
        for dtype in ("float32", *HALVES):
            content, feeds = nothing_model(dtype)
            running = {}
            for process in processes:
                with contextlib.suppress(RegraftError):  # a runtime without the dtype, which every operator will tell
                    process.run(content, feeds, dtype)
                    running[process.runtime] = process
            self.call_ms |= {(runtime, dtype): ms for runtime, ms in _medians(running).items()}


def _medians(running: Mapping[str, OperatorProcess]) -> dict[str, float]:
    """Runtime → median over rounds of the time of a pass, in ms; in each round every runtime has its turn."""
    rounds: dict[str, list[float]] = {runtime: [] for runtime in running}
    lost: set[str] = set()
    for _ in range(_ROUNDS):
        for runtime in [name for name in running if name not in lost]:
            try:
                rounds[runtime].append(running[runtime].pass_ms())
            except RegraftError:
                lost.add(runtime)
    return {runtime: statistics.median(times) for runtime, times in rounds.items() if runtime not in lost}


def _tried(graph: OnnxGraph, operator: SingleOperator, bench: _Bench) -> Iterator[Probe]:
    if operator.obstacle:
        yield _probe(operator, graph, "", "", Status.NOT_ASKED, message=operator.obstacle)
        return
    own = operator.dtype
    dtypes = {own: frozenset[str]()}
    if own == "float32":
        dtypes |= {dtype: narrow for dtype in HALVES if (narrow := narrowed_inputs(graph, operator, dtype))}
    for dtype, narrow in dtypes.items():
        yield from _in_dtype(graph, operator, dtype, narrow, bench)


def _in_dtype(
    graph: OnnxGraph,
    operator: SingleOperator,
    dtype: str,
    narrow: frozenset[str],
    bench: _Bench,
) -> Iterator[Probe]:
    inputs = narrowed_values(operator.inputs, narrow, dtype)
    truth = _truth(graph, operator, inputs, dtype, is_narrow=bool(narrow))
    content, fed = operator_model(graph, operator, inputs, narrow, dtype)
    found: dict[str, Probe] = {}
    running: dict[str, OperatorProcess] = {}
    for process in bench.processes:
        try:
            outputs = process.run(content, fed, dtype)
        except RegraftError as error:
            found[process.runtime] = _probe(
                operator, graph, process.runtime, dtype, Status.MISSING, message=_brief(error.what)
            )
        else:
            status, floors, message = _judged(outputs, truth, dtype)
            found[process.runtime] = _probe(operator, graph, process.runtime, dtype, status, floors, message=message)
            running[process.runtime] = process
    times = _medians(running)
    for runtime, probe in found.items():
        call_ms = bench.call_ms.get((runtime, dtype or "float32"), 0.0)
        yield _timed(probe, times.get(runtime), min(times.values(), default=0.0), call_ms)


def _truth(
    graph: OnnxGraph, operator: SingleOperator, inputs: Mapping[str, Any], dtype: str, *, is_narrow: bool
) -> Truth:
    try:
        exact = graph.run(operator.node, inputs, precision="float64")
        own = graph.run(operator.node, inputs) if is_narrow else operator.outputs
    except Unsupported as error:
        return Truth({}, {}, error.what)
    again = graph.run(operator.node, inputs)
    if not all(_same(again[name], value) for name, value in own.items()):
        return Truth({}, {}, "its result is another one each time")
    if is_narrow:
        own = {name: round_to(value, dtype) if value.dtype.kind == "f" else value for name, value in own.items()}
    return Truth(exact, own)


def _same(one: Array, other: Array) -> bool:
    import numpy as np

    return bool(np.array_equal(one, other, equal_nan=one.dtype.kind == "f"))


def _judged(outputs: Mapping[str, Array], truth: Truth, dtype: str) -> tuple[Status, float | None, str]:
    """Status, error in noise floors, and why."""
    if truth.reason:
        return Status.UNDECIDED, None, truth.reason
    try:
        limits = threshold("float64", dtype or "float32")
    except Unsupported as error:
        return Status.UNDECIDED, None, error.what
    floors, worst = 0.0, ""
    for name, exact in truth.exact.items():
        if outputs[name].shape != exact.shape:
            return Status.DIFFERS, None, f"its result has the shape {outputs[name].shape} for {exact.shape}"
        own = deviation(truth.own[name], exact)
        series = OutputSeries(name, [deviation(outputs[name], exact)], {limits.precision: [own]})
        series.excused = [own.flips + own.incomparable]
        judged = judge(series, limits)
        floors = max([floors, *(ratio.rms for ratio in judged.ratios)])
        if judged.judgement is Judgement.BEYOND:
            worst = judged.reason
    return (Status.DIFFERS if worst else Status.WORKS), floors, worst


def _timed(probe: Probe, ms: float | None, fastest_ms: float, call_ms: float) -> Probe:
    """With its time, of which the cost of the call itself does not count as slowness."""
    if ms is None:
        if probe.status is Status.MISSING:
            return probe
        return msgspec.structs.replace(probe, status=Status.UNDECIDED, message="it ran once, and not again")
    own_ms = ms - call_ms
    is_slow = probe.status is Status.WORKS and own_ms > SLOWER * fastest_ms and own_ms - fastest_ms > LEAST_MS
    slower = ms / fastest_ms
    message = f"{ms:.3g} ms, {slower:.1f} times the fastest" if is_slow else probe.message
    status = Status.SLOW if is_slow else probe.status
    return msgspec.structs.replace(probe, status=status, ms=ms, slower=slower, message=message)


def _probe(
    operator: SingleOperator,
    graph: OnnxGraph,
    runtime: str,
    dtype: str,
    status: Status,
    floors: float | None = None,
    *,
    message: str = "",
) -> Probe:
    domain = graph.protos[operator.node.name].domain
    kind = f"{domain}::{operator.node.operator}" if domain not in ("", "ai.onnx") else operator.node.operator
    shapes = operator.shapes if not operator.obstacle else ""
    return Probe(kind, operator.node.name, 1, shapes, runtime, dtype or _AS_IT_IS, status, floors, message=message)


def _brief(text: str) -> str:
    return " ".join(text.split())[:300]
