"""Rewrites of a pipeline, tried: which are faster beyond the interval, and which of these return the same."""

from __future__ import annotations

import copy
import math
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.conceptual.pipelines.recording import Recording, apart
from regraft.conceptual.pipelines.rewrites import Rewrite, as_it_is, rewrites
from regraft.conceptual.pipelines.timing import ROUNDS, fitting
from regraft.conceptual.stages.declaration import all_seeded
from regraft.errors import Unsupported
from regraft.runtime.quantiles import CONFIDENCE, Quantile, quantile

if TYPE_CHECKING:
    from regraft.conceptual.pipelines.rewrites import Kind

_SCREENED = 3
"""Rounds after which what is not faster is dropped."""
_PASSES = 3
"""In a round, of which the least counts: what else the machine does only ever adds time."""
_LEAST = 0.02
"""Of the whole pipeline's time that a rewrite must save to be worth the words."""
_EACH_S = 0.5
"""Seconds that a trial aims at; what is slower has fewer samples."""


class Trial(msgspec.Struct, frozen=True):
    """A rewrite that is faster.

    Attributes:
        kind, step, text: of the rewrite.
        ratio: its time over that of the steps it replaces; the interval holds for all trials of the pipeline at once.
        saved: share of the pipeline's wall time.
        floors: how far results are apart at most, in noise floors; 0 bit by bit; None where they are not the same.
        differs: sample and step where they are not; empty where they are.
        compared: samples of the user's, and made-up ones.
    """

    kind: Kind
    step: str
    text: str
    ratio: Quantile
    saved: float
    floors: float | None
    differs: str
    compared: tuple[int, int]


def trials(recording: Recording, shares: Sequence[float], *, max_s: float = 20.0) -> tuple[list[Trial], int]:
    """Try what may be faster; of several places for a step the one that saves most.

    Args:
        recording: of the pipeline; no step may be unsteady.
        shares: of the pipeline's wall time, one a step.
        max_s: no trial begins after so many seconds.
    Returns:
        trials that are faster, most saved first; how many rewrites were left untried.
    """
    began = time.perf_counter()
    waiting = list(rewrites(recording))
    confidence = 1 - (1 - CONFIDENCE) / max(1, len(waiting))
    best: dict[tuple[Kind, str, bool], Trial] = {}
    tried = 0
    for rewrite in waiting:
        if time.perf_counter() - began > max_s:
            break
        tried += 1
        trial = _tried(recording, rewrite, confidence, sum(shares[rewrite.start : rewrite.stop]))
        if trial is not None:
            key = (trial.kind, trial.step, bool(trial.differs))
            best[key] = max(trial, best.get(key, trial), key=lambda one: one.saved)
    return sorted(best.values(), key=lambda one: -one.saved), len(waiting) - tried


def _tried(recording: Recording, rewrite: Rewrite, confidence: float, share: float) -> Trial | None:
    try:
        ratio = _measured(recording, rewrite, confidence)
        if ratio is None or (1 - ratio.value) * share < _LEAST:
            return None
        floors, differs = compared(recording, rewrite)
    except Unsupported:  # steps were run on what they were not written for: it is no way to run them
        return None
    counts = (recording.samples, len(recording.given[0]) - recording.samples)
    saved = (1 - ratio.value) * share
    return Trial(rewrite.kind, rewrite.step, rewrite.text, ratio, saved, floors, differs, counts)


def _measured(recording: Recording, rewrite: Rewrite, confidence: float) -> Quantile | None:
    """New over old time; None where it is not faster beyond the interval."""
    given = recording.given[rewrite.start][: recording.samples]
    runs = (as_it_is(recording, rewrite), rewrite.run)
    once_s = sum(_pair(runs, given, 0)) / len(given)
    values = given[: fitting(once_s * ROUNDS * _PASSES, _EACH_S, len(given), least=min(2, len(given)))]
    pairs = [_pair(runs, values, i) for i in range(_SCREENED)]
    if statistics.median(new / old for old, new in pairs) >= 1:
        return None
    pairs += [_pair(runs, values, i) for i in range(_SCREENED, ROUNDS)]
    ratio = quantile([new / old for old, new in pairs], 0.5, confidence=confidence)
    return None if ratio.high is None or ratio.high >= 1 else ratio


def _pair(runs: Sequence[Callable[[list[Any]], list[Any]]], values: Sequence[Any], number: int) -> tuple[float, float]:
    """Seconds of both on copies, the least of three passes; who comes first changes."""
    taken = [math.inf, math.inf]
    for side in ((0, 1) if number % 2 == 0 else (1, 0)) * _PASSES:
        given = copy.deepcopy(list(values))
        began = time.perf_counter()
        _ran(runs[side], given)
        taken[side] = min(taken[side], max(time.perf_counter() - began, 1e-9))
    return taken[0], taken[1]


def _ran(run: Callable[[Any], Any], value: Any) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of steps on what they were not written for
            return run(value)
    except Exception as error:  # the user's code may raise anything
        raise Unsupported(f"{type(error).__name__}: {error}") from error


def compared(recording: Recording, rewrite: Rewrite) -> tuple[float | None, str]:
    """How far results of the whole pipeline are apart with a rewrite and without it.

    Random numbers are seeded alike for each sample where the rewrite begins.

    Args:
        recording: of the pipeline as it is.
        rewrite: of a part of it.
    Returns:
        noise floors, 0 for equal bits, and an empty text; or None, and the first sample that is not the same.
    Raises:
        Unsupported: steps fail on what they were not written for.
    """
    given = recording.given[rewrite.start]
    if rewrite.kind in ("batch", "cache"):
        made = _ran(rewrite.run, copy.deepcopy(list(given)))
        if len(made) != len(given):
            return None, f"differs at sample 0 by step {rewrite.place}"
        theirs = [_seeded(lambda value: value, recording, value, rewrite, i) for i, value in enumerate(made)]
    else:
        one = rewrite.run
        theirs = [_seeded(lambda value: one([value])[0], recording, value, rewrite, i) for i, value in enumerate(given)]
    run = as_it_is(recording, rewrite)
    ours = [_seeded(lambda value: run([value])[0], recording, value, rewrite, i) for i, value in enumerate(given)]
    largest = 0.0
    for i, (one_way, other_way) in enumerate(zip(ours, theirs, strict=True)):
        floors = apart(one_way, other_way)
        if floors is None:
            made_up = "" if i < recording.samples else ", which is made up,"
            return None, f"differs at sample {i}{made_up} by step {rewrite.place}"
        largest = max(largest, floors)
    return largest, ""


def _seeded(run: Callable[[Any], Any], recording: Recording, value: Any, rewrite: Rewrite, seed: int) -> Any:
    """What the whole pipeline makes of a value that is given to the rewrite, or to the steps in its place."""
    with all_seeded(seed):
        return _ran(lambda given: recording.finished(run(given), rewrite.stop), copy.deepcopy(value))
