"""verify in a process of its own: when a runtime dies there, that is evidence, and Regraft goes on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from regraft.errors import error_of
from regraft.package.sources.interface import SourceOptions
from regraft.record.evidence import Draft, Evidence, Finding, Severity, Verdict, evidence_from_json
from regraft.workflow.apart import last_words, plain, run_apart, sent, subjects_of, told_death, written
from regraft.workflow.engine.interface import Ended, Ending, Plain, Resources, TheStore, Value

if TYPE_CHECKING:
    from regraft.package.reference import ModelRef
    from regraft.record.store import Store

_VERIFY = "regraft.workflow.verify:verify"
_MORE_TIME = 4
"""By how much a longer limit is proposed: nobody knows how much was left to do."""


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
    arguments: dict[str, Value] = {name: sent(name, value) for name, value in options.items()}
    arguments |= {
        "reference": Plain(written(reference)), "candidate": Plain(written(candidate)), "offline": Plain(offline),
    }  # fmt: skip
    if store is not None:
        arguments["store"] = TheStore()
    draft = Draft("verify", parameters={name: plain(value) for name, value in options.items()})
    ended = run_apart(
        _VERIFY, arguments, store, Resources(cores=0, memory_bytes=memory_limit_bytes, time_s=time_limit_s)
    )
    if ended.evidence:
        return evidence_from_json(ended.evidence[0])
    problem = ended.problem
    assert problem is not None
    if ended.ending is Ending.REFUSED:
        raise error_of(problem.code, problem.what, where=problem.where, hint=problem.hint)
    source = SourceOptions(offline=offline, store=store)
    draft.subject += subjects_of(candidate, source)
    draft.materials += subjects_of(reference, source)
    draft.find(_obituary(ended, time_limit_s))
    summary = draft.findings[0].message
    return draft.finish(outcome="undecided", summary=summary, verdict=Verdict.INCONCLUSIVE)


def _obituary(ended: Ended, time_limit_s: float | None) -> Finding:
    assert ended.problem is not None
    fix = ended.problem.hint or "Try another runtime or smaller feeds; report the crash to whom the runtime is from."
    if ended.ending is Ending.TIMED_OUT and time_limit_s is not None:
        fix = f"If it only needs longer, allow more: --time-limit {_MORE_TIME * time_limit_s:.0f}"
    return Finding(
        "verify.crashed",
        Severity.UNKNOWN,
        f"the process of the comparison {told_death(ended)}",
        data={"ending": ended.ending.value, "log": last_words(ended)},
        fix=fix,
    )
