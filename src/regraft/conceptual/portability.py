"""Where can a network run: the operators of it that a runtime lacks, computes otherwise, or is slow at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from regraft.compare.operator_probes import Probe, Status
from regraft.record.evidence import JSON, Draft, Evidence, Finding, Severity

_SEVERITIES = {
    Status.UNDECIDED: ("portability.undecided", Severity.UNKNOWN),
    Status.MISSING: ("portability.missing", Severity.MEDIUM),
    Status.DIFFERS: ("portability.differs", Severity.MEDIUM),
    Status.SLOW: ("portability.slow", Severity.LOW),
    Status.NOT_ASKED: ("portability.not_asked", Severity.INFO),
}
"""By weight; what works is counted only."""
_NAMED = 6
"""Kinds of operators that a message names; `data` has them all."""


def judge_portability(draft: Draft, found: Sequence[Probe]) -> Evidence:
    """Say what each runtime makes of the operators of a network.

    Args:
        draft: with subjects.
        found: every operator in every runtime and dtype.
    Returns:
        evidence of kind `portability`: it passes when everything that was asked has an answer; operators that a runtime
        lacks are findings, and no failure.
    """
    for finding in _places(found):
        draft.find(finding)
    for status in _SEVERITIES:
        for finding in _findings(found, status):
            draft.find(finding)
    rows: list[JSON] = [_row(one) for one in found]
    distinct = {(one.name, one.operator): one.count for one in found}
    draft.find(Finding("portability.table", Severity.INFO, f"{len(rows)} probes", data={"probes": rows}))
    draft.measure("operators", sum(distinct.values()), "1")
    draft.measure("distinct_operators", len(distinct), "1")
    is_determined = not any(one.status is Status.UNDECIDED for one in found)
    summary = f"{len(distinct)} distinct operators; {_whole(found)}"
    return draft.finish(outcome="determined" if is_determined else "undecided", summary=summary)


def _places(found: Sequence[Probe]) -> Iterator[Finding]:
    """One line for each runtime and dtype."""
    counts: dict[tuple[str, str], Counter[Status]] = {}
    for one in found:
        if one.runtime:
            counts.setdefault((one.runtime, one.dtype), Counter())[one.status] += 1
    for (runtime, dtype), statuses in sorted(counts.items()):
        told = ", ".join(f"{statuses[status]} {status.value}" for status in Status if statuses[status])
        data: dict[str, JSON] = {status.value: count for status, count in statuses.items()}
        data |= {"runtime": runtime, "dtype": dtype}
        yield Finding("portability.runtime", Severity.INFO, f"{runtime}, {dtype}: {told}", data=data)


def _findings(found: Sequence[Probe], status: Status) -> Iterator[Finding]:
    """One for each kind of operator and runtime, its dtypes together; what a runtime says of several is said once."""
    rule, severity = _SEVERITIES[status]
    having = [one for one in found if one.status is status]
    kinds: dict[tuple[str, str], set[str]] = {}
    for one in having:
        kinds.setdefault((one.runtime, one.message), set()).add(one.operator)
    groups: dict[tuple[str, str], list[Probe]] = {}
    for one in having:
        is_shared = len(kinds[one.runtime, one.message]) > 1
        groups.setdefault((one.runtime, one.message if is_shared else one.operator), []).append(one)
    for (runtime, _), several in groups.items():
        dtypes = list(dict.fromkeys(one.dtype for one in several if one.dtype))
        operators = list(dict.fromkeys(one.operator for one in several))
        worst = max(several, key=lambda one: (one.floors or 0.0, one.slower or 0.0))
        place = f"in {runtime}, {', '.join(dtypes)}" if runtime else "in no runtime"
        shown = ", ".join(operators[:_NAMED]) + (f" and {len(operators) - _NAMED} more" if operators[_NAMED:] else "")
        message = f"{shown} {status.value} {place}: {worst.message}{_elsewhere(found, several)}"
        names: list[JSON] = [*dict.fromkeys(one.name for one in several)]
        data: dict[str, JSON] = {
            "operators": [*operators], "runtime": runtime, "dtypes": [*dtypes], "nodes": names,
        }  # fmt: skip
        yield Finding(rule, severity, message, data=data)


def _elsewhere(found: Sequence[Probe], several: Sequence[Probe]) -> str:
    """Runtimes in which the same operators work, in the same dtypes."""
    wanted = {(one.name, one.dtype) for one in several}
    working: dict[str, set[tuple[str, str]]] = {}
    for one in found:
        if one.status is Status.WORKS:
            working.setdefault(one.runtime, set()).add((one.name, one.dtype))
    names = sorted(runtime for runtime, places in working.items() if wanted <= places)
    return f"; it works in {' and '.join(names)}" if names else ""


def _whole(found: Sequence[Probe]) -> str:
    """In which runtimes and dtypes all of them are."""
    lacking = {(one.runtime, one.dtype) for one in found if one.status in (Status.MISSING, Status.DIFFERS)}
    present = sorted({(one.runtime, one.dtype) for one in found if one.runtime and one.dtype.count("float")} - lacking)
    if not present:
        return "no runtime has them all"
    return f"none lacks or differs in {', '.join(' '.join(place) for place in present)}"


def _row(one: Probe) -> dict[str, JSON]:
    return {
        "operator": one.operator,
        "node": one.name,
        "count": one.count,
        "inputs": one.shapes,
        "runtime": one.runtime,
        "dtype": one.dtype,
        "status": one.status.value,
        "floors": one.floors,
        "ms": one.ms,
        "slower": one.slower,
        "message": one.message,
    }
