"""The report's answer to: what did it cost, and what became of each step?"""

from __future__ import annotations

from regraft.record.evidence import Measurement, Severity
from regraft.report.chapter import UNKNOWN, Chapter, rewritten, tone, value_text, verdict_text
from regraft.report.quantity import bytes_text, seconds_text
from regraft.report.run_record import COSTS, PEAK_MEMORY, RunRecord, RunStep, first, measured
from regraft.report.sections import Section, place

_TOTALS = (
    ("run_wall", "this run, on the clock", "kept steps cost nothing"),
    ("total_wall", "all steps, on the clock", "also those kept from earlier runs; steps may overlap"),
    ("run_cpu", "this run, computing", "CPU seconds of all cores"),
    ("total_cpu", "all steps, computing", "CPU seconds of all cores, also those kept from earlier runs"),
    (
        "peak_memory",
        "most memory of a step",
        "resident; a process that did another step before may still hold some of it",
    ),
    ("attended", "time of people", "as the plan declares it: attended_minutes"),
    ("from_scratch", "the same without reuse", "estimate"),
)


def ledger(record: RunRecord) -> Chapter:
    """What the run cost in computing, time, memory and attention; from scratch only if evidence says so."""
    rows, tones = [], []
    for name, what, note in _TOTALS:
        one = _total(record, name)
        rows.append((what, _cost(one), note if one is not None else _absent(name)))
        tones.append("" if one is not None else "absent")
    steps = tuple((step.name, step.status, *(_spent(step, name) for name in COSTS)) for step in record.steps)
    tables = [Section("In total", ("cost", "amount", "what it means"), tuple(rows), numeric=(1,), tones=tuple(tones))]
    more: tuple[Section, ...] = ()
    if steps:
        columns = ("step", "status", "on the clock", "computing", "peak memory")
        more = (Section("Step by step", columns, steps, numeric=(2, 3, 4)),)
    return Chapter(anchor="cost", title="What it cost", tables=tuple(tables), more=more)


def every_step(record: RunRecord) -> Chapter:
    """Every step: kept, done, failed or skipped, with its verdict and the reason."""
    if not record.steps:
        return Chapter(anchor="steps", title="Steps", gaps=("unknown: the run names no steps",))
    rows, tones = [], []
    for step in record.steps:
        weight = "yes" if step.weighs else "no"
        rows.append((verdict_text(step.verdict, step.outcome), step.name, step.status, weight, _said(step)))
        tones.append(tone(step.verdict))
    note = "What weighs counts in the verdict of the run; the other steps drop a candidate, or describe."
    table = Section("All steps", ("verdict", "step", "status", "weighs", "what it says"), tuple(rows),
                    tones=tuple(tones), notes=(note,))  # fmt: skip
    counts = {status: sum(step.status == status for step in record.steps) for status in
              dict.fromkeys(step.status for step in record.steps)}  # fmt: skip
    lead = ", ".join(f"{count} {status}" for status, count in counts.items())
    more = tuple(section for step in record.steps if (section := _findings(step)) is not None)
    return Chapter(
        anchor="steps", title="Steps", lead=(f"{len(record.steps)} steps: {lead}.",), tables=(table,), more=more
    )


def _said(step: RunStep) -> str:
    told = rewritten(step.said.removeprefix(f"{step.name}: ")) or UNKNOWN
    return f"{told}. What to do: {step.fix}" if step.fix else told


def _findings(step: RunStep) -> Section | None:
    """What a reader should know of a step, notes left out."""
    several = step.evidence.findings if step.evidence is not None else ()
    weighty = [finding for finding in several if finding.severity is not Severity.INFO]
    if not weighty:
        return None
    rows = tuple((f.severity.value, f.rule, place(f.where), f.message, f.fix or "") for f in weighty)
    columns = ("severity", "rule", "where", "what", "what to do")
    return Section(f"{step.name}: findings", columns, rows, tones=tuple(f.severity.value for f in weighty))


def _total(record: RunRecord, name: str) -> Measurement | None:
    own = first(measured(record.run, name))
    if own is not None or name != "from_scratch":
        return own
    return first([one for step in record.steps for one in measured(step.evidence, name)])


def _spent(step: RunStep, name: str) -> str:
    value = step.costs.get(name)
    if value is None:
        return UNKNOWN
    return bytes_text(value) if name == PEAK_MEMORY else seconds_text(value)


def _cost(one: Measurement | None) -> str:
    if one is None or one.value is None:
        return UNKNOWN
    if one.unit in ("bytes", "byte", "B"):
        return bytes_text(one.value)
    return seconds_text(one.value) if one.unit == "s" else value_text(one)


def _absent(name: str) -> str:
    return {
        "attended": "the plan does not declare attended_minutes",
        "from_scratch": "no evidence estimates what it would have cost to train such a network",
    }.get(name, "not measured")
