"""What stages say, as findings and measurements of evidence."""

from __future__ import annotations

from collections.abc import Iterator

from regraft.conceptual.stages.interface import Divergence, StageResult, Status
from regraft.record.evidence import JSON, Draft, Finding, Severity, Where

DIVERGES, UNDECIDED, NOT_RUN, AGREES, FOLLOWS, NOTE = (
    "stage.diverges", "stage.undecided", "stage.not_run", "stage.agrees", "stage.follows", "stage.note",
)  # fmt: skip
_UNITS = {"ratio": "noise floors", "gradient_ratio": "noise floors"}


def add_stages(draft: Draft, results: list[StageResult]) -> None:
    """Put results into evidence in the making: a stage that diverges fails, one that could not run is inconclusive.

    Args:
        draft: of the verb.
        results: of `compare_stages`, in its order.
    """
    for result in results:
        for finding in findings(result):
            draft.find(finding)
        for name, value in result.measured.items():
            draft.measure(f"stage_{name}", value, _UNITS.get(name, "1"), of={"stage": result.stage})


def findings(result: StageResult) -> Iterator[Finding]:
    """Findings of one stage; none for a stage that neither side has."""
    if result.status is Status.NOT_RUN:
        yield Finding(NOT_RUN, Severity.UNKNOWN, f"{result.stage} was not compared: {result.reason}", _where(result))
    elif result.status is Status.AGREES:
        yield Finding(AGREES, Severity.INFO, f"{result.stage} agrees: {result.reason}", _where(result))
    elif result.status is Status.UNDECIDED and not result.divergences:
        yield Finding(UNDECIDED, Severity.UNKNOWN, f"{result.stage}: {result.reason}", _where(result))
    for divergence in result.divergences:
        yield _diverged(result, divergence)
    yield from (Finding(NOTE, Severity.INFO, f"{result.stage}: {note}", _where(result)) for note in result.notes)


def _diverged(result: StageResult, found: Divergence) -> Finding:
    rule, severity = (DIVERGES, Severity.HIGH) if result.status is Status.DIVERGES else (UNDECIDED, Severity.UNKNOWN)
    if result.follows:
        rule, severity = FOLLOWS, Severity.MEDIUM
    cause = f"{found.cause}: " if found.cause not in ("", found.place) else ""
    because = f" ({result.reason})" if result.reason else ""
    data: dict[str, JSON] = {
        "stage": result.stage, "place": found.place, "cause": found.cause or None, "judgement": found.judgement.value,
        "ratio": found.ratio, "floor": found.floor, "first": found.first, "names": list(found.names[:32]),
        **found.evidence,
    }  # fmt: skip
    message = f"{result.stage} differs at {found.place}: {cause}{found.detail}{because}"
    return Finding(rule, severity, message, Where(field=f"{result.stage}.{found.place}"), data, found.fix or None)


def _where(result: StageResult) -> Where:
    return Where(field=result.stage)
