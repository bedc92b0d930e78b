"""A verb in a process of its own: what travels there, and how its death is told."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.errors import RegraftError, UsageError
from regraft.package.package import open_package
from regraft.package.reference import ModelRef, parse_reference
from regraft.package.sources.interface import SourceOptions
from regraft.record.evidence import Subject
from regraft.workflow.engine import open_engine
from regraft.workflow.engine.interface import (
    Ended,
    Ending,
    Fields,
    Items,
    PathAt,
    Plain,
    Resources,
    Task,
    Value,
)

if TYPE_CHECKING:
    from regraft.record.store import Store

_FRAME = re.compile(r'File ".*?[/\\](regraft[/\\][^"]+\.py)", line (\d+) in (\w+)')
_LOG_LINES = 40
_DEATHS = {
    Ending.CRASHED: "crashed",
    Ending.TIMED_OUT: "was ended",
    Ending.OUT_OF_MEMORY: "ran out of memory",
    Ending.RAISED: "failed",
    Ending.CANCELLED: "was cancelled",
}


def run_apart(function: str, arguments: Mapping[str, Value], store: Store | None, resources: Resources) -> Ended:
    """Call a function of Regraft in a worker process, and wait for its end, whatever that is.

    Args:
        function: `module:function`; it returns evidence.
        arguments: its keyword arguments.
        store: that `TheStore` stands for; None for one that is thrown away.
        resources: what it may take.
    """
    with tempfile.TemporaryDirectory(prefix="regraft-", ignore_cleanup_errors=True) as folder:
        root = str(store.root) if store is not None else folder
        engine = open_engine(import_from=[place for place in sys.path if place])
        try:
            name = function.partition(":")[2]
            engine.submit(Task(name, function, dict(arguments), folder, root, resources))
            return next(event for event in engine.events() if isinstance(event, Ended))
        finally:
            engine.close()


def told_death(ended: Ended) -> str:
    """How the worker died, and where in Regraft it was then: the module says which runtime."""
    assert ended.problem is not None
    frames = [found for line in _lines(ended) if (found := _FRAME.search(line))]
    inner = next((f for f in frames if re.search(r"[/\\]runtime[/\\]", f[1])), frames[0] if frames else None)
    place = f", in {inner[1]} line {inner[2]} ({inner[3]})" if inner else ""
    return f"{_DEATHS[ended.ending]}: {ended.problem.what}{place}"


def last_words(ended: Ended) -> str:
    """The end of what it wrote."""
    return "\n".join(_lines(ended)[-_LOG_LINES:])


def _lines(ended: Ended) -> list[str]:
    return ended.log.decode(errors="replace").splitlines()


def subjects_of(ref: str | os.PathLike[str] | ModelRef, source: SourceOptions) -> list[Subject]:
    """The package and its files, hashed without loading anything; nothing for code, and for what cannot be opened."""
    try:
        parsed = ref if isinstance(ref, ModelRef) else parse_reference(ref)
        if parsed.scheme == "py":
            return []
        with open_package(parsed, options=source) as package:
            return package.subjects(package.manifest())
    except RegraftError:
        return []


def written(ref: object) -> str:
    """A reference as text.

    Raises:
        UsageError: it is a model in this process.
    """
    if not isinstance(ref, str | os.PathLike | ModelRef):
        raise UsageError(
            f"a {type(ref).__name__} is in this process and cannot be sent to another one",
            hint="name it by a reference, or leave isolate out",
        )
    return str(ref) if isinstance(ref, ModelRef) else os.fspath(ref)


def sent(name: str, value: object) -> Value:
    """How a value travels.

    Raises:
        UsageError: it cannot, as an array.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return Plain(value)
    if isinstance(value, Path):
        return PathAt(str(value.absolute()))
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return Fields({key: sent(name, item) for key, item in value.items()})
    if isinstance(value, Sequence):
        return Items(tuple(sent(name, item) for item in value))
    raise UsageError(
        f"{name} of the type {type(value).__name__} cannot be sent to another process",
        hint="write the arrays to a file (.npz, .safetensors) and give its path",
    )


def plain(value: Any) -> Any:
    """As evidence keeps it."""
    return str(value) if isinstance(value, Path) else value
