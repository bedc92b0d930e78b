"""A model in a process of its own: what crashes, hangs or runs out of memory there is an error here, and no end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from regraft.errors import RegraftError
from regraft.runtime.interface import Signature, Tap
from regraft.runtime.isolated_process import WorkerProcess
from regraft.runtime.isolated_worker import (
    Applied,
    Apply,
    Casted,
    Cut,
    Derivation,
    Describe,
    Described,
    Done,
    Forget,
    Moved,
    Recipe,
    Run,
    TellWeights,
    TraceRun,
)

if TYPE_CHECKING:
    from regraft.runtime.interface import Array, Feeds, Reduce
    from regraft.runtime.launch import Launch

TIME_LIMIT_S = 600.0
"""Silence after which a process counts as hanging."""


class IsolatedModel:
    """A `Model` whose passes run in another process.

    A crash is raised as `Crashed` by what asked for the pass; the next request starts a new process, a few times.

    Args:
        recipe: how the other process builds the model.
        time_limit_s: silence after which it is ended.
        where: how errors name it.
        launch: how it is started; None for as a process like this one.
    Raises:
        Crashed: it died while it was built.
        Unsupported, Damaged, MissingExtra: what building it raised.
    """

    def __init__(
        self, recipe: Recipe, *, time_limit_s: float = TIME_LIMIT_S, where: str = "", launch: Launch | None = None
    ) -> None:
        self._start(WorkerProcess(recipe, time_limit_s, where, launch), ())

    @classmethod
    def _derived(cls, process: WorkerProcess, path: tuple[Derivation, ...]) -> IsolatedModel:
        model = cls.__new__(cls)
        model._start(process, path)
        return model

    def _start(self, process: WorkerProcess, path: tuple[Derivation, ...]) -> None:
        self._process = process
        self._path = path
        self.allows_nan = False
        told = process.described if not path else process.ask(Describe(path), expect=Described)[0]
        self.runtime = told.runtime
        self.where = told.where or process.where
        self.effective_precision = told.precision
        self.signature: Signature = told.signature

    def __call__(self, feeds: Feeds) -> dict[str, Array]:
        """One pass in the other process."""
        _, outputs = self._process.ask(Run(self._path, self.allows_nan), feeds, expect=Done)
        return outputs

    def trace(self, feeds: Feeds, *, taps: Sequence[str] | None = None, reduce: Reduce | None = None) -> Iterator[Tap]:
        """As the model itself; the other process waits for who consumes the taps. `reduce` is applied here."""
        request = TraceRun(self._path, None if taps is None else tuple(taps), self.allows_nan)
        for told, arrays in self._process.stream(request, feeds):
            value = arrays["value"]
            yield Tap(
                told.name,
                told.operator,
                told.scope,
                told.order,
                value=value if reduce is None else None,
                kept=None if reduce is None else reduce(value),
                inputs=told.inputs,
            )

    def segment(self, inputs: Sequence[str], outputs: Sequence[str]) -> IsolatedModel:
        """As the model itself, in the same process."""
        return self._derived(self._process, (*self._path, Cut(tuple(inputs), tuple(outputs))))

    def cast(self, dtype: str) -> IsolatedModel:
        """As the model itself, in the same process."""
        return self._derived(self._process, (*self._path, Casted(dtype)))

    def float_weights(self) -> Iterator[Array]:
        """Floating-point weights, where the model in the other process shows them."""
        for _, arrays in self._process.stream(TellWeights(self._path), {}):
            yield arrays["value"]

    def with_moved_weights(self, seed: int, unit: float) -> IsolatedModel:
        """A copy in the same process whose weights are moved to neighbouring numbers, for noise floors.

        Raises:
            Unsupported: the weights of this runtime's models cannot be moved.
        """
        return self._derived(self._process, (*self._path, Moved(seed, unit)))

    @property
    def pid(self) -> int | None:
        """Of the process in which the network runs, for who measures it; None while there is none."""
        return self._process.pid

    @property
    def is_sandboxed(self) -> bool:
        """Does it live where this process's libraries cannot reach into it, because its code is a stranger's?"""
        return self._process.is_sandboxed

    def apply(
        self, function: str, arrays: Mapping[str, Array], **arguments: Any
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        """Have a function of Regraft's called with the model, where the model is.

        Args:
            function: `module:function`, called with the model, the arrays and the arguments.
            arrays, arguments: what it needs.
        Returns:
            the fields and the arrays that it returns.
        """
        told, made = self._process.ask(Apply(self._path, function, arguments), arrays, expect=Applied)
        return told.fields, made

    def close(self) -> None:
        """End the process, or let it forget what was derived."""
        if not self._path:
            self._process.stop()
        elif self._process.pid is not None:
            with contextlib.suppress(RegraftError):
                self._process.ask(Forget(self._path), expect=Done)
