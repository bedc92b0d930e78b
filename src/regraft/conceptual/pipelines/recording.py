"""What every step of a pipeline is given, kept, so that a part of the pipeline can be run again in another way."""

from __future__ import annotations

import copy
import random
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.conceptual.stages.declaration import all_seeded
from regraft.conceptual.stages.pipeline import as_arrays, chain, rounding_ratio, within_rounding
from regraft.errors import Unsupported

if TYPE_CHECKING:
    from regraft.conceptual.stages.interface import Array, Step

_MADE_UP = 4
"""Samples of which two more are made."""
_REPEATS = 3
_OTHER_BITS = 1e-9
"""Noise floors between numbers that are equal and not of the same bits: zeros of either sign."""


class Recording(msgspec.Struct, frozen=True):
    """A pipeline on samples, and on some that were made of them.

    Attributes:
        steps: the pipeline.
        given: step → one value a sample; after the last step, what the pipeline returned.
        samples: how many are the user's; those that follow are made up.
        random: positions of steps that draw random numbers.
        unsteady: positions of steps that return something else each time, however they are seeded.
    """

    steps: tuple[Step, ...]
    given: tuple[tuple[Any, ...], ...]
    samples: int
    random: frozenset[int]
    unsteady: frozenset[int]

    def finished(self, value: Any, start: int) -> Any:
        """What the steps from `start` on make of a value."""
        return chain(self.steps[start:]).run(value) if start < len(self.steps) else value


def record(steps: Sequence[Step], samples: Sequence[Any]) -> Recording:
    """Run a pipeline, and keep a copy of what each step is given.

    Args:
        steps: at least one.
        samples: at least one. From arrays more are made, under a ramp that rises or falls along the first axis: an
            order of steps may make no difference on samples whose largest value is everywhere the same.
    Raises:
        Unsupported: a step fails on a sample, or what it returns cannot be copied or compared.
    """
    drawing: set[int] = set()
    rows = [_row(steps, sample, i, drawing) for i, sample in enumerate(samples)]
    for made_up in _made_up(samples[:_MADE_UP]):
        try:
            rows.append(_row(steps, made_up, len(rows), drawing))
        except Unsupported:
            continue  # no such sample exists
    given = tuple(zip(*rows, strict=True))
    unsteady = {k for k in range(len(steps)) if not _is_steady(steps[k], given[k][:_MADE_UP])}
    return Recording(tuple(steps), given, len(samples), frozenset(drawing), frozenset(unsteady))


def _row(steps: Sequence[Step], sample: Any, seed: int, drawing: set[int]) -> list[Any]:
    """What each step is given for one sample, and the result; adds the steps that draw random numbers."""
    row = []
    name = ""
    try:
        value = copy.deepcopy(sample)
        with all_seeded(seed):
            for k, step in enumerate(steps):
                row.append(copy.deepcopy(value))
                name, before = step.name, _random_state()
                value = step.run(value)
                if _random_state() != before:
                    drawing.add(k)
        as_arrays(value)
    except Exception as error:  # the user's code may raise anything
        raise Unsupported(f"the step {name} failed: {type(error).__name__}: {error}") from error
    return [*row, value]


def _random_state() -> tuple[Any, ...]:
    """What the generators of Python, numpy and torch are in; equal where nothing was drawn between two calls."""
    import numpy as np

    keys: Any
    _, keys, *rest = np.random.get_state()
    torch = sys.modules.get("torch")
    drawn = b"" if torch is None else torch.get_rng_state().numpy().tobytes()
    return random.getstate(), keys.tobytes(), tuple(rest), drawn


def _made_up(samples: Sequence[Any]) -> Iterator[Any]:
    import numpy as np

    for sample in samples:
        if isinstance(sample, np.ndarray) and sample.ndim and len(sample) > 1 and sample.dtype.kind in "uif":
            ramp = np.linspace(0.0, 1.0, len(sample)).reshape(-1, *[1] * (sample.ndim - 1))
            yield (sample * ramp).astype(sample.dtype)
            yield (sample * ramp[::-1]).astype(sample.dtype)


def _is_steady(step: Step, given: Sequence[Any]) -> bool:
    """Whether seeds decide what it returns."""
    for value in given:
        made = []
        for _ in range(_REPEATS):
            with all_seeded(0):
                made.append(step.run(copy.deepcopy(value)))
        if any(apart(made[0], other) != 0 for other in made[1:]):
            return False
    return True


def apart(ours: Any, theirs: Any) -> float | None:
    """How far two values are apart: 0 bit by bit equal, in noise floors where rounding explains it, else None.

    Args:
        ours: of the pipeline as it is.
        theirs: of the same kind, with equal names, shapes and dtypes; else None.
    """
    try:
        one, other = as_arrays(ours), as_arrays(theirs)
    except Unsupported:
        return None
    if _kind(ours) != _kind(theirs) or one.keys() != other.keys():
        return None
    found = [_apart(one[name], other[name]) for name in one]
    known = [ratio for ratio in found if ratio is not None]
    return max(known, default=0.0) if len(known) == len(found) else None


def _kind(value: Any) -> str:
    import numpy as np

    return "numbers" if isinstance(value, np.ndarray | np.generic | int | float) else type(value).__name__


def _apart(one: Array, other: Array) -> float | None:
    import numpy as np

    if one.shape != other.shape or one.dtype != other.dtype:
        return None
    if one.tobytes() == other.tobytes():
        return 0.0
    if one.dtype.kind != "f" or not (np.isfinite(one).all() and np.isfinite(other).all()):
        return None
    ratio = rounding_ratio(one, other)
    return max(ratio.rms, _OTHER_BITS) if within_rounding(ratio) else None
