"""What a factory of the user's returns about a training, checked: the same keys in every framework."""

from __future__ import annotations

import contextlib
import difflib
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from regraft.conceptual.stages.interface import Step
from regraft.errors import UsageError

if TYPE_CHECKING:
    from regraft.conceptual.stages.interface import Array, Arrays

KEYS = {
    "samples": "raw samples, as the first step of the pipeline takes them",
    "pipeline": "steps in their order: (name, function) pairs, a dict, or functions",
    "batches": "what the network is trained on: dicts of arrays, or (inputs, targets)",
    "model": "torch.nn.Module, keras.Model, or a function of JAX: (weights, batch) → outputs",
    "weights": "JAX: the tree of arrays that the model and the optimiser take",
    "forward": "(model, batch) → outputs, where the network is not called with the batch's `inputs`",
    "loss": "(outputs, batch) → loss",
    "backward": "torch: (loss, model), leaves gradients in the parameters; else: tree of gradients → the same",
    "optimiser": "torch, Keras; JAX: an object with init and update, or (weights, gradients, state[, rate]) → both",
    "schedule": "torch scheduler of the optimiser, or step → learning rate",
    "steps_per_epoch": "optimiser steps after which a torch scheduler is stepped; default 1: every step",
    "steps": "optimiser steps of the whole training: how far schedules are compared; default 1000",
    "weight_map": "of the candidate: weight of the reference → its name here, or (name, order of axes)",
    "curve": "seed → losses or scores over one whole training, for `curves`",
    "margin": "difference of mean scores that does not matter; default: the deviation between the reference's seeds",
    "train_step": "torch: batch → loss, one whole step of training; else it is made of the parts above",
}
"""Key → what it holds."""
DEFAULT_STEPS, MAX_STEPS = 1000, 100_000
_STEP_PAIR = 2


class Declaration:
    """The keys of a factory's result.

    Args:
        returned: what the factory returned.
        where: how errors name it.
    Raises:
        UsageError: it is no mapping, or has a key that does not exist; the nearest one is suggested.
    """

    def __init__(self, returned: object, where: str) -> None:
        if not isinstance(returned, Mapping):
            raise UsageError(
                f"the factory returned {type(returned).__name__}, not a dict of the parts of a training",
                where=where,
                hint=f"keys: {', '.join(KEYS)}",
            )
        for key in returned:
            if key not in KEYS:
                near = difflib.get_close_matches(str(key), KEYS, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"keys: {', '.join(KEYS)}"
                raise UsageError(f"a training has no part {key!r}", where=where, hint=hint)
        self.where = where
        self._parts = {key: value for key, value in returned.items() if value is not None}
        for key in ("loss", "forward", "backward", "train_step", "curve"):
            if key in self._parts and not callable(self._parts[key]):
                raise UsageError(f"{key} is {type(self._parts[key]).__name__}, not {KEYS[key]}", where=where)

    @property
    def parts(self) -> frozenset[str]:
        """Keys that hold something."""
        return frozenset(self._parts)

    def __getitem__(self, key: str) -> Any:
        return self._parts[key]

    def get(self, key: str) -> Any:
        """What a key holds, or None."""
        return self._parts.get(key)

    def steps(self) -> tuple[Step, ...]:
        """The pipeline's steps.

        Raises:
            UsageError: one is not a function.
        """
        declared = self._parts.get("pipeline", ())
        items = declared.items() if isinstance(declared, Mapping) else declared
        return tuple(self._step(item, position) for position, item in enumerate(items))

    def _step(self, item: object, position: int) -> Step:
        name, run = (
            item
            if isinstance(item, tuple) and len(item) == _STEP_PAIR
            else (getattr(item, "__name__", type(item).__name__), item)
        )
        if not callable(run):
            raise UsageError(
                f"step {position} of the pipeline is {type(run).__name__}, not a function", where=self.where
            )
        return Step(str(name), run)

    def samples(self) -> Sequence[Any]:
        """Raw samples as a list; at most the first thousand of an iterable."""
        declared = self._parts.get("samples", ())
        if isinstance(declared, Sequence) or hasattr(declared, "__getitem__"):
            return declared  # type: ignore[no-any-return]
        return [sample for sample, _ in zip(declared, range(1000), strict=False)]

    def batches(self) -> list[Arrays]:
        """Batches as dicts of arrays.

        Raises:
            UsageError: one is neither a dict nor a pair.
        """
        return [self._batch(one, position) for position, one in enumerate(self._parts.get("batches", ()))]

    def _batch(self, batch: object, position: int) -> Arrays:
        import numpy as np

        if isinstance(batch, tuple | list) and len(batch) == _STEP_PAIR:
            batch = {"inputs": batch[0], "targets": batch[1]}
        if not isinstance(batch, Mapping):
            raise UsageError(
                f"batch {position} is {type(batch).__name__}, not a dict of arrays or (inputs, targets)",
                where=self.where,
            )
        return {str(name): np.asarray(value) for name, value in batch.items()}

    def margin(self) -> float | None:
        """Declared difference that does not matter; None where there is none.

        Raises:
            UsageError: it is no positive number.
        """
        found = self._parts.get("margin")
        if found is not None and not (isinstance(found, int | float) and found > 0):
            raise UsageError(f"margin is {found!r}, not a positive number", where=self.where)
        return None if found is None else float(found)

    def curve(self, seed: int) -> Array:
        """One whole training.

        Raises:
            UsageError: it is no sequence of numbers.
        """
        import numpy as np

        found = np.asarray([float(one) for one in self._parts["curve"](seed)])
        if found.ndim != 1 or not found.size:
            raise UsageError("curve returned no sequence of numbers", where=self.where)
        return found

    def weight_map(self) -> dict[str, tuple[str, tuple[int, ...] | None]]:
        """Weight of the reference → name here, and the order of axes where the layout differs; empty for equal names.

        Raises:
            UsageError: an entry is neither a name nor (name, order of axes).
        """
        found: dict[str, tuple[str, tuple[int, ...] | None]] = {}
        for name, value in dict(self._parts.get("weight_map", {})).items():
            pair = (value, None) if isinstance(value, str) else value
            if not (isinstance(pair, tuple) and len(pair) == _STEP_PAIR and isinstance(pair[0], str)):
                raise UsageError(f"weight_map of {name} is {value!r}: a name, or (name, axes)", where=self.where)
            found[str(name)] = (pair[0], None if pair[1] is None else tuple(pair[1]))
        return found

    def total_steps(self) -> int:
        """Optimiser steps of the whole training.

        Raises:
            UsageError: it is no positive number.
        """
        steps = self._parts.get("steps", DEFAULT_STEPS)
        if not isinstance(steps, int) or not 0 < steps <= MAX_STEPS:
            raise UsageError(f"steps is {steps!r}, not a number from 1 to {MAX_STEPS}", where=self.where)
        return steps

    def function_schedule(self) -> Callable[[int], Any] | None:
        """A schedule that is a function of the step."""
        found = self._parts.get("schedule")
        return found if callable(found) and not hasattr(found, "step") else None


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random numbers of Python and numpy from a seed, and as they were afterwards."""
    import numpy as np

    state, states = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
        np.random.set_state(states)


@contextlib.contextmanager
def all_seeded(seed: int) -> Iterator[None]:
    """As `seeded`, and those of torch where it is imported."""
    torch = sys.modules.get("torch")
    with contextlib.ExitStack() as stack:
        stack.enter_context(seeded(seed))
        if torch is not None:
            stack.enter_context(torch.random.fork_rng(devices=[]))
            torch.manual_seed(seed)
        yield


def flattened(outputs: Any) -> dict[str, Any]:
    """Outputs of a network by name: one is `outputs`, those of a tuple `outputs.0`, …; what is no array is left out."""
    if isinstance(outputs, Mapping):
        return {str(name): value for name, value in outputs.items() if hasattr(value, "shape")}
    if isinstance(outputs, tuple | list):
        return {f"outputs.{i}": value for i, value in enumerate(outputs) if hasattr(value, "shape")}
    return {"outputs": outputs}


def rebuilt(outputs: Any, values: Mapping[str, Any]) -> Any:
    """Outputs of the same structure with other arrays in it."""
    import copy

    if isinstance(outputs, Mapping):
        made: Any = copy.copy(outputs)
        for name in outputs:
            if str(name) in values:
                made[name] = values[str(name)]
        return made
    if isinstance(outputs, tuple | list):
        filled = [values.get(f"outputs.{i}", value) for i, value in enumerate(outputs)]
        return type(outputs)(*filled) if hasattr(outputs, "_fields") else type(outputs)(filled)
    return values["outputs"]
