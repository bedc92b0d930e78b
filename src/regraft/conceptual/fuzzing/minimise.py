"""A counterexample made small: own weights if these do, fewest rows, smallest sizes, most zeros, plain numbers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from regraft.conceptual.fuzzing.checkpoints import Checkpoint
from regraft.conceptual.fuzzing.domain import Domain, is_mask
from regraft.conceptual.fuzzing.oracle import Answer, Oracle, Outcome

if TYPE_CHECKING:
    import numpy as np

    from regraft.package.formats import Port

MOST_TRIALS = 200


class Small(msgspec.Struct, frozen=True):
    """What still differs."""

    checkpoint: Checkpoint
    feeds: dict[str, np.ndarray]
    outcome: Outcome


def minimised(
    domain: Domain,
    checkpoints: Sequence[Checkpoint],
    checkpoint: Checkpoint,
    feeds: Mapping[str, np.ndarray],
    outcome: Outcome,
    oracle_of: Callable[[Checkpoint], Oracle],
    seconds: float,
) -> Small:
    """Take away what is not needed for the disagreement.

    Args:
        domain: of the reference.
        checkpoints: sets of weights, the simplest first.
        checkpoint, feeds, outcome: what was found.
        oracle_of: the oracle of a set of weights.
        seconds: most that it may take.
    """
    return _Minimiser(domain, oracle_of, time.monotonic() + seconds).run(
        Small(checkpoint, dict(feeds), outcome), checkpoints
    )


class _Minimiser:
    def __init__(self, domain: Domain, oracle_of: Callable[[Checkpoint], Oracle], deadline: float) -> None:
        self._domain, self._oracle_of, self._deadline = domain, oracle_of, deadline
        self._left = MOST_TRIALS

    def run(self, best: Small, checkpoints: Sequence[Checkpoint]) -> Small:
        for simpler in checkpoints:
            if simpler.name == best.checkpoint.name:
                break
            found = self._tried(best, best.feeds, simpler)
            if found is not None:
                best = found
                break
        steps: tuple[Callable[[Small], Small], ...] = (self._plainer, self._emptier, self._plainer)
        if best.outcome.answer is Answer.DIFFERS:
            steps = (self._fewer, *steps)  # where the candidate stops, other sizes are another matter
        for simplify in steps:
            best = simplify(best)
        return best

    def _is_out(self) -> bool:
        return self._left <= 0 or time.monotonic() > self._deadline

    def _tried(self, best: Small, feeds: dict[str, np.ndarray], checkpoint: Checkpoint | None = None) -> Small | None:
        """These inputs, where they show the same as the best so far."""
        if self._is_out():
            return None
        self._left -= 1
        checkpoint = checkpoint or best.checkpoint
        outcome = self._oracle_of(checkpoint).judged(feeds)
        return Small(checkpoint, feeds, outcome) if outcome.answer is best.outcome.answer else None

    def _first(self, best: Small, made: Iterator[dict[str, np.ndarray]]) -> Small | None:
        while not self._is_out() and (feeds := next(made, None)) is not None:
            if (found := self._tried(best, feeds)) is not None:
                return found
        return None

    def _fewer(self, best: Small) -> Small:
        """Each symbol as small as it can be: one place of it, then a half, then one less, again and again."""
        for symbol in self._domain.usual:
            while True:
                smaller = self._first(best, self._cut(best.feeds, symbol))
                if smaller is None:
                    break
                best = smaller
        return best

    def _cut(self, feeds: Mapping[str, np.ndarray], symbol: str) -> Iterator[dict[str, np.ndarray]]:
        size = self._domain.setting_of(feeds)[symbol]
        if size < 2:
            return
        starts = range(size) if size <= 4 else (0, size // 2, size - 1)
        parts = [(start, start + 1) for start in starts]
        parts += [(0, size // 2), (size - size // 2, size), (0, size - 1)] if size > 2 else []
        for start, stop in dict.fromkeys(parts):
            yield {port.name: self._sliced(port, feeds[port.name], symbol, start, stop) for port in self._domain.ports}

    def _sliced(self, port: Port, value: np.ndarray, symbol: str, start: int, stop: int) -> np.ndarray:
        places = tuple(slice(start, stop) if e == symbol else slice(None) for e in port.shape or ())
        return value[places]

    def _emptier(self, best: Small) -> Small:
        """As many elements as can be at the plainest value: by halves, quarters, and so on (delta debugging).

        Source: Zeller and Hildebrandt, Simplifying and isolating failure-inducing input (2002).
        """
        for port in self._domain.ports:
            count = 1
            size = best.feeds[port.name].size
            while 0 < count <= size:
                for part in range(count):
                    if self._is_out():
                        return best
                    found = self._tried_plain(best, port, part * size // count, (part + 1) * size // count)
                    best = found or best
                count = min(2 * count, size) if count < size else size + 1
        return best

    def _tried_plain(self, best: Small, port: Port, start: int, stop: int) -> Small | None:
        value = best.feeds[port.name].copy()
        flat = value.reshape(-1)
        plain = 1 if is_mask(port, self._domain.ranges) else self._domain.ranges.get(port.name, (0, 0))[0]
        if (flat[start:stop] == plain).all():
            return None
        flat[start:stop] = plain
        return self._tried(best, {**best.feeds, port.name: value})

    def _plainer(self, best: Small) -> Small:
        """Real numbers as one number, as powers of ten, with one digit: the first of these that still differs."""
        for port in self._domain.ports:
            if "float" in port.dtype and best.feeds[port.name].size:
                feeds = best.feeds
                made = ({**feeds, port.name: value} for value in _plainer(feeds[port.name]))
                best = self._first(best, made) or best
        return best


def _plainer(value: np.ndarray) -> Iterator[np.ndarray]:
    import numpy as np

    size = np.abs(value.astype(np.float64))
    exponent = 10.0 ** np.floor(np.log10(np.where(size > 0, size, 1.0)))
    one = float(10.0 ** np.round(np.log10(size[size > 0])).mean().round()) if size.any() else 0.0
    made = (
        np.where(value != 0, 1.0, 0.0), np.where(value != 0, one, 0.0), np.sign(value) * one,
        np.sign(value) * np.where(size > 0, exponent, 0.0), np.round(value / exponent) * exponent,
    )  # fmt: skip
    for candidate in made:
        typed = candidate.astype(value.dtype)
        if not np.array_equal(typed, value):
            yield typed
