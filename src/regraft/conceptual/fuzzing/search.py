"""The search: every kind of value and every size in turn, then by chance, and from what differs a little in float64."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from regraft.conceptual.fuzzing.checkpoints import Checkpoint
from regraft.conceptual.fuzzing.domain import Domain
from regraft.conceptual.fuzzing.minimise import minimised
from regraft.conceptual.fuzzing.oracle import COUNTS, Answer, Oracle, Outcome
from regraft.conceptual.fuzzing.values import changed, drawn, kinds_of
from regraft.progress import progress

if TYPE_CHECKING:
    import numpy as np

    from regraft.runtime.interface import Feeds

CONFIDENCE = 0.95
_A_SIZE = 3
"""Kinds of values that each size beside the usual one is tried with, in each set of weights."""
_LEAD = 1e-3
"""Fault thresholds, in float64, from which on a difference is worth following: rounded constants make less."""
_FOLLOWED = 0.6
"""Share of inputs that are changed from the best lead, where there is one."""


class Counterexample(msgspec.Struct, frozen=True):
    """Inputs and weights on which the two differ, or the candidate stops.

    Attributes:
        checkpoint: the weights.
        feeds: by the reference's names, as small and simple as they could be made.
        found: the inputs as they were found.
        outcome: what differs on the small ones.
        inputs: how many were tried before.
    """

    checkpoint: Checkpoint
    feeds: dict[str, np.ndarray]
    found: dict[str, np.ndarray]
    outcome: Outcome
    inputs: int


class Refusal(msgspec.Struct, frozen=True):
    """Sizes that the reference takes, and the candidate does not.

    Attributes:
        setting: symbol → size.
        message: what the candidate said.
        is_declared: the signature leaves these sizes open; else only the reference's code does.
    """

    setting: dict[str, int]
    message: str
    is_declared: bool


class Fuzzed(msgspec.Struct, frozen=True):
    """What a search found.

    Attributes:
        counterexample: None where there was none.
        refusals: one a symbol and kind.
        rounding: first inputs on which the candidate alone loses digits: (set of weights, message).
        inputs: that were judged; those that the reference does not take are not counted.
        refused: of them, those on which the candidate stopped.
        rounded: of them, those on which rounding alone explains the difference.
        independent: of those that both answered, drawn by chance, independently of all others.
        skipped: that the reference did not take, or had no finite answer to.
        passes: runs of the pair, neighbours and minimising included.
        checkpoints: sets of weights that were used.
        settings: sizes that were tried.
        seconds: that it took.
        is_exact: both ran in float64 under every set of weights.
        best: largest difference, in fault thresholds, that was no counterexample.
        sample: inputs of the usual sizes, of every kind.
    """

    counterexample: Counterexample | None
    refusals: tuple[Refusal, ...]
    rounding: tuple[str, str] | None
    inputs: int
    refused: int
    rounded: int
    independent: int
    skipped: int
    passes: int
    checkpoints: tuple[str, ...]
    settings: int
    seconds: float
    is_exact: bool
    best: float
    sample: tuple[dict[str, np.ndarray], ...] = ()

    @property
    def bound(self) -> float | None:
        """Share of inputs, drawn as the independent ones, that may disagree at most, at 95 %; None without such.

        Source: the rule of three, 1 − 0.05^(1/n) ≈ 3/n; Hanley and Lippman-Hand, If nothing goes wrong, is everything
            all right? (1983).
        """
        return 1 - (1 - CONFIDENCE) ** (1 / self.independent) if self.independent else None


class Trial(msgspec.Struct, frozen=True):
    """One set of inputs to be tried."""

    checkpoint: Checkpoint
    feeds: dict[str, np.ndarray]
    is_independent: bool = False


class Search:
    """A search for inputs on which two networks differ.

    Args:
        domain: of the reference.
        checkpoints: sets of weights, the reference's own first.
        oracle_of: makes the oracle of a set of weights.
        given: inputs of the user's own, tried first and changed.
        seed: of everything that is drawn.
    """

    def __init__(
        self,
        domain: Domain,
        checkpoints: Sequence[Checkpoint],
        oracle_of: Callable[[Checkpoint], Oracle],
        *,
        given: Sequence[Feeds] = (),
        seed: int = 0,
    ) -> None:
        import numpy as np

        self._domain, self._checkpoints, self._make = domain, list(checkpoints), oracle_of
        self._given = [dict(feeds) for feeds in given]
        self._random = np.random.default_rng(seed)
        self._oracles: dict[str, Oracle] = {}
        self._settings = list(domain.settings())
        self._leads: list[tuple[float, Trial]] = []
        self._refusals: dict[tuple[object, ...], Refusal] = {}
        self._rounding: tuple[str, str] | None = None
        self._inputs = self._refused = self._rounded = self._independent = self._skipped = 0
        self._best = 0.0
        self._seen: set[tuple[int, ...]] = set()
        self._sample: list[dict[str, np.ndarray]] = []

    def run(self, seconds: float, inputs: int | None = None) -> Fuzzed:
        """Try until something differs, or time or the number of inputs is out.

        Args:
            seconds: to search; what is found is made smaller after that.
            inputs: most that are judged: a search that this ends is the same again with the same seed.
        """
        began = time.monotonic()
        found: Counterexample | None = None
        with progress("fuzzing", total=max(1, round(seconds)), unit="s") as told:
            shown = 0
            for trial in self._trials():
                passed = time.monotonic() - began
                told(min(round(seconds), int(passed)) - shown)
                shown = min(round(seconds), int(passed))
                if passed > seconds or (inputs is not None and self._inputs >= inputs):
                    break
                outcome = self._tried(trial)
                if outcome is not None and outcome.answer in COUNTS:
                    found = self._minimised(trial, outcome, max(5.0, seconds / 3))
                    break
        return self._result(found, time.monotonic() - began)

    def _minimised(self, trial: Trial, outcome: Outcome, seconds: float) -> Counterexample:
        at = self._inputs
        small = minimised(
            self._domain, self._checkpoints, trial.checkpoint, trial.feeds, outcome, self._oracle, seconds
        )
        return Counterexample(small.checkpoint, small.feeds, trial.feeds, small.outcome, at)

    def _result(self, found: Counterexample | None, seconds: float) -> Fuzzed:
        return Fuzzed(
            found, tuple(self._refusals.values()), self._rounding, self._inputs, self._refused, self._rounded,
            self._independent, self._skipped,
            sum(oracle.passes for oracle in self._oracles.values()), tuple(self._oracles), len(self._seen), seconds,
            bool(self._oracles) and all(oracle.is_exact for oracle in self._oracles.values()), self._best,
            tuple(self._sample),
        )  # fmt: skip

    def _oracle(self, checkpoint: Checkpoint) -> Oracle:
        if checkpoint.name not in self._oracles:
            self._oracles[checkpoint.name] = self._make(checkpoint)
        return self._oracles[checkpoint.name]

    def _tried(self, trial: Trial) -> Outcome | None:
        """Judge one; None where it says nothing."""
        outcome = self._oracle(trial.checkpoint).judged(trial.feeds)
        setting = self._domain.setting_of(trial.feeds)
        if outcome.answer is Answer.SKIPPED:
            self._skipped += 1
            return None
        self._inputs += 1
        self._seen.add(tuple(setting.values()))
        if outcome.answer is Answer.REFUSED:
            self._refused += 1
            return None if self._is_of_sizes(setting, outcome.message) else outcome
        self._independent += trial.is_independent
        self._rounded += outcome.answer is Answer.ROUNDING
        if outcome.answer is Answer.ROUNDING and self._rounding is None:
            self._rounding = (trial.checkpoint.told, outcome.message)
        if outcome.answer in (Answer.SAME, Answer.ROUNDING):
            self._note_lead(outcome.severity, trial)
        return outcome

    def _is_of_sizes(self, setting: Mapping[str, int], message: str) -> bool:
        """Is it other sizes that the candidate stops at? That is noted; at the usual ones it stops at the values."""
        other = {symbol: size for symbol, size in setting.items() if size != self._domain.usual[symbol]}
        if not other:
            return False
        is_declared = self._domain.freed.isdisjoint(other) and 0 not in other.values()
        self._refusals.setdefault((tuple(other), is_declared), Refusal(other, message, is_declared))
        return True

    def _note_lead(self, severity: float, trial: Trial) -> None:
        self._best = max(self._best, severity)
        if severity > _LEAD:
            self._leads = sorted([*self._leads, (severity, trial)], key=lambda lead: -lead[0])[:4]

    def _trials(self) -> Iterator[Trial]:
        for feeds in self._given:
            yield Trial(self._checkpoints[0], feeds)
        yield from self._planned()
        while True:
            if self._leads and self._random.random() < _FOLLOWED:
                _, lead = self._leads[int(self._random.integers(len(self._leads)))]
                yield Trial(lead.checkpoint, changed(lead.feeds, self._domain, self._random))
            else:
                yield self._by_chance()

    def _planned(self) -> Iterator[Trial]:
        """Every kind of value in the usual sizes, and between these every other size; under each set of weights."""
        usual, *others = self._settings
        most = max(len(kinds_of(port, self._domain)) for port in self._domain.ports)
        per_kind = max(1, -(-len(others) // most))
        for turn in range(most):
            for checkpoint in self._checkpoints:
                feeds = drawn(self._domain, usual, self._kinds(turn), self._random)
                if checkpoint is self._checkpoints[0]:
                    self._sample.append(feeds)
                yield Trial(checkpoint, feeds)
            for setting in others[turn * per_kind : (turn + 1) * per_kind]:
                for checkpoint in self._checkpoints[:2]:
                    for _ in range(_A_SIZE):
                        yield Trial(checkpoint, drawn(self._domain, setting, self._some_kinds(), self._random))

    def _by_chance(self) -> Trial:
        """Drawn independently of everything before; the usual sizes come as often as all others."""
        random = self._random
        checkpoint = self._checkpoints[int(random.integers(len(self._checkpoints)))]
        is_usual = len(self._settings) == 1 or random.random() < 0.5
        setting = self._settings[0 if is_usual else int(random.integers(1, len(self._settings)))]
        return Trial(checkpoint, drawn(self._domain, setting, self._some_kinds(), random), True)

    def _kinds(self, turn: int) -> dict[str, str]:
        """The same turn of every input's kinds, each shifted so that they meet in other pairs."""
        found = {}
        for place, port in enumerate(self._domain.ports):
            kinds = kinds_of(port, self._domain)
            found[port.name] = kinds[(turn + place * (turn // len(kinds))) % len(kinds)]
        return found

    def _some_kinds(self) -> dict[str, str]:
        all_kinds = {port.name: kinds_of(port, self._domain) for port in self._domain.ports}
        return {name: kinds[int(self._random.integers(len(kinds)))] for name, kinds in all_kinds.items()}
