"""verify in a process of its own: when a runtime dies there, that is evidence, and Regraft goes on."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.errors import RegraftError, UsageError, error_of
from regraft.package.package import open_package
from regraft.package.reference import ModelRef, parse_reference
from regraft.package.sources.interface import SourceOptions
from regraft.record.evidence import Draft, Evidence, Finding, Severity, Subject, Verdict, evidence_from_json
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
    TheStore,
    Value,
)

if TYPE_CHECKING:
    from regraft.record.store import Store

_VERIFY = "regraft.workflow.verify:verify"
_FRAME = re.compile(r'File ".*?[/\\](regraft[/\\][^"]+\.py)", line (\d+) in (\w+)')
_LOG_LINES = 40
_MORE_TIME = 4
"""By how much a longer limit is proposed: nobody knows how much was left to do."""
_DEATHS = {
    Ending.CRASHED: "crashed",
    Ending.TIMED_OUT: "was ended",
    Ending.OUT_OF_MEMORY: "ran out of memory",
    Ending.RAISED: "failed",
    Ending.CANCELLED: "was cancelled",
}


def verify_apart(
    reference: str | os.PathLike[str] | ModelRef,
    candidate: str | os.PathLike[str] | ModelRef,
    *,
    store: Store | None = None,
    offline: bool = False,
    time_limit_s: float | None = None,
    memory_limit_bytes: int | None = None,
    **options: Any,
) -> Evidence:
    """As `verify`, in a worker process that may crash, hang or run out of memory.

    Args:
        reference, candidate: references; what is loaded already cannot be sent to another process.
        store, offline, options: as `verify`.
        time_limit_s: wall time after which the worker is ended; None for none.
        memory_limit_bytes: resident memory of the worker and its children; None for none.
    Returns:
        the worker's evidence; when it died, inconclusive evidence with the finding `verify.crashed`, which names the
        signal and the runtime that it died in.
    Raises:
        UsageError: a model in place of a reference, or feeds that are arrays.
        RegraftError: what `verify` raised.
    """
    arguments: dict[str, Value] = {name: _sent(name, value) for name, value in options.items()}
    arguments |= {
        "reference": Plain(_written(reference)), "candidate": Plain(_written(candidate)), "offline": Plain(offline),
    }  # fmt: skip
    if store is not None:
        arguments["store"] = TheStore()
    draft = Draft("verify", parameters={name: _plain(value) for name, value in options.items()})
    ended = _run(arguments, store, Resources(cores=0, memory_bytes=memory_limit_bytes, time_s=time_limit_s))
    if ended.evidence:
        return evidence_from_json(ended.evidence[0])
    problem = ended.problem
    assert problem is not None
    if ended.ending is Ending.REFUSED:
        raise error_of(problem.code, problem.what, where=problem.where, hint=problem.hint)
    source = SourceOptions(offline=offline, store=store)
    draft.subject += _subjects(candidate, source)
    draft.materials += _subjects(reference, source)
    draft.find(_obituary(ended, time_limit_s))
    summary = draft.findings[0].message
    return draft.finish(outcome="undecided", summary=summary, verdict=Verdict.INCONCLUSIVE)


def _run(arguments: dict[str, Value], store: Store | None, resources: Resources) -> Ended:
    with tempfile.TemporaryDirectory(prefix="regraft-", ignore_cleanup_errors=True) as folder:
        root = str(store.root) if store is not None else folder
        engine = open_engine(import_from=[place for place in sys.path if place])
        try:
            engine.submit(Task("verify", _VERIFY, arguments, folder, root, resources))
            return next(event for event in engine.events() if isinstance(event, Ended))
        finally:
            engine.close()


def _obituary(ended: Ended, time_limit_s: float | None) -> Finding:
    """How the worker died, and where in Regraft it was then: the module says which runtime."""
    assert ended.problem is not None
    log = ended.log.decode(errors="replace").splitlines()
    frames = [found for line in log if (found := _FRAME.search(line))]
    inner = next((f for f in frames if re.search(r"[/\\]runtime[/\\]", f[1])), frames[0] if frames else None)
    place = f", in {inner[1]} line {inner[2]} ({inner[3]})" if inner else ""
    fix = ended.problem.hint or "Try another runtime or smaller feeds; report the crash to whom the runtime is from."
    if ended.ending is Ending.TIMED_OUT and time_limit_s is not None:
        fix = f"If it only needs longer, allow more: --time-limit {_MORE_TIME * time_limit_s:.0f}"
    return Finding(
        "verify.crashed",
        Severity.UNKNOWN,
        f"the process of the comparison {_DEATHS[ended.ending]}: {ended.problem.what}{place}",
        data={"ending": ended.ending.value, "log": "\n".join(log[-_LOG_LINES:])},
        fix=fix,
    )


def _subjects(ref: str | os.PathLike[str] | ModelRef, source: SourceOptions) -> list[Subject]:
    """The package and its files, hashed without loading anything; nothing for code, and for what cannot be opened."""
    try:
        parsed = ref if isinstance(ref, ModelRef) else parse_reference(ref)
        if parsed.scheme == "py":
            return []
        with open_package(parsed, options=source) as package:
            return package.subjects(package.manifest())
    except RegraftError:
        return []


def _written(ref: object) -> str:
    if not isinstance(ref, str | os.PathLike | ModelRef):
        raise UsageError(
            f"a {type(ref).__name__} is in this process and cannot be compared in another one",
            hint="name it by a reference, or leave isolate out",
        )
    return str(ref) if isinstance(ref, ModelRef) else os.fspath(ref)


def _sent(name: str, value: object) -> Value:
    if value is None or isinstance(value, bool | int | float | str):
        return Plain(value)
    if isinstance(value, Path):
        return PathAt(str(value.absolute()))
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return Fields({key: _sent(name, item) for key, item in value.items()})
    if isinstance(value, Sequence):
        return Items(tuple(_sent(name, item) for item in value))
    raise UsageError(
        f"{name} of the type {type(value).__name__} cannot be sent to another process",
        hint="write the arrays to a file (.npz, .safetensors) and give its path",
    )


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value
