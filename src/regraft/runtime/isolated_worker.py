"""The process in which an isolated model lives: requests on stdin, answers on what stdout was when it started."""

from __future__ import annotations

import importlib
import os
import sys
import threading
import time
from typing import IO, TYPE_CHECKING, Any

import msgspec

from regraft.errors import RegraftError, Unsupported
from regraft.record.permit import Permit
from regraft.runtime.array_frames import frame_parts, read_frame
from regraft.runtime.interface import Signature

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from regraft.runtime.interface import Array, Model

_PARENT_S = 1.0


class Cut(msgspec.Struct, frozen=True, tag=True):
    """A model made of another one: the part between taps."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class Casted(msgspec.Struct, frozen=True, tag=True):
    """A model made of another one: computed in another precision."""

    dtype: str


class Moved(msgspec.Struct, frozen=True, tag=True):
    """A model made of another one: its weights moved to neighbouring numbers, `unit` apart relatively."""

    seed: int
    unit: float


Derivation = Cut | Casted | Moved


class Recipe(msgspec.Struct, frozen=True):
    """How to build the model in its process: `module:function` of Regraft or of a plugin, called with content and
    named values. It can be followed again after a crash. `environment` names the one that the process lives in
    (`runtime/environments`), empty for this one.
    """

    function: str
    content: bytes = b""
    arguments: dict[str, Any] = {}
    environment: str = ""


class Build(msgspec.Struct, frozen=True, tag=True):
    """Build the model; the recipe's content comes as the array `content`."""

    function: str
    arguments: dict[str, Any]


class Describe(msgspec.Struct, frozen=True, tag=True):
    """Tell signature and precision of the model that is derived from the first so."""

    path: tuple[Derivation, ...]


class Run(msgspec.Struct, frozen=True, tag=True):
    """One pass; its feeds are the arrays of the message."""

    path: tuple[Derivation, ...]
    allows_nan: bool = False


class TraceRun(msgspec.Struct, frozen=True, tag=True):
    """One pass whose taps are told one by one."""

    path: tuple[Derivation, ...]
    taps: tuple[str, ...] | None = None
    allows_nan: bool = False


class Apply(msgspec.Struct, frozen=True, tag=True):
    """Call `module:function` of Regraft with the model and the arrays of the message; it returns fields and arrays."""

    path: tuple[Derivation, ...]
    function: str
    arguments: dict[str, Any]


class Applied(msgspec.Struct, frozen=True, tag=True):
    """What the function returned; its arrays are those of the message."""

    fields: dict[str, Any]


class TellWeights(msgspec.Struct, frozen=True, tag=True):
    """The floating-point weights of a model, one by one, where it can show them."""

    path: tuple[Derivation, ...]


class Forget(msgspec.Struct, frozen=True, tag=True):
    """Close the model that is derived so."""

    path: tuple[Derivation, ...]


class Described(msgspec.Struct, frozen=True, tag=True):
    """What a model says about itself."""

    runtime: str
    where: str
    precision: str
    signature: Signature


class Tapped(msgspec.Struct, frozen=True, tag=True):
    """One tap; its value is the array `value`."""

    name: str
    operator: str
    scope: str
    order: int
    inputs: tuple[str, ...] | None


class Done(msgspec.Struct, frozen=True, tag=True):
    """The request is met; outputs are the arrays of the message."""


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The request could not be met, for a reason that Regraft foresees."""

    code: str
    what: str
    where: str = ""
    hint: str = ""


Request = Build | Describe | Run | TraceRun | Apply | TellWeights | Forget
Answer = Described | Tapped | Applied | Done | Failed


def load_from_package(
    content: bytes, *, ref: str, permit: dict[str, str] | None, store: str | None, offline: bool, **options: Any
) -> Model:
    """Load as `runtime.load` does, from a package that is opened by its reference once more, under the same permit."""
    from pathlib import Path

    from regraft.package.package import open_package
    from regraft.package.sources.interface import SourceOptions
    from regraft.record.store import open_store
    from regraft.runtime import load

    found = open_store(Path(store)) if store else None
    leave = msgspec.convert(permit, Permit) if permit is not None else None
    with open_package(ref, options=SourceOptions(offline=offline, store=found)) as package:
        return load(package, leave, **options)


def main() -> None:
    """Answer requests until stdin ends or the parent is gone. What libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    threading.Thread(target=_leave_with, args=(os.getppid(),), daemon=True).start()
    worker = _Worker(answers)
    decoder = msgspec.json.Decoder(Request)
    while True:
        try:
            message, arrays = read_frame(_read_exactly)
        except EOFError:
            return
        worker.answer(decoder.decode(message), arrays)


class _Worker:
    def __init__(self, answers: IO[bytes]) -> None:
        self._answers = answers
        self._models: dict[tuple[Derivation, ...], Model] = {}

    def answer(self, request: Request, arrays: dict[str, Array]) -> None:
        try:
            self._answer(request, arrays)
        except RegraftError as error:
            self._say(Failed(error.code, error.what, error.where, error.hint))
        except MemoryError:
            self._say(Failed("crashed", "its process has not enough memory"))
        except Exception as error:  # noqa: BLE001  libraries raise what they like; the parent tells it
            self._say(Failed("unsupported", f"{type(error).__name__}: {str(error)[:500]}"))

    def _answer(self, request: Request, arrays: dict[str, Array]) -> None:
        if isinstance(request, Build):
            build = _function(request.function)
            self._models[()] = build(arrays["content"].tobytes(), **request.arguments)
            self._say(self._described(self._models[()]))
        elif isinstance(request, Describe):
            self._say(self._described(self._model(request.path)))
        elif isinstance(request, Apply):
            fields, made = _function(request.function)(self._model(request.path), arrays, **request.arguments)
            self._say(Applied(fields), made)
        elif isinstance(request, Forget):
            self._models.pop(request.path).close()
            self._say(Done())
        elif isinstance(request, TellWeights):
            weights: Callable[[], Iterator[Array]] | None = getattr(self._model(request.path), "float_weights", None)
            for number, value in enumerate(weights() if weights is not None else ()):
                self._say(Tapped(f"weight {number}", "", "", number, None), {"value": value})
            self._say(Done())
        elif isinstance(request, Run):
            model = self._model(request.path)
            model.allows_nan = request.allows_nan
            outputs = model(arrays)
            self._say(Done(), outputs)
        else:
            model = self._model(request.path)
            model.allows_nan = request.allows_nan
            for tap in model.trace(arrays, taps=request.taps):
                if tap.value is not None:
                    self._say(Tapped(tap.name, tap.operator, tap.scope, tap.order, tap.inputs), {"value": tap.value})
            self._say(Done())

    def _model(self, path: tuple[Derivation, ...]) -> Model:
        if path not in self._models:
            self._models[path] = _derived(self._model(path[:-1]), path[-1])
        return self._models[path]

    def _described(self, model: Model) -> Described:
        return Described(model.runtime, model.where, model.effective_precision, model.signature)

    def _say(self, answer: Answer, arrays: Mapping[str, Array] | None = None) -> None:
        for part in frame_parts(answer, arrays or {}):
            self._answers.write(part)
        self._answers.flush()


def _derived(parent: Model, how: Derivation) -> Model:
    if isinstance(how, Casted):
        return parent.cast(how.dtype)
    if isinstance(how, Cut):
        return parent.segment(how.inputs, how.outputs)
    move: Callable[[int, float], Model] | None = getattr(parent, "with_moved_weights", None)
    if move is None:
        raise Unsupported(
            f"weights of a model in {parent.runtime} cannot be moved to measure its noise floor",
            where=parent.where,
            hint="name the model that it was converted from as the reference",
        )
    return move(how.seed, how.unit)


def _function(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def _read_exactly(count: int) -> bytearray:
    data = bytearray(count)
    view, have = memoryview(data), 0
    while have < count:
        got = os.readv(sys.stdin.fileno(), [view[have:]])
        if not got:
            raise EOFError
        have += got
    return data


def _leave_with(parent: int) -> None:
    """End when the parent has, also in the middle of a pass that never ends."""
    while os.getppid() == parent:
        time.sleep(_PARENT_S)
    os._exit(1)
