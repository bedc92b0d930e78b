"""Other ways to run a part of a pipeline that may return the same sooner; whether they do is for `trials`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.conceptual.stages.pipeline import as_arrays, chain
from regraft.errors import Unsupported

if TYPE_CHECKING:
    from regraft.conceptual.pipelines.recording import Recording
    from regraft.conceptual.stages.interface import Step

_MOST_STEPS = 12
"""Whose order is tried: moves grow with their square."""


class Kind(StrEnum):
    """What is done to the pipeline."""

    REORDER = "reorder"
    CAST_LATER = "cast later"
    BATCH = "batch"
    CACHE = "cache"


class Rewrite(msgspec.Struct, frozen=True):
    """The steps from `start` to before `stop`, run otherwise.

    Attributes:
        kind: what is done.
        step: that is moved, batched, or the last one that is cached.
        text: in words.
        start, stop: positions of the steps that are replaced.
        run: what step `start` is given, for samples one by one → what step `stop` is given for each.
        place: step at whose end results are compared first.
    """

    kind: Kind
    step: str
    text: str
    start: int
    stop: int
    run: Callable[[list[Any]], list[Any]]
    place: str


def rewrites(recording: Recording) -> Iterator[Rewrite]:
    """All that make sense for a pipeline, not knowing what its steps are; the orders, of which there are most, last."""
    fixed = min(recording.random | recording.unsteady, default=len(recording.steps))
    if fixed:
        yield _cached(recording, fixed)
    for k in range(len(recording.steps)):
        if k not in recording.random | recording.unsteady and _is_stackable(recording.given[k]):
            yield _batched(recording, k)
    yield from _moves(recording)


def _moves(recording: Recording) -> Iterator[Rewrite]:
    steps = recording.steps[:_MOST_STEPS]
    for place in range(len(steps)):
        for target in range(place):
            if not (target == place - 1 and _widens(recording, target)):  # the widening step moves later instead
                yield _moved_earlier(steps, place, target)
        if _widens(recording, place):
            yield from (_moved_later(steps, place, target) for target in range(place + 1, len(steps)))


def _moved_earlier(steps: Sequence[Step], place: int, target: int) -> Rewrite:
    order = [steps[place], *steps[target:place]]
    text = f"{steps[place].name} before {_listed(steps[target:place])}"
    return Rewrite(Kind.REORDER, steps[place].name, text, target, place + 1, _one_by_one(order), order[-1].name)


def _moved_later(steps: Sequence[Step], place: int, target: int) -> Rewrite:
    order = [*steps[place + 1 : target + 1], steps[place]]
    text = f"{steps[place].name}, which widens the numbers, after {_listed(steps[place + 1 : target + 1])}"
    return Rewrite(Kind.CAST_LATER, steps[place].name, text, place, target + 1, _one_by_one(order), order[-1].name)


def _one_by_one(steps: Sequence[Step]) -> Callable[[list[Any]], list[Any]]:
    run = chain(steps).run
    return lambda values: [run(value) for value in values]


def as_it_is(recording: Recording, rewrite: Rewrite) -> Callable[[list[Any]], list[Any]]:
    """The steps that a rewrite replaces."""
    return _one_by_one(recording.steps[rewrite.start : rewrite.stop])


def _batched(recording: Recording, k: int) -> Rewrite:
    step = recording.steps[k]

    def run(values: list[Any]) -> list[Any]:
        return list(step.run(_stacked(values)))

    return Rewrite(Kind.BATCH, step.name, f"{step.name} on stacked samples", k, k + 1, run, step.name)


def _stacked(values: Sequence[Any]) -> Any:
    import numpy as np

    if hasattr(values[0], "detach"):
        import torch

        return torch.stack(list(values))
    return np.stack(values)


def _is_stackable(values: Sequence[Any]) -> bool:
    import numpy as np

    kinds = {(type(one), getattr(one, "shape", None), str(getattr(one, "dtype", ""))) for one in values}
    is_array = isinstance(values[0], np.ndarray | np.generic) or hasattr(values[0], "detach")
    return is_array and len(kinds) == 1 and len(values) > 1


def _cached(recording: Recording, stop: int) -> Rewrite:
    """The steps up to the first that is random; what is kept is copied each time, as a later step may write on it."""
    kept = recording.given[stop]

    def run(values: list[Any]) -> list[Any]:
        return [copy.deepcopy(one) for one in kept[: len(values)]]

    steps = recording.steps[:stop]
    text = f"keep what {_listed(steps)} made ({_size_text(kept[0])} a sample), from the second epoch on"
    return Rewrite(Kind.CACHE, steps[-1].name, text, 0, stop, run, steps[-1].name)


def _size_text(value: Any) -> str:
    return f"{sum(array.nbytes for array in as_arrays(value).values()):,} bytes"


def _widens(recording: Recording, k: int) -> bool:
    """Whether a step keeps the shape and makes every number wider."""
    try:
        before, after = (as_arrays(recording.given[place][0]) for place in (k, k + 1))
    except Unsupported:
        return False
    return before.keys() == after.keys() and all(
        one.shape == after[name].shape and one.dtype.itemsize < after[name].dtype.itemsize
        for name, one in before.items()
    )


def _listed(steps: Sequence[Step]) -> str:
    names = [step.name for step in steps]
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]
