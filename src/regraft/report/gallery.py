"""Many packages side by side: what the page of a survey shows, computed from their evidence."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from regraft.record.environment import Environment
from regraft.record.evidence import Evidence, Finding, Severity, Verdict, combine
from regraft.report.figures import Figure, dots, dumbbells, stacked_bars
from regraft.report.quantity import bytes_text, count_text, seconds_text, share_text
from regraft.report.sections import (
    FACT_KNOWN,
    FACT_UNKNOWN,
    MODEL,
    Section,
    described,
    notable,
    place,
    sections,
    severity_counts,
)

CONTRADICTION_PREFIX = "RGI-CON-"
_SEVERITY_COLOURS = (
    ("critical", "var(--fail)"),
    ("high", "var(--c5)"),
    ("unknown", "var(--c2)"),
    ("medium", "var(--c1)"),
    ("low", "var(--c6)"),
    ("info", "var(--line-strong)"),
)
_CARD_FACTS = (
    ("architecture", "architecture"),
    ("task", "task"),
    ("dtype", "weights"),
    ("framework", "framework"),
    ("producer", "made with"),
    ("licence", "licence"),
    ("base_model", "base model"),
    ("context_length", "context length"),
    ("truncation_length", "input cut at"),
    ("vocabulary", "vocabulary"),
    ("tokenizer", "tokenizer"),
    ("inputs", "inputs"),
    ("outputs", "outputs"),
    ("opsets", "operator sets"),
    ("datasets", "trained on"),
    ("language", "language"),
    ("claimed_metrics", "claimed metrics"),
)
_MAX_REASONS = 6
_MAX_VALUE = 140


class Entry(msgspec.Struct, frozen=True):
    """One package of a survey.

    Attributes:
        reference: as a user would type it.
        inspection, scan: the evidence; None where the verb could not be done.
        error: why not, in one line.
    """

    reference: str
    inspection: Evidence | None = None
    scan: Evidence | None = None
    error: str = ""


class CardFact(msgspec.Struct, frozen=True):
    """One labelled value with a small note under it."""

    label: str
    value: str
    note: str = ""


class Reason(msgspec.Struct, frozen=True):
    """One finding in the words of a card."""

    severity: str
    rule: str
    message: str
    where: str
    times: int = 1


class Card(msgspec.Struct, frozen=True):
    """One package as the page shows it."""

    anchor: str
    name: str
    reference: str
    verdict: Verdict
    outcome: str
    scan_summary: str
    what: str
    summary: str
    facts: tuple[CardFact, ...]
    reasons: tuple[Reason, ...]
    more_reasons: int
    contradictions: tuple[str, ...]
    gaps: tuple[str, ...]
    unknowns: tuple[str, ...]
    tables: tuple[Section, ...]
    commands: tuple[str, ...]
    overview: dict[str, str]
    error: str = ""


class Gallery(msgspec.Struct, frozen=True):
    """Everything that the page of a survey shows."""

    cards: tuple[Card, ...]
    verdict: Verdict
    headline: str
    tally: tuple[tuple[int, str, str], ...]
    figures: tuple[Figure, ...]
    environment: Environment | None
    started: str
    seconds: str


def gallery(entries: Sequence[Entry]) -> Gallery:
    """Bring the evidence of many packages into one view; nothing is judged here, only shown."""
    cards = tuple(_card(entry, number) for number, entry in enumerate(entries, 1))
    records = [evidence for entry in entries for evidence in (entry.inspection, entry.scan) if evidence is not None]
    verdicts = [card.verdict for card in cards]
    contradictions = sum(len(card.contradictions) for card in cards)
    tally = (
        (verdicts.count(Verdict.PASS), "pass", "pass"),
        (verdicts.count(Verdict.FAIL), "fail", "fail"),
        (verdicts.count(Verdict.INCONCLUSIVE), "inconclusive", "inconclusive"),
        (contradictions, "contradiction" + ("" if contradictions == 1 else "s") + " among claims", "medium"),
    )
    return Gallery(
        cards=cards,
        verdict=combine(verdicts),
        headline=_headline(entries, verdicts),
        tally=tally,
        figures=tuple(_figures(entries)),
        environment=records[0].environment if records else None,
        started=min((record.started for record in records), default=""),
        seconds=seconds_text(sum(record.seconds for record in records)),
    )


def _headline(entries: Sequence[Entry], verdicts: Sequence[Verdict]) -> str:
    size = sum(_measured(entry.inspection, "size_bytes") for entry in entries)
    read = sum(_measured(entry.inspection, "bytes_read") for entry in entries)
    looked = (
        f"To say what they are, {bytes_text(read)} of {bytes_text(size)} had to be read ({share_text(read, size)})."
    )
    return f"{len(verdicts)} packages were looked at; no code of theirs was run. {looked}"


def _card(entry: Entry, number: int) -> Card:
    facts = {str(d.get("field")): d for d in (described(entry.inspection, FACT_KNOWN) if entry.inspection else [])}
    unknown = [str(d.get("field")) for d in (described(entry.inspection, FACT_UNKNOWN) if entry.inspection else [])]
    name = re.sub(r"^[a-z+]+://", "", entry.reference)
    inspected = notable(entry.inspection) if entry.inspection else []
    contradictions = tuple(f.message for f in inspected if f.rule.startswith(CONTRADICTION_PREFIX))
    found = notable(entry.scan) if entry.scan else []
    gaps = [f for f in inspected if f.severity is Severity.UNKNOWN]
    reasons = _reasons(found)
    return Card(
        anchor=f"package-{number}",
        name=name,
        reference=entry.reference,
        verdict=entry.scan.verdict if entry.scan else Verdict.INCONCLUSIVE,
        outcome=entry.scan.outcome if entry.scan else "not scanned",
        scan_summary=entry.scan.summary if entry.scan else entry.error or "the scan could not be done",
        what=_fact_text(facts, "summary"),
        summary=entry.inspection.summary if entry.inspection else "",
        facts=tuple(_card_facts(entry, facts)),
        reasons=tuple(reasons[:_MAX_REASONS]),
        more_reasons=max(0, len(reasons) - _MAX_REASONS),
        contradictions=contradictions,
        gaps=tuple(f"{place(f.where)}: {f.message}" for f in gaps[:_MAX_REASONS]),
        unknowns=tuple(unknown),
        tables=tuple(s for s in (sections(entry.inspection) if entry.inspection else []) if s.title in _TABLES),
        commands=tuple(f"regraft {verb} {entry.reference}" for verb in ("fetch", "inspect", "scan")),
        overview=_overview(entry, facts, contradictions),
        error=entry.error,
    )


_TABLES = ("What it is", "Models in it", "Files")


def _card_facts(entry: Entry, facts: dict[str, dict[str, Any]]) -> list[CardFact]:
    parameters, note = _parameters(entry)
    shown = [CardFact("parameters", parameters, note)]
    size, read = _measured(entry.inspection, "size_bytes"), _measured(entry.inspection, "bytes_read")
    shown.append(CardFact("size", bytes_text(size), f"{int(_measured(entry.inspection, 'files')):,} files"))
    shown.append(CardFact("read to say so", share_text(read, size), bytes_text(read)))
    shown.append(CardFact("formats", ", ".join(_formats(entry)) or "none known"))
    for field, label in _CARD_FACTS:
        if field in facts:
            sources = facts[field].get("provenance") or []
            says = ", ".join(dict.fromkeys(str(c.get("source")) for c in sources if isinstance(c, dict)))
            shown.append(CardFact(label, _short(_fact_text(facts, field)), f"from the {says}" if says else ""))
    return shown


def _overview(entry: Entry, facts: dict[str, dict[str, Any]], contradictions: Sequence[str]) -> dict[str, str]:
    size, read = _measured(entry.inspection, "size_bytes"), _measured(entry.inspection, "bytes_read")
    models = described(entry.inspection, MODEL) if entry.inspection else []
    dtypes = list(dict.fromkeys(str(d) for m in models for d in (m.get("dtypes") or [])))
    return {
        "parameters": _parameters(entry)[0],
        "models": str(len(models)),
        "dtype": ", ".join(dtypes[:3]) + ("…" if len(dtypes) > 3 else "") or "unknown",
        "formats": ", ".join(_formats(entry)) or "none known",
        "licence": _short(_fact_text(facts, "licence") or "unknown"),
        "size": bytes_text(size),
        "read": share_text(read, size),
        "contradictions": str(len(contradictions)) if contradictions else "",
    }


def _parameters(entry: Entry) -> tuple[str, str]:
    models = described(entry.inspection, MODEL) if entry.inspection else []
    counts = sorted(int(m["parameters"]) for m in models if isinstance(m.get("parameters"), int))
    if not counts:
        return "unknown", f"{len(models)} models" if len(models) > 1 else ""
    if len(models) == 1:
        return count_text(counts[0]), f"{counts[0]:,}"
    span = count_text(counts[0]) if counts[0] == counts[-1] else f"{count_text(counts[0])} – {count_text(counts[-1])}"
    return span, f"{len(models)} models, not added up"


def _formats(entry: Entry) -> list[str]:
    models = described(entry.inspection, MODEL) if entry.inspection else []
    return list(dict.fromkeys(str(f) for m in models for f in (m.get("formats") or []) if f))


def _reasons(found: Sequence[Finding]) -> list[Reason]:
    """Findings, gravest first; those that say the same about several places are told once."""
    grouped: dict[tuple[str, str, str], Reason] = {}
    for finding in found:
        key = (finding.severity.value, finding.rule, finding.message)
        seen = grouped.get(key)
        if seen is None:
            grouped[key] = Reason(
                finding.severity.value, finding.rule, _short(finding.message, 260), place(finding.where)
            )
        else:
            grouped[key] = msgspec.structs.replace(seen, times=seen.times + 1)
    return list(grouped.values())


def _figures(entries: Sequence[Entry]) -> list[Figure]:
    drawn = [_parameter_figure(entries), _read_figure(entries), _finding_figure(entries)]
    return [figure for figure in drawn if figure.rows]


def _parameter_figure(entries: Sequence[Entry]) -> Figure:
    points: dict[tuple[str, float, str], str] = {}
    for entry in entries:
        for model in described(entry.inspection, MODEL) if entry.inspection else []:
            for file in model.get("per_file") or []:
                count, dtypes = file.get("parameters"), file.get("dtypes") or ["unknown"]
                if isinstance(count, int) and count > 0:
                    points.setdefault((_name(entry), float(count), str(dtypes[0])), f"{count:,} ({model.get('name')})")
    counts = [value for _, value, _ in points]
    span = f": from {count_text(min(counts))} to {count_text(max(counts))} in one file" if counts else ""
    return dots(
        list(points),
        title=f"Parameters{span}",
        caption="One dot for each parameter count that a file's header states, by the dtype of most of its weights; "
        "logarithmic axis. Copies of one network in several formats are separate dots and are never added up.",
        quantity="parameters in one file",
        group="dtype",
        labels=list(points.values()),
    )


def _read_figure(entries: Sequence[Entry]) -> Figure:
    pairs, labels = [], []
    for entry in entries:
        size, read = _measured(entry.inspection, "size_bytes"), _measured(entry.inspection, "bytes_read")
        if size and read:
            pairs.append((_name(entry), read, size))
            labels.append((bytes_text(read), bytes_text(size), share_text(read, size)))
    total, whole = sum(p[1] for p in pairs), sum(p[2] for p in pairs)
    return dumbbells(
        pairs,
        title=f"Read to say what it is: {share_text(total, whole)} of all bytes",
        caption="Left dot: bytes that inspect took from the package's files; right dot: their size; logarithmic axis. "
        "The cost follows the metadata: small packages are mostly metadata, "
        "large ones mostly weights. A scan with computed digests reads every byte.",
        low="read",
        high="size",
        quantity="bytes",
        labels=labels,
    )


def _finding_figure(entries: Sequence[Entry]) -> Figure:
    counts = []
    for entry in entries:
        for evidence in (entry.scan, entry.inspection):
            for severity, count in severity_counts(evidence).items() if evidence else ():
                counts.append((_name(entry), severity, count))
    merged: dict[tuple[str, str], int] = {}
    for row, severity, count in counts:
        merged[row, severity] = merged.get((row, severity), 0) + count
    clean = [_name(entry) for entry in entries if not any(row == _name(entry) for row, _ in merged)]
    note = f" No finding at all: {', '.join(clean)}." if clean else ""
    fails = sum(count for (_, severity), count in merged.items() if severity in ("critical", "high"))
    opens = sum(count for (_, severity), count in merged.items() if severity == "unknown")
    return stacked_bars(
        [(row, severity, count) for (row, severity), count in merged.items()],
        title=f"Findings: {fails} that fail a package, {opens} that leave its verdict open",
        caption="Scan and inspect together. Critical and high make a verdict fail, unknown makes it inconclusive; "
        f"medium (contradictions), low and info are notes.{note}",
        quantity="findings",
        group="severity",
        order=_SEVERITY_COLOURS,
    )


def _measured(evidence: Evidence | None, name: str) -> float:
    for measurement in evidence.measurements if evidence else ():
        if measurement.name == name and measurement.value is not None:
            return measurement.value
    return 0


def _name(entry: Entry) -> str:
    return re.split(r"==|@(?=[^/]*$)", re.sub(r"^[a-z+]+://", "", entry.reference))[0]


def _fact_text(facts: dict[str, dict[str, Any]], field: str) -> str:
    return str(facts[field].get("text", "")) if field in facts else ""


def _short(text: str, width: int = _MAX_VALUE) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
