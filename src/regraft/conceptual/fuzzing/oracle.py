"""The reference as oracle: do both networks say the same to these inputs, under these weights?

Both run in float64, too. A disagreement counts where float32 rounding of the *reference* does not explain it and the
candidate has it in float64 as well: then it is another function, not another order of sums. What differs in float64
guides the search long before it shows in float32.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from regraft.compare.deviation import Deviation, deviation
from regraft.compare.exact import exact_model
from regraft.compare.judge import Judgement, Threshold, threshold
from regraft.compare.measure import Yardstick
from regraft.compare.noise import Ratio, least_floor, ratios, unit_roundoff
from regraft.conceptual.fuzzing.domain import REFUSALS
from regraft.errors import Unsupported
from regraft.runtime.feeding import feeds_for

if TYPE_CHECKING:
    import numpy as np

    from regraft.runtime.interface import Array, Feeds, Model

PRECISION = "float32"
_POOL = 64
"""Inputs whose floors stand for all: on some a reference is exact by chance."""
_KEPT = 8
"""Shapes whose float64 twin is kept: some are exported for one shape."""
_NEIGHBOURS = 2
_NEAR = 2.0**-18
"""By how much of itself each number of a neighbour differs: at a tie, or where all cancels, neighbours agree again."""
_LEAST = 2.0**-43
"""Of the largest input, or of 1: errors of float64 itself are up to a thousand times its unit roundoff."""
_OTHER = 0.5
"""Share of the error in float64 by which that in float32 may be another."""
USUAL = 1e4
"""Magnitude up to which a candidate must be finite where the reference is, as `verify` demands."""


class Answer(StrEnum):
    """What comes of one set of inputs."""

    SAME = "same"
    DIFFERS = "differs"
    ROUNDING = "rounding"
    """Beyond the floor in float32 alone: the candidate loses digits that the reference keeps."""
    REFUSED = "refused"
    """The reference runs, and the candidate stops."""
    SKIPPED = "skipped"
    """The reference does not run, or answers with infinities or NaN in float64."""


COUNTS = (Answer.DIFFERS, Answer.REFUSED)
"""What a counterexample says; to stop counts at the usual sizes alone, and where it was kept as one."""


class Kind(StrEnum):
    """What a difference is of; the later ones say more."""

    INTEGERS = "integers"
    """Others, as of an argmax: a tie makes these, too."""
    NUMBERS = "numbers"
    NOT_FINITE = "not finite"


class Outcome(msgspec.Struct, frozen=True):
    """What one set of inputs says.

    Attributes:
        answer: in a word.
        severity: of the difference in float64 (float32 without that), in fault thresholds; beyond 1 it differs.
        output: where it is largest.
        message: what differs, or why the candidate stopped.
        kind: of the difference.
    """

    answer: Answer
    severity: float = 0.0
    output: str = ""
    message: str = ""
    kind: Kind = Kind.NUMBERS


class Twin:
    """A model in float64.

    Args:
        model: to be cast.
        feeds: by its own names, to see that float64 is kept.
    Raises:
        Unsupported: it is not kept.
    """

    def __init__(self, model: Model, feeds: Feeds) -> None:
        self._model = model
        self._made = exact_model(model, feeds)
        self._others: dict[object, Model] = {}

    def __call__(self, feeds: Feeds) -> dict[str, Array]:
        """By the twin that was made first, where it takes this shape; else by one of its own: some are exported."""
        key = _key(feeds)
        with contextlib.suppress(*REFUSALS):
            if key not in self._others:
                return self._made(feeds_for(self._made, feeds))
        if key not in self._others:
            while len(self._others) >= _KEPT:
                del self._others[next(iter(self._others))]
            self._others[key] = exact_model(self._model, feeds)
        return self._others[key](feeds_for(self._others[key], feeds))


class Oracle:
    """Both networks under one set of weights.

    Args:
        reference, candidate: with these weights.
        feeds: that both take, by the reference's names.
        inputs: reference's input → candidate's.
        outputs: reference's output → candidate's.
        seed: of jitter and neighbours.
        beside: makes the oracle of the same two with weights that are moved a little, by a seed; None where both
            keep the weights that they have.
    Raises:
        Unsupported: the reference has neither float64 nor jitter, or its floors are not calibrated.
    """

    def __init__(
        self,
        reference: Model,
        candidate: Model,
        feeds: Feeds,
        *,
        inputs: Mapping[str, str],
        outputs: Mapping[str, str],
        seed: int = 0,
        beside: Callable[[int], Oracle] | None = None,
    ) -> None:
        self._reference, self._candidate = reference, candidate
        self._beside = beside
        self._near: list[Oracle] = []
        self._inputs, self._outputs, self._seed = inputs, outputs, seed
        self._exact: Twin | None = None
        self._wide: Twin | None = None
        self._jitter: Yardstick | None = None
        try:
            self._exact = Twin(reference, feeds)
            with contextlib.suppress(*REFUSALS):
                self._wide = Twin(candidate, self._fed(feeds))
        except Unsupported:
            self._jitter = Yardstick(reference, feeds, method="jitter", seed=seed)
        self._limits: Threshold = threshold("jitter" if self._jitter else "float64", PRECISION)
        self._pool: dict[str, list[Deviation]] = {}
        self.passes = 0

    @property
    def is_exact(self) -> bool:
        """Both run in float64."""
        return self._wide is not None

    def judged(self, feeds: Feeds) -> Outcome:
        """Run both; a difference is confirmed on neighbours: of the inputs, of integers under moved weights, too."""
        found = self._once(feeds)
        if found.answer is not Answer.DIFFERS:
            return found
        is_choice = found.kind is Kind.INTEGERS
        neighbours = self._neighbours(feeds, with_zeros=is_choice)
        oracles = self._with_moved_weights() if is_choice else []
        if is_choice and not neighbours and not oracles:
            told = f"{found.message}, and neither inputs nor weights could be moved: it may be a tie"
            return msgspec.structs.replace(found, answer=Answer.ROUNDING, severity=0.0, message=told)
        for i in range(_NEIGHBOURS):
            oracle = oracles[i] if oracles else self
            other = oracle._once(neighbours[i] if neighbours else feeds)
            if other.answer is not Answer.DIFFERS:
                return Outcome(Answer.SAME, 0.0, found.output, "its neighbours agree")
        return found

    def _with_moved_weights(self) -> list[Oracle]:
        """Oracles of the same two a little beside their weights, where a tie of these is none; nothing if that fails.

        An argmax over a head of zeros, or over tokens alone, is a tie whatever becomes of the inputs.
        """
        if self._beside is not None and not self._near:
            with contextlib.suppress(*REFUSALS):
                self._near = [self._beside(self._seed + i) for i in range(_NEIGHBOURS)]
        return self._near

    def _once(self, feeds: Feeds) -> Outcome:
        self.passes += 1
        try:
            truth, own, unstable = self._right(feeds)
        except REFUSALS:
            return Outcome(Answer.SKIPPED)
        try:
            given = self._fed(feeds)
            theirs = self._candidate(feeds_for(self._candidate, given))
        except REFUSALS as error:
            return Outcome(Answer.REFUSED, math.inf, message=f"the candidate stops: {error.what}")
        try:
            wide = theirs if self._wide is None else self._wide(given)
        except REFUSALS:
            return Outcome(Answer.SKIPPED)  # its float64 twin alone stops here: some are exported for one shape
        least = _LEAST * max([1.0, *(float(abs(v).max(initial=0.0)) for v in feeds.values() if v.dtype.kind == "f")])
        found = [self._compared(name, truth[name], own[name], theirs[other], wide[other], unstable.get(name), least)
                 for name, other in self._outputs.items() if name in truth]  # fmt: skip
        return self._weighed(max(found, key=_rank, default=Outcome(Answer.SKIPPED)), is_usual=_is_usual(feeds))

    def _weighed(self, worst: Outcome, *, is_usual: bool) -> Outcome:
        """What the largest difference is worth on inputs of this magnitude."""
        if worst.answer is Answer.ROUNDING:
            if worst.kind is Kind.NOT_FINITE and is_usual:
                return msgspec.structs.replace(worst, answer=Answer.DIFFERS, severity=math.inf)
            told = f"{worst.message}, in float32 alone: the candidate loses digits that the reference keeps"
            return msgspec.structs.replace(worst, message=told)
        has_shape = worst.kind is Kind.NUMBERS and math.isinf(worst.severity)
        if worst.answer is Answer.DIFFERS and self._wide is None and not is_usual and not has_shape:
            told = f"{worst.message}, on inputs above {USUAL:g}, and without float64 that may be rounding"
            return msgspec.structs.replace(worst, answer=Answer.ROUNDING, severity=0.0, message=told)
        return worst

    def _right(self, feeds: Feeds) -> tuple[dict[str, Array], dict[str, Deviation], dict[str, Array]]:
        """The reference's exact answer, the error of its float32 run, and where that run is not to be trusted."""
        import numpy as np

        if self._exact is None:
            assert self._jitter is not None
            (answer,) = self._jitter.answers([feeds])
            return answer.truth, answer.own[PRECISION], answer.unstable
        said = self._reference(feeds_for(self._reference, feeds))
        truth = self._exact(feeds)
        if all(value.dtype.kind == "f" and value.size and not np.isfinite(value).any() for value in truth.values()):
            raise Unsupported("the reference has no finite answer", where=self._reference.where)
        own = {name: deviation(said[name], value) for name, value in truth.items()}
        unstable: dict[str, Array] = {
            name: np.isfinite(said[name]) != np.isfinite(value) if value.dtype.kind == "f" else said[name] != value
            for name, value in truth.items()
        }
        return truth, own, unstable

    def _fed(self, feeds: Feeds) -> dict[str, Array]:
        return {self._inputs[name]: value for name, value in feeds.items() if name in self._inputs}

    def _compared(
        self,
        name: str,
        truth: Array,
        own: Deviation,
        theirs: Array,
        wide: Array,
        unstable: Array | None,
        least: float,
    ) -> Outcome:
        if theirs.shape != truth.shape:
            shapes = f"output {name} has the shape {theirs.shape}, the reference's has {truth.shape}"
            return Outcome(Answer.DIFFERS, math.inf, name, shapes)
        if not truth.size:
            return Outcome(Answer.SAME, 0.0, name)
        pool = self._pool.setdefault(name, [])
        if len(pool) < _POOL:
            pool.append(own)
        plain, exact = (self._against(name, value, truth, own, unstable) for value in (theirs, wide))
        if plain.severity > 1 and math.isinf(exact.severity):
            return exact
        if plain.severity > 1 and exact.severity > 1 and _is_one_error(theirs, wide, truth, least):
            return msgspec.structs.replace(plain, severity=exact.severity)
        if plain.severity > 1:
            return msgspec.structs.replace(plain, answer=Answer.ROUNDING, severity=exact.severity)
        return Outcome(Answer.SAME, exact.severity, name)

    def _against(self, name: str, value: Array, truth: Array, own: Deviation, unstable: Array | None) -> Outcome:
        """One answer of the candidate against the truth, in floors of the reference."""
        import numpy as np

        error = deviation(value, truth)
        excused = int(np.sum(unstable)) if unstable is not None else 0
        if error.flips > excused:
            return Outcome(
                Answer.DIFFERS, math.inf, name, f"{error.flips} integers of output {name} are others", Kind.INTEGERS
            )
        if error.incomparable > excused:
            told = f"{error.incomparable} numbers of output {name} are finite in one of the two only"
            return Outcome(Answer.DIFFERS, math.inf, name, told, Kind.NOT_FINITE)
        if truth.dtype.kind != "f":
            return Outcome(Answer.SAME, 0.0, name)
        ratio = self._ratio(name, error, own)
        severity = self._limits.severity(ratio)
        is_beyond = self._limits.judgement(ratio) is Judgement.BEYOND
        told = f"output {name} is {ratio.rms:.3g} noise floors off (RMS), {ratio.peak:.3g} at the peak"
        return Outcome(Answer.DIFFERS if is_beyond else Answer.SAME, severity, name, told)

    def _ratio(self, name: str, error: Deviation, own: Deviation) -> Ratio:
        pool = [*self._pool[name], own]
        silent = [msgspec.structs.replace(one, rms=0.0, peaks=(0.0,) * len(one.peaks)) for one in pool[:-1]]
        smallest = least_floor(pool, PRECISION)
        return ratios([*silent, error], pool, unit=unit_roundoff(PRECISION), smallest=smallest)[-1]

    def _neighbours(self, feeds: Feeds, *, with_zeros: bool) -> list[dict[str, Array]]:
        """The same with each real number moved by a few units in its last place; nothing, where there are none.

        Zeros move only if wanted: a network may well be wrong on zeros alone, which stand for padding and silence.
        """
        import numpy as np

        if not any(value.dtype.kind == "f" and (value.size if with_zeros else value.any()) for value in feeds.values()):
            return []
        random = np.random.default_rng(self._seed)

        def near(value: np.ndarray) -> Array:
            return moved(value, random, with_zeros=with_zeros) if value.dtype.kind == "f" else value

        return [{name: near(value) for name, value in feeds.items()} for _ in range(_NEIGHBOURS)]


def moved(value: np.ndarray, random: np.random.Generator, *, with_zeros: bool) -> Array:
    """Real numbers beside others, by a few units in the last place; zeros upwards, so that no variance is below zero.

    Args:
        value: any shape; floating.
        random: decides by how much.
        with_zeros: also what is zero, as if it were one.
    """
    import numpy as np

    steps = _NEAR * random.uniform(-1, 1, value.shape)
    beside = np.where(value == 0, np.abs(steps), 0.0) if with_zeros else 0.0
    made: Array = (value * (1 + steps) + beside).astype(value.dtype)
    return made


_ORDER = (Answer.SKIPPED, Answer.SAME, Answer.ROUNDING, Answer.REFUSED, Answer.DIFFERS)
_KINDS = tuple(Kind)


def _rank(one: Outcome) -> tuple[int, int, float]:
    """Integers count least: real numbers that differ are no tie."""
    return _ORDER.index(one.answer), _KINDS.index(one.kind), one.severity


def _is_one_error(theirs: Array, wide: Array, truth: Array, least: float) -> bool:
    """Is the candidate wrong by the same numbers in both precisions, and by more than float64 itself rounds?

    Rounding is another in each; where all digits are lost in both, the numbers are small beside the input.
    """
    error = deviation(wide, truth)
    return error.peak > least and deviation(theirs, wide).rms <= _OTHER * error.rms


def _key(feeds: Feeds) -> tuple[object, ...]:
    return tuple((name, value.shape) for name, value in sorted(feeds.items()))


def _is_usual(feeds: Feeds) -> bool:
    return all(not value.size or abs(value).max() <= USUAL for value in feeds.values() if value.dtype.kind == "f")
