"""A search for the feeds on which two models differ most, within the range of the data.

Whether feeds bring a fault to an output is a matter of chance: a bound at 6 shows nothing where activations stay below
5. Here feeds are changed by chance, what differs more is kept, and what was found has to hold in a neighbourhood: next
to a tie or a rounding edge, every two runtimes differ somewhere.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from regraft.compare.deviation import Deviation
from regraft.compare.judge import Judgement, Threshold
from regraft.compare.measure import Answer, OutputSeries, Yardstick, measured
from regraft.compare.noise import Ratio, least_floor, ratios, unit_roundoff
from regraft.errors import BadFeeds, Unsupported
from regraft.runtime.feed_changes import FeedChanger
from regraft.runtime.feeds import FeedCase

if TYPE_CHECKING:
    import numpy as np

    from regraft.runtime.interface import Feeds, Model

PASSES = 192
TIME_S = 20.0
GENERATION = 12
"""Feeds that are made before the next are chosen: with jitter, the copies of the reference are made once for all."""
NEIGHBOURS = 3
_RESTARTS = 0.4


class Step(msgspec.Struct, frozen=True):
    """A best so far: after how many passes, and how large, in fault thresholds."""

    passes: int
    severity: float


class Found(msgspec.Struct, frozen=True):
    """What a search found.

    Attributes:
        case: feeds on which the two differ most; None when no output can be compared on any feeds.
        output: where.
        ratio: divergence there in noise floors, the least over the feeds and their neighbours when it lies beyond
            the benign threshold.
        judgement: of it.
        history: one step for each improvement; the first is the best of the feeds that were given.
        passes: feeds that were tried.
        refused: those of them that one of the models did not run, or to which the reference has no finite answer.
        unstable: those that differed, but whose neighbours did not: a tie, or an edge of rounding.
        stopped_by: `passes`, `time` or `found`. Only a search that time did not stop is the same again.
    """

    case: FeedCase | None
    output: str
    ratio: Ratio | None
    judgement: Judgement
    history: tuple[Step, ...]
    passes: int
    refused: int
    unstable: int
    stopped_by: str


def worst_feeds(
    yardstick: Yardstick,
    candidate: Model,
    cases: Sequence[FeedCase],
    *,
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
    limits: Threshold,
    passes: int = PASSES,
    time_s: float = TIME_S,
    seed: int = 0,
    stop_beyond: bool = True,
) -> Found:
    """Look for feeds on which a candidate differs more from its reference than on those that are given.

    Args:
        yardstick: of the reference.
        candidate: what is in question.
        cases: at least one that both run; their values bound what is made up, their sizes too.
        inputs: reference's input → candidate's.
        outputs: reference's output → candidate's. Integers are not looked at: near a tie they differ by chance.
        limits: thresholds for the yardstick's method and a precision that it measures.
        passes: feeds to try beyond those given.
        time_s: most seconds.
        seed: of what is tried.
        stop_beyond: end when something lies beyond the fault threshold.
    Raises:
        Unsupported, BadFeeds: one of the given cases does not run.
    """
    search = _Search(yardstick, candidate, inputs, outputs, limits)
    return search.run(cases, passes, time_s, seed, stop_beyond=stop_beyond)


class _Trial(msgspec.Struct):
    """Feeds that were tried."""

    feeds: Feeds
    parent: FeedCase
    output: str
    ratio: Ratio
    severity: float


class _Search:
    """State of one search."""

    def __init__(
        self,
        yardstick: Yardstick,
        candidate: Model,
        inputs: Mapping[str, str],
        outputs: Mapping[str, str],
        limits: Threshold,
    ) -> None:
        self._yardstick, self._candidate = yardstick, candidate
        self._inputs, self._outputs, self._limits = inputs, outputs, limits
        self._own: dict[str, list[Deviation]] = {}
        self._refused = self._unstable = self._passes = 0
        self._best: _Trial | None = None
        self._history: list[Step] = []

    def run(self, cases: Sequence[FeedCase], passes: int, time_s: float, seed: int, *, stop_beyond: bool) -> Found:
        """Try, keep, and try again."""
        import numpy as np

        deadline = time.monotonic() + time_s
        random = np.random.default_rng(seed)
        changer = FeedChanger(self._yardstick.reference.signature, cases)
        self._passes = -len(cases)
        for trial in self._tried([case.feeds for case in cases], cases, must=True):
            self._consider(trial, changer, random)
        stopped_by = "passes"
        while self._passes < passes:
            if time.monotonic() > deadline:
                stopped_by = "time"
                break
            if stop_beyond and self._best is not None and self._limits.judgement(self._best.ratio) is Judgement.BEYOND:
                stopped_by = "found"
                break
            parents = [self._parent(cases, random) for _ in range(min(GENERATION, passes - self._passes))]
            made = [changer.changed(parent.feeds, random) for parent in parents]
            for trial in self._tried(made, parents):
                self._consider(trial, changer, random)
        return self._found(seed, stopped_by)

    def _parent(self, cases: Sequence[FeedCase], random: np.random.Generator) -> FeedCase:
        if self._best is None or random.random() < _RESTARTS:
            return cases[int(random.integers(len(cases)))]
        return FeedCase("best", dict(self._best.feeds), "search")

    def _tried(self, made: Sequence[Feeds], parents: Sequence[FeedCase], *, must: bool = False) -> list[_Trial]:
        """Run both models on several feeds; one by one where some of them do not run."""
        self._passes += len(made)
        try:
            return self._run(made, parents)
        except (Unsupported, BadFeeds):
            if must:
                raise
        trials = []
        for feeds, parent in zip(made, parents, strict=True):
            try:
                trials += self._run([feeds], [parent])
            except (Unsupported, BadFeeds):
                self._refused += 1
        return trials

    def _run(self, made: Sequence[Feeds], parents: Sequence[FeedCase]) -> list[_Trial]:
        trials = []
        answers = list(self._yardstick.answers(made))
        for feeds, parent, answer in zip(made, parents, answers, strict=True):
            trial = self._measured(feeds, parent, answer)
            if trial is None:
                self._refused += 1
            else:
                trials.append(trial)
        return trials

    def _measured(self, feeds: Feeds, parent: FeedCase, answer: Answer) -> _Trial | None:
        """The output that differs most; None where the reference itself overflows, or has integers alone."""
        series = measured([answer], self._candidate, [feeds], inputs=self._inputs, outputs=self._outputs)
        best: _Trial | None = None
        for one in series:
            truth = answer.truth[one.name]
            if truth.dtype.kind != "f" or not _is_finite(truth):
                continue
            ratio = self._ratio(one)
            severity = self._limits.severity(ratio)
            if best is None or severity > best.severity:
                best = _Trial(feeds, parent, one.name, ratio, severity)
        return best

    def _ratio(self, series: OutputSeries) -> Ratio:
        """In floors that are pooled over everything that was tried: on some feeds a reference is exact by chance."""
        (theirs,), (own,) = series.candidate, series.own[self._limits.precision]
        pool = self._own.setdefault(series.name, [])
        pool.append(own)
        if theirs.incomparable > own.incomparable:
            return Ratio(math.inf, math.inf, own.rms)
        silent = [msgspec.structs.replace(one, rms=0.0, peaks=(0.0,) * len(one.peaks)) for one in pool[:-1]]
        precision = self._limits.precision
        smallest = least_floor(pool, precision)
        return ratios([*silent, theirs], pool, unit=unit_roundoff(precision), smallest=smallest)[-1]

    def _consider(self, trial: _Trial, changer: FeedChanger, random: np.random.Generator) -> None:
        """Keep a trial that is better than the best; one beyond the benign threshold only with its neighbours."""
        if self._best is not None and trial.severity <= self._best.severity:
            return
        if self._limits.judgement(trial.ratio) is not Judgement.WITHIN:
            near = [changer.neighbour(trial.feeds, random) for _ in range(NEIGHBOURS)]
            around = self._tried(near, [trial.parent] * NEIGHBOURS)
            weakest = min([trial, *around], key=lambda one: one.severity)
            if len(around) < NEIGHBOURS or self._limits.judgement(weakest.ratio) is Judgement.WITHIN:
                self._unstable += 1
                return
            trial = msgspec.structs.replace(trial, ratio=weakest.ratio, severity=weakest.severity)
            if self._best is not None and trial.severity <= self._best.severity:
                return
        self._best = trial
        self._history.append(Step(self._passes, trial.severity))

    def _found(self, seed: int, stopped_by: str) -> Found:
        best = self._best
        if best is None:
            return Found(None, "", None, Judgement.WITHIN, (), self._passes, self._refused, self._unstable, stopped_by)
        is_given = len(self._history) == 0 or self._history[-1].passes == 0
        name = best.parent.name if is_given else f"search, pass {self._history[-1].passes} seed={seed}"
        case = FeedCase(name, dict(best.feeds), "search", best.parent.sizes if is_given else {}, seed)
        return Found(
            case,
            best.output,
            best.ratio,
            self._limits.judgement(best.ratio),
            tuple(self._history),
            self._passes,
            self._refused,
            self._unstable,
            stopped_by,
        )


def _is_finite(value: np.ndarray) -> bool:
    import numpy as np

    return bool(np.isfinite(value).all())
