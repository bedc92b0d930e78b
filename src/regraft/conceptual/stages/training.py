"""Some steps of the whole training loop, from the same weights, against the reference's own runs from moved weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from regraft.compare.jitter import jittered_feeds
from regraft.compare.judge import Judgement
from regraft.conceptual.stages.exact import PRECISION, Exact, Judged, judged
from regraft.conceptual.stages.interface import HABITS, Divergence, StageResult, Status, Trained
from regraft.conceptual.stages.pairs import Paired
from regraft.errors import Unsupported

if TYPE_CHECKING:
    from regraft.conceptual.stages.interface import Array, Arrays, Side, WeightMap

_STEPS = 6
_RUNS = 4
_UNIT = 2.0**-23
_LOSS = "loss"
_REPRODUCES = 1e-6
"""Relative difference of weights up to which a habit makes the candidate's; both are in float64."""


class TrainingStage:
    """Rounding grows from step to step: a step is judged by how far the reference's own runs are apart there."""

    name = "training"
    needs = frozenset({"model", "loss", "batches"})

    def compare(self, reference: Side, candidate: Side, weights: WeightMap, *, seed: int) -> StageResult:
        """As `Stage.compare`."""
        for side in (reference, candidate):
            if not side.parts & {"optimiser", "train_step"}:
                raise Unsupported("there is no optimiser", where=side.where, hint="return `optimiser` or `train_step`")
        paired = Paired(reference, candidate, weights)
        start, batches = reference.weights(), _batches(reference)
        exact = _runs(reference, start, batches, seed)
        run = _Theirs(paired, start, batches)
        theirs = run.steps(PRECISION)
        if bad := _not_finite(exact, reference.where):
            return StageResult(self.name, Status.UNDECIDED, reason=bad)
        measured = {"steps": float(len(batches))}
        for step, (one, answer) in enumerate(zip(exact, theirs, strict=True)):
            every = _judged(one, answer)
            measured["ratio"] = max(found.ratio.rms for found in every.values())
            wrong = {name: found for name, found in every.items() if found.judgement is not Judgement.WITHIN}
            if wrong:
                divergence = _divergence(step, wrong, _cause(run, reference, step, list(wrong)))
                is_beyond = divergence.judgement is Judgement.BEYOND
                status = Status.DIVERGES if is_beyond else Status.UNDECIDED
                reason = _random(reference, candidate)
                if reason:
                    status = Status.UNDECIDED
                return StageResult(self.name, status, (divergence,), reason, (), measured)
        reason = f"loss and weights of {len(batches)} steps, against {_RUNS} runs from weights moved by one unit"
        return StageResult(self.name, Status.AGREES, reason=reason, measured=measured)


class _Theirs:
    """The candidate's run, by the reference's names.

    Args:
        paired: both sides.
        start: weights of the reference before the first step.
        batches: of the reference.
    """

    def __init__(self, paired: Paired, start: Arrays, batches: Sequence[Arrays]) -> None:
        self.paired, self.start, self.batches = paired, start, batches

    def steps(self, dtype: str) -> list[Trained]:
        """Loss and weights of each step."""
        fed = [self.paired.fed(batch) for batch in self.batches]
        run = self.paired.candidate.train(self.paired.weights(self.start), fed, dtype=dtype)
        return [Trained(one.loss, self.paired.back(one.weights)) for one in run]


def _batches(reference: Side) -> list[Arrays]:
    if not reference.batches:
        raise Unsupported("there is no batch", where=reference.where, hint="let the factory return `batches`")
    return [reference.batches[i % len(reference.batches)] for i in range(_STEPS)]


def _runs(reference: Side, start: Arrays, batches: Sequence[Arrays], seed: int) -> list[Exact]:
    """What each step is judged by: a float64 run where there is one, and float32 runs from moved weights."""
    plain = reference.train(start, batches, dtype=PRECISION)
    moved = [
        reference.train(jittered_feeds(start, seed=seed + i, unit=_UNIT), batches, dtype=PRECISION)
        for i in range(_RUNS)
    ]
    method = "float64"
    try:
        wide = reference.train(start, batches, dtype="float64")
    except Unsupported:
        wide, method = plain, "jitter"
    return [
        Exact(_named(wide[i]), tuple(_named(run[i]) for run in (plain, *moved)), method) for i in range(len(batches))
    ]


def _named(one: Trained) -> dict[str, Array]:
    import numpy as np

    return {_LOSS: np.array([one.loss]), **one.weights}


def _not_finite(exact: Sequence[Exact], where: str) -> str:
    import numpy as np

    for step, one in enumerate(exact):
        if not np.isfinite(one.values[_LOSS]).all():
            return f"{where}: the loss of step {step} is not a finite number, so what follows says nothing"
    return ""


def _judged(exact: Exact, theirs: Trained) -> dict[str, Judged]:
    """Loss and every weight after one step; a weight that hardly moved is judged by what it is in the network."""
    answer = _named(theirs)
    return {name: judged(name, [answer[name]], [exact]) for name in exact.values if name in answer}


def _random(reference: Side, candidate: Side) -> str:
    random = [side.where for side in (reference, candidate) if side.is_random()]
    return f"{' and '.join(random)} draws random numbers: turn dropout off" if random else ""


class _Cause(NamedTuple):
    place: str
    cause: str
    detail: str


def _cause(run: _Theirs, reference: Side, step: int, wrong: Sequence[str]) -> _Cause:
    trained = reference.trainable()
    remembered = [name for name in wrong if name not in trained and name != _LOSS]
    if remembered and len(remembered) == len(wrong):
        return next(_statistics(run, remembered), _Cause(remembered[0], "running statistics", ""))
    try:
        theirs = run.steps("float64")
    except Unsupported:
        return _Cause("", "", "")
    for habit, words in HABITS.items():
        try:
            tried = reference.train(run.start, run.batches, dtype="float64", habit=habit)
        except Unsupported:
            continue
        if _is_same(tried, theirs):
            return _Cause(f"step {step}", habit, f"in the candidate {words}")
    return _Cause("", "", "")


def _is_same(tried: Sequence[Trained], theirs: Sequence[Trained]) -> bool:
    from regraft.conceptual.stages.exact import closeness

    for one, other in zip(tried, theirs, strict=True):
        names = [name for name in one.weights if name in other.weights]
        if closeness([other.weights[name] for name in names], [one.weights[name] for name in names]) > _REPRODUCES:
            return False
    return True


def _statistics(run: _Theirs, wrong: Sequence[str]) -> Iterator[_Cause]:
    """Running statistics that move by another part, or by a variance with another divisor."""
    import numpy as np

    theirs = _named(run.steps(PRECISION)[0])
    name = wrong[0]
    before = run.start[name].astype(np.float64)
    ours = _named(run.paired.reference.train(run.start, run.batches[:1], dtype=PRECISION)[0])
    moves = [value[name].astype(np.float64) - before for value in (ours, theirs)]
    below = float(np.square(moves[0]).sum())
    factor = float((moves[0] * moves[1]).sum()) / below if below else 0.0
    if factor and np.abs(moves[1] - factor * moves[0]).max() <= 1e-4 * np.abs(moves[1]).max():
        detail = f"they move {factor:.4g} times as far in a step as in the reference: another momentum"
        yield _Cause(name, "running statistics", detail)
    elif all("var" in one for one in wrong):
        yield _Cause(name, "running statistics", "the variance is divided by another count: N or N − 1")


def _divergence(step: int, wrong: Mapping[str, Judged], cause: _Cause) -> Divergence:
    worst = max(wrong.values(), key=lambda one: one.ratio.rms)
    names = tuple(name for name in wrong if name != _LOSS)
    is_beyond = any(one.judgement is Judgement.BEYOND for one in wrong.values())
    seen = f"first at step {step}: {worst.ratio.rms:.3g} noise floors in {len(wrong)} of loss and weights"
    return Divergence(
        place=cause.place or f"step {step}",
        cause=cause.cause,
        detail=f"{cause.detail}; {seen}" if cause.detail else seen,
        judgement=Judgement.BEYOND if is_beyond else worst.judgement,
        ratio=worst.ratio.rms,
        floor=worst.ratio.floor,
        first=step,
        names=names,
    )
