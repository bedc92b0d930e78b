"""Run reference and candidate on the same feeds and keep what their outputs say of rounding and of faults."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from regraft.compare.decisions import Decisions, decisions
from regraft.compare.deviation import Deviation, deviation, smallest_cosine
from regraft.compare.exact import exact_model
from regraft.compare.jitter import RUNS, jittered_feeds, jittered_runs
from regraft.compare.noise import unit_roundoff
from regraft.compare.recall import recalled
from regraft.errors import Unsupported
from regraft.runtime.feeding import feeds_for

if TYPE_CHECKING:
    from regraft.runtime.interface import Array, Feeds, Model

FEW = 8
"""An output of fewer numbers than this may be exact by chance, so that one run of the reference says too little."""
RUNS_OF_FEW = 4
"""Further runs, on moved weights and inputs, that say more."""
_ANOTHER_ORDER = 1e-3
_BY_ROUNDING = 2.0**14
"""Largest error of the reference's own run, in unit roundoffs of its largest number, from which on it answers by
rounding alone, as basic-pitch does to silence: in which channels those errors are large is chance then."""
EXACT, JITTER = "float64", "jitter"
"""Ways to find a floor: against exact arithmetic, or from runs that are jittered by one unit in the last place."""


class Answer(msgspec.Struct, frozen=True):
    """What the reference says on one set of feeds.

    Attributes:
        truth: output → the most exact array to be had.
        own: precision → output → deviation of the reference's own run in that precision.
        unstable: output → where the reference's own runs disagree: integers and booleans that are others, floating
            numbers that are finite in one of the runs only. Outputs without such places may be left out.
    """

    truth: dict[str, Array]
    own: dict[str, dict[str, Deviation]]
    unstable: dict[str, Array]


class Yardstick:
    """A reference with its exact twin and its runs in the precisions to judge by.

    Args:
        reference: the model that counts as right.
        feeds: one set of feeds, to see whether float64 is kept.
        precisions: precisions whose floors are wanted, as `float32`.
        method: `float64` or `jitter`; None for the first that is possible.
        seed: of the jitter.
        said: method and reason, where they are known from an earlier time: nothing is run before answers are wanted.
    Raises:
        Unsupported: neither float64 nor jitter is possible.
    """

    def __init__(
        self,
        reference: Model,
        feeds: Feeds,
        *,
        precisions: Sequence[str] = ("float32",),
        method: str | None = None,
        seed: int = 0,
        said: tuple[str, str] | None = None,
    ) -> None:
        self.reference = reference
        self.precisions = tuple(precisions)
        self.method = EXACT
        self.reason = ""
        self.seed = self._seed = seed
        self._exact = reference
        self._runs: dict[str, Model] = {}
        if said is not None:
            self.method, self.reason = said
        elif method == JITTER:
            self.method, self.reason = JITTER, "asked for"
        else:
            self._prepare(feeds, method)

    def _prepare(self, feeds: Feeds, method: str | None) -> None:
        try:
            self._exact = exact_model(self.reference, feeds)
            self._runs = {p: self._in(p) for p in self.precisions}
        except Unsupported as error:
            if method == EXACT:
                raise
            self.method, self.reason = JITTER, error.what

    def answers(self, feeds: Sequence[Feeds]) -> Iterator[Answer]:
        """Run the reference, exactly and in each precision, on one set of feeds after the other.

        With jitter, and for outputs of a few numbers, the plain answers to all feeds are held, so that each jittered
        copy is made only once.
        """
        if self.method == EXACT and not self._runs and feeds:
            self._prepare(feeds[0], EXACT)
        if self.method == JITTER:
            yield from self._jittered(feeds)
            return
        answers = map(self._exactly, feeds)
        for first in answers:
            if any(map(_is_few, first.truth.values())):
                yield from self._settled([first, *answers], feeds)
            else:
                yield first
                yield from answers

    def _exactly(self, feeds: Feeds) -> Answer:
        truth = recalled(self._exact, feeds)
        own: dict[str, dict[str, Deviation]] = {}
        unstable: dict[str, Array] = {}
        for precision, model in self._runs.items():
            outputs = recalled(model, feeds)
            own[precision] = {
                name: _by_chance(deviation(outputs[name], value), precision) for name, value in truth.items()
            }
            _note_unstable(unstable, truth, outputs)
        return Answer(truth, own, unstable)

    def _settled(self, answers: Sequence[Answer], feeds: Sequence[Feeds]) -> list[Answer]:
        """Answers in which the floors of outputs of a few numbers are the largest of several runs."""
        few = [i for i, answer in enumerate(answers) if any(map(_is_few, answer.truth.values()))]
        settled = list(answers)
        for precision, model in self._runs.items() if few else ():
            unit = 2 * unit_roundoff(precision)
            more: dict[int, dict[str, list[Deviation]]] = {i: {} for i in few}
            for copy, seed in self._moved(model, unit):
                for i in few:
                    outputs = copy(feeds_for(copy, jittered_feeds(feeds[i], seed=seed, unit=unit)))
                    for name, value in answers[i].truth.items():
                        if _is_few(value):
                            more[i].setdefault(name, []).append(deviation(outputs[name], value))
            for i, found in more.items():
                own = settled[i].own[precision]
                largest = {name: _largest([own[name], *several]) for name, several in found.items()}
                settled[i] = msgspec.structs.replace(settled[i], own={**settled[i].own, precision: {**own, **largest}})
        return settled

    def _moved(self, model: Model, unit: float) -> Iterator[tuple[Model, int]]:
        """Copies with weights moved by one unit; where that cannot be, the model itself for feeds alone to be moved."""
        try:
            yield from jittered_runs(model, seed=self._seed, unit=unit, runs=RUNS_OF_FEW)
        except Unsupported:
            yield from ((model, self._seed + run) for run in range(RUNS_OF_FEW))

    def _in(self, precision: str) -> Model:
        same = precision == self.reference.effective_precision
        return self.reference if same else self.reference.cast(precision)

    def _jittered(self, feeds: Sequence[Feeds]) -> list[Answer]:
        truths = [self.reference(one) for one in feeds]
        unstable: list[dict[str, Array]] = [{} for _ in feeds]
        own: list[dict[str, dict[str, Deviation]]] = [{} for _ in feeds]
        for precision in self.precisions:
            runs: list[dict[str, list[Deviation]]] = [{} for _ in feeds]
            unit = 2 * unit_roundoff(precision)
            for model, seed in jittered_runs(self.reference, seed=self._seed, unit=unit):
                for i, (one, truth) in enumerate(zip(feeds, truths, strict=True)):
                    outputs = model(jittered_feeds(one, seed=seed, unit=unit))
                    for name, value in truth.items():
                        runs[i].setdefault(name, []).append(deviation(outputs[name], value))
                    _note_unstable(unstable[i], truth, outputs)
            for i, found in enumerate(runs):
                own[i][precision] = {name: _typical(several) for name, several in found.items()}
        return [Answer(*parts) for parts in zip(truths, own, unstable, strict=True)]


def plain_answers(reference: Model, feeds: Iterable[Feeds]) -> Iterator[Answer]:
    """What the reference itself says, for fixed limits, which need no floor."""
    for one in feeds:
        yield Answer(recalled(reference, one), {}, {})


def is_repeated(once: Array, again: Array) -> bool:
    """Do two answers to the same feeds differ by no more than another order of sums can make?

    Args:
        once, again: an output, any shape and dtype.
    """
    import numpy as np

    if once.shape != again.shape or once.dtype.kind != "f":
        return once.shape == again.shape and bool(np.array_equal(once, again))
    error = deviation(again, once)
    return error.incomparable == 0 and error.relative <= _ANOTHER_ORDER


class Tolerance(msgspec.Struct, frozen=True):
    """Fixed limits in place of floors: |candidate − reference| ≤ atol + rtol × |reference|."""

    atol: float
    rtol: float

    def exceeded(self, theirs: Array, truth: Array) -> int:
        """Elements beyond the limits, or finite in one only."""
        import numpy as np

        close = np.isclose(
            theirs.astype(np.float64), truth.astype(np.float64), rtol=self.rtol, atol=self.atol, equal_nan=True
        )
        return int(close.size - np.count_nonzero(close))


class OutputSeries(msgspec.Struct):
    """One output over all feeds.

    Attributes:
        name: of the reference's output.
        candidate: deviation of the candidate, one entry a feed.
        own: precision → deviation of the reference's own run, one entry a feed.
        decisions: argmax along the last axis, one entry a feed; empty for outputs that are no scores.
        excused: integer flips and lost numbers at places where the reference's own runs disagree too, one entry a feed.
        exceeding: elements beyond a fixed tolerance, one entry a feed; empty without one.
        cosines: smallest cosine between the rows of the two, one entry a feed; empty for integers and single numbers.
    """

    name: str
    candidate: list[Deviation] = []
    own: dict[str, list[Deviation]] = {}
    decisions: list[Decisions] = []
    excused: list[int] = []
    exceeding: list[int] = []
    cosines: list[float] = []

    @property
    def says_nothing(self) -> bool:
        """The reference answers with one and the same number throughout."""
        low, high = min(one.low for one in self.candidate), max(one.high for one in self.candidate)
        return high - low <= unit_roundoff("float32") * max(abs(low), abs(high))


def measured(
    answers: Iterable[Answer],
    candidate: Model,
    feeds: Sequence[Feeds],
    *,
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
    tolerance: Tolerance | None = None,
) -> list[OutputSeries]:
    """Deviations of a candidate and of the reference itself, output by output, feed by feed.

    Args:
        answers: what `Yardstick.answers` says to these feeds.
        candidate: the model in question.
        feeds: inputs by the reference's names.
        inputs: reference's input → candidate's.
        outputs: reference's output → candidate's.
        tolerance: count what lies beyond it, too.
    Raises:
        Unsupported: an output has another shape in the candidate.
        What the models raise.
    """
    series = {name: OutputSeries(name) for name in outputs}
    for one, answer in zip(feeds, answers, strict=True):
        theirs = recalled(candidate, {inputs[name]: value for name, value in one.items() if name in inputs})
        for name, other in outputs.items():
            _add(series[name], answer, theirs[other], candidate.where)
            if tolerance is not None:
                series[name].exceeding.append(tolerance.exceeded(theirs[other], answer.truth[name]))
    return list(series.values())


def _add(series: OutputSeries, answer: Answer, theirs: Array, where: str) -> None:
    import numpy as np

    name = series.name
    truth = answer.truth[name]
    if theirs.shape != truth.shape:
        raise Unsupported(f"output {name!r} has shape {theirs.shape}, the reference's has {truth.shape}", where=where)
    series.candidate.append(deviation(theirs, truth))
    for precision, own in answer.own.items():
        series.own.setdefault(precision, []).append(own[name])
    excused = np.logical_and(_disagree(theirs, truth), answer.unstable.get(name, False))
    series.excused.append(int(excused.sum()))
    cosine = smallest_cosine(theirs, truth)
    if cosine is not None:
        series.cosines.append(cosine)
    found = decisions(theirs, truth, own=[own[name] for own in answer.own.values()])
    if found is not None:
        series.decisions.append(found)


def _note_unstable(unstable: dict[str, Array], truth: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
    import numpy as np

    for name, value in truth.items():
        differs = _disagree(outputs[name], value)
        if name in unstable or differs.any():
            unstable[name] = np.logical_or(differs, unstable.get(name, differs))


def _disagree(one: Array, other: Array) -> Array:
    """Where two integers differ, and where one of two floating numbers alone is finite."""
    import numpy as np

    found: Array = one != other if other.dtype.kind != "f" else np.isfinite(one) != np.isfinite(other)
    return found


def _is_few(value: Array) -> bool:
    return value.dtype.kind == "f" and 0 < value.size < FEW


def _by_chance(own: Deviation, precision: str) -> Deviation:
    """The same, with the largest peak for every channel where the reference answers by rounding alone."""
    limit = _BY_ROUNDING * unit_roundoff(precision) * max(own.scale_peaks, default=0.0)
    return msgspec.structs.replace(own, peaks=(own.peak,) * len(own.peaks)) if own.peak > limit > 0 else own


def _typical(runs: Sequence[Deviation]) -> Deviation:
    """One deviation that stands for k jittered runs: RMS of the RMS, the largest peaks."""
    rms = (sum(one.rms**2 for one in runs) / len(runs)) ** 0.5
    return msgspec.structs.replace(_largest(runs), rms=rms)


def _largest(runs: Sequence[Deviation]) -> Deviation:
    """The largest RMS and the largest peaks of several runs."""
    peaks = tuple(max(values) for values in zip(*(one.peaks for one in runs), strict=True))
    return msgspec.structs.replace(runs[-1], rms=max(one.rms for one in runs), peaks=peaks)


__all__ = [
    "EXACT",
    "JITTER",
    "RUNS",
    "Answer",
    "OutputSeries",
    "Tolerance",
    "Yardstick",
    "is_repeated",
    "measured",
    "plain_answers",
]
