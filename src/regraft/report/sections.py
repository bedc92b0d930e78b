"""What a reader is shown of a piece of evidence, as plain tables that every form of report draws."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable
from typing import Any

import msgspec

from regraft.record.evidence import Evidence, Finding, Severity, Verdict, Where
from regraft.report.bench import speed_table
from regraft.report.quantity import bytes_text, count_text, number_text

MARKS = {Verdict.PASS: "✓", Verdict.FAIL: "✗", Verdict.INCONCLUSIVE: "?"}
SEVERITY_ORDER = tuple(Severity)
_MAX_ROWS = 40
_LAYER, _MAX_LAYERS = "layer_rms_ratio", 10
FACT_KNOWN, FACT_UNKNOWN, MODEL, FILE, FILE_GROUP = (
    "RGI-FACT-001",
    "RGI-FACT-002",
    "RGI-MODEL-001",
    "RGI-FILE-001",
    "RGI-FILE-002",
)
CHECK_PREFIX = "RGD-"
_DESCRIPTIVE = frozenset({FACT_KNOWN, FACT_UNKNOWN, MODEL, FILE, FILE_GROUP})
_DETAILS = frozenset({"stage.not_equivalent"})
"""Rules of what was tried and is no good: shown where everything is."""


class Section(msgspec.Struct, frozen=True):
    """One table. Cells are raw text from records: whoever draws them escapes them.

    Attributes:
        numeric: indices of the columns that are aligned to the right.
        tones: one severity or verdict word a row, for emphasis; empty when the rows are equal.
        notes: sentences under the table.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[int, ...] = ()
    tones: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def sections(evidence: Evidence, *, verbose: bool = False) -> list[Section]:
    """The tables for one record, most important first.

    Args:
        verbose: every row; otherwise long tables end in a count of what was left out. Of measurements of layers the
            worst are shown, of all others every one.
    """
    limit = None if verbose else _MAX_ROWS
    drawn = [
        _facts(evidence),
        _models(evidence, limit),
        _findings(evidence, limit),
        _files(evidence, limit),
        _checks(evidence),
        _speed(evidence),
        _measurements(evidence, None if verbose else _MAX_LAYERS),
    ]
    if verbose:
        drawn.append(_subjects(evidence))
    return [section for section in drawn if section is not None]


def next_command(evidence: Evidence, *, reference: str | None = None) -> str:
    """The command that a reader would want to run after this one; empty when there is none.

    Args:
        reference: of the package, as the user wrote it; default: what the evidence says.
    """
    named = reference or evidence.parameters.get("reference") or evidence.parameters.get("ref")
    quoted = shlex.quote(named) if isinstance(named, str) and named else "REF"
    verb = {"inspect": "scan", "fetch": "scan"}.get(evidence.kind)
    if verb:
        return f"regraft {verb} {quoted}"
    if evidence.kind == "scan":
        return (
            f"regraft check {quoted} --policy policy.yaml"
            if evidence.verdict is Verdict.PASS
            else f"regraft scan {quoted} --format html -o scan.html"
        )
    return ""


def place(where: Where) -> str:
    """The place of a finding in one line: `file!member:line @offset (field)`."""
    text = where.file or ""
    if where.member:
        text += f"!{where.member}" if text else where.member
    if where.line is not None:
        text += f":{where.line}" if text else f"line {where.line}"
    if where.offset is not None:
        text += f" @{where.offset}"
    if where.field:
        text += f" ({where.field})" if text else where.field
    if where.reference or where.candidate:
        names = (where.candidate or "(nothing)", where.reference or "(nothing)")
        text += " for ".join(dict.fromkeys(names))
    return text


def notable(evidence: Evidence) -> list[Finding]:
    """Findings that judge (not those that only describe), the gravest first."""
    judged = [f for f in evidence.findings if f.rule not in _DESCRIPTIVE and not f.rule.startswith(CHECK_PREFIX)]
    return sorted(judged, key=lambda f: (SEVERITY_ORDER.index(f.severity), f.rule))


def described(evidence: Evidence, rule: str) -> list[dict[str, Any]]:
    """The data of all findings under one descriptive rule."""
    return [dict(finding.data) for finding in evidence.findings if finding.rule == rule]


def severity_counts(evidence: Evidence) -> dict[str, int]:
    """Severity → number of judging findings, gravest first."""
    found = notable(evidence)
    counts = {severity.value: sum(f.severity is severity for f in found) for severity in SEVERITY_ORDER}
    return {severity: count for severity, count in counts.items() if count}


def provenance_text(provenance: Iterable[Any]) -> str:
    """Who says a fact: `header: model.safetensors · config: config.json (vocab_size)`."""
    by_source: dict[str, dict[str, str]] = {}
    for claim in provenance:
        if isinstance(claim, dict):
            file = str(claim.get("file") or "").rsplit("/", 1)[-1]
            field = f" ({claim['field']})" if claim.get("field") not in (None, "format") else ""
            by_source.setdefault(str(claim.get("source", "")), {}).setdefault(str(claim.get("file")), file + field)
    parts = [
        f"{source}: {next(iter(files.values()))}" if len(files) == 1 else f"{source}: {len(files)} files"
        for source, files in by_source.items()
    ]
    return " · ".join(parts)


def _findings(evidence: Evidence, limit: int | None) -> Section | None:
    found = notable(evidence)
    if not found:
        return None
    kept = found if limit is None else [f for f in found if f.rule not in _DETAILS][:limit]
    rows = tuple((f.severity.value, f.rule, place(f.where), f.message) for f in kept)
    fixes: dict[str, list[str]] = {}
    for finding in kept:
        if finding.fix and finding.rule not in fixes.setdefault(finding.fix, []):
            fixes[finding.fix].append(finding.rule)
    left_out = _left_out(len(found), None if limit is None else len(kept))
    notes = (*left_out, *(f"{', '.join(rules)}: {fix}" for fix, rules in fixes.items()))
    columns = ("severity", "rule", "where", "what")
    return Section("Findings", columns, rows, tones=tuple(f.severity.value for f in kept), notes=notes)


def _facts(evidence: Evidence) -> Section | None:
    known, unknown = described(evidence, FACT_KNOWN), described(evidence, FACT_UNKNOWN)
    if not known and not unknown:
        return None
    rows = [
        (str(d.get("field")), str(d.get("text", d.get("value"))), provenance_text(_list(d, "provenance")))
        for d in known
    ]
    rows += [(str(d.get("field")), "unknown", "not in: " + str(d.get("could_say", ""))) for d in unknown]
    tones = ("known",) * len(known) + ("absent",) * len(unknown)
    return Section("What it is", ("field", "value", "who says so"), tuple(rows), tones=tones)


def _models(evidence: Evidence, limit: int | None) -> Section | None:
    models = described(evidence, MODEL)
    if len(models) < 2:
        return None
    rows = tuple(
        (
            str(d.get("name")),
            str(d.get("parameters_text", "unknown")),
            ", ".join(map(str, _list(d, "dtypes"))),
            ", ".join(map(str, _list(d, "formats"))),
            str(d.get("architecture") or "unknown"),
        )
        for d in models[:limit]
    )
    return Section(
        "Models in it",
        ("model", "parameters", "dtype", "formats", "architecture"),
        rows,
        notes=_left_out(len(models), limit),
    )


def _files(evidence: Evidence, limit: int | None) -> Section | None:
    files, groups = described(evidence, FILE), described(evidence, FILE_GROUP)
    if not files and not groups:
        return None
    rows = [
        (
            str(d.get("path")),
            bytes_text(_number(d, "size_bytes")),
            str(d.get("format") or "unknown"),
            count_text(_number(d, "parameters")) if d.get("parameters") is not None else "",
            ", ".join(map(str, _list(d, "dtypes")[:2])),
        )
        for d in files[:limit]
    ]
    rows += [
        (
            f"{d.get('count')} more {_plural('file', d.get('count'))}",
            bytes_text(_number(d, "size_bytes")),
            str(d.get("format") or "unknown"),
            "",
            "",
        )
        for d in groups
    ]
    columns = ("file", "size", "format", "parameters", "dtype")
    return Section("Files", columns, tuple(rows), numeric=(1, 3), notes=_left_out(len(files), limit))


def _checks(evidence: Evidence) -> Section | None:
    checks = [f for f in evidence.findings if f.rule.startswith(CHECK_PREFIX)]
    if not checks:
        return None
    rows = tuple(
        (str(f.data.get("area", "")), str(f.data.get("name", "")), str(f.data.get("state", "")), f.message, f.fix or "")
        for f in checks
    )
    return Section(
        "Environment",
        ("area", "what", "state", "detail", "what to do"),
        rows,
        tones=tuple(f.severity.value for f in checks),
    )


def _speed(evidence: Evidence) -> Section | None:
    columns, rows = speed_table(evidence)
    if not rows:
        return None
    notes: tuple[str, ...] = ("times in ms; every quantile, load, first pass and warm-up: --verbose or --json",)
    if "floors" in columns:
        first = evidence.parameters.get("compared_with")
        notes = (f"floors: the error against {first}, in noise floors of its float32; flips: changed decisions", *notes)
    return Section("Speed, and what it costs", columns, rows, numeric=tuple(range(2, len(columns))), notes=notes)


def _measurements(evidence: Evidence, layers: int | None) -> Section | None:
    """Every measurement, but of layers only so many: the worst, worst first; None for all, in their order.

    Those of a benchmark stand side by side in a table of their own; only `verbose` lists them, too.
    """
    measured = list(evidence.measurements)
    if not measured or (layers is not None and speed_table(evidence)[1]):
        return None
    by_layer = [m for m in measured if m.name == _LAYER]
    left_out = 0 if layers is None else max(0, len(by_layer) - layers)
    if left_out:
        worst = sorted(by_layer, key=lambda m: -math.inf if m.value is None else -m.value)[:layers]
        measured = [m for m in measured if m.name != _LAYER] + worst
    rows = []
    for m in measured:
        interval = f"[{m.low:.4g}, {m.high:.4g}]" if m.low is not None and m.high is not None else ""
        of = ", ".join(f"{key} {_said(value)}" for key, value in m.of.items() if value != "")
        rows.append((m.name, number_text(m.value, m.unit), interval, of))
    return Section(
        "Measured",
        ("what", "value", "interval", "of"),
        tuple(rows),
        numeric=(1,),
        notes=(f"{left_out} more {_plural('layer', left_out)}: --verbose or --json shows all",) if left_out else (),
    )


def _said(value: object) -> str:
    """What a measurement is about; numbers with as many digits as measured ones."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _subjects(evidence: Evidence) -> Section:
    rows = tuple((subject.name, subject.sha256, subject.digest.value) for subject in evidence.subject)
    return Section("Digests", ("file", "sha256", "digest"), rows)


def _left_out(total: int, limit: int | None) -> tuple[str, ...]:
    return (f"{total - limit} more: --verbose or --json shows all",) if limit is not None and total > limit else ()


def _plural(noun: str, count: object) -> str:
    return noun if count == 1 else noun + "s"


def _list(data: dict[str, Any], key: str) -> list[Any]:
    value = data.get(key)
    return value if isinstance(value, list) else []


def _number(data: dict[str, Any], key: str) -> float:
    value = data.get(key)
    return value if isinstance(value, int | float) else 0
