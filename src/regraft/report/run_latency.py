"""The report's answer to: how fast is it, and what does the speed cost in error?"""

from __future__ import annotations

import re
from collections.abc import Sequence

from msgspec.structs import replace

from regraft.record.evidence import Evidence, Finding, Measurement, Verdict, combine
from regraft.report.chapter import (
    UNKNOWN,
    Chapter,
    cell,
    count_of,
    interval_text,
    limit_text,
    rewritten,
    value_text,
    verdict_text,
    with_interval,
)
from regraft.report.figures import Figure
from regraft.report.run_figures import Interval, Line, intervals
from regraft.report.run_record import RunRecord, command_on, converted, first, measured, text
from regraft.report.sections import Section

_BATCH = re.compile(r" at batch (\d+)")
_WAS_BUSY = "The machine did other work while this was timed: on a quiet one it would be faster."
_LIMITS = {"RGB-BUD-001": Verdict.PASS, "RGB-BUD-002": Verdict.FAIL}


def latency(record: RunRecord) -> Chapter:
    """How fast each conversion is, next to what the speed costs in error."""
    bench = record.evidence("bench")
    common = Chapter(anchor="latency", title="How fast it is, and at what price")
    rows = _timed(bench)
    if bench is None or not rows:
        why = record.missing("bench") if bench is None else f"unknown: nothing was timed: {bench.summary}"
        return replace(common, gaps=(why,))
    budget = [f for f in bench.findings if f.rule.startswith("RGB-BUD-")]
    tables = [_latency_table(record, bench, rows)]
    if budget:
        words = tuple((verdict_text(_limit_verdict(f)), rewritten(f.message)) for f in budget)
        tones = tuple(_limit_verdict(f).value for f in budget)
        tables.append(Section("Against the device's budget", ("", "limit"), words, tones=tones))
    measured_on_busy = any(f.rule == "RGB-RUN-005" for f in bench.findings)
    caveats = [f for f in bench.findings if f.rule.startswith(("RGB-RUN-", "RGB-INP-"))]
    more = [Section("What to know before believing the intervals", ("severity", "what", "what to do"),
                    tuple((f.severity.value, rewritten(f.message), f.fix or "") for f in caveats),
                    tones=tuple(f.severity.value for f in caveats))] if caveats else []  # fmt: skip
    return replace(
        common,
        lead=(rewritten(f"{bench.summary}."), *([_WAS_BUSY] if measured_on_busy else [])),
        figures=(_latency_figure(record, bench, rows),),
        tables=tuple(tables),
        more=tuple(more),
        gaps=() if budget else ("unknown: whether a device's budget is met: none was judged",),
        command=command_on(record, "bench", converted(record)),
    )


def price(record: RunRecord, target: str) -> tuple[str, str, str]:
    """What a conversion costs in error: verdict, noise floors at the worst output (and limit), changed decisions."""
    step = record.step("verify", target)
    if step is None or step.evidence is None:
        return UNKNOWN, UNKNOWN, UNKNOWN
    worst = _worst(measured(step.evidence, "rms_ratio"))
    floors = UNKNOWN if worst is None else f"{worst.value:.3g} ({limit_text(worst)})"
    flips = measured(step.evidence, "decision_flips")
    said = UNKNOWN
    if flips:
        said = f"{sum(one.value or 0 for one in flips)} of {sum(one.n or 0 for one in flips):,}"
    return verdict_text(step.evidence.verdict), floors, said


def timing(record: RunRecord, target: str, name: str, batch: int | None = None) -> Measurement | None:
    """One measurement of a target's bench: by its runtime, or by the name of its package."""
    bench, converted = record.evidence("bench"), record.evidence("convert", target)
    package = converted.subject[0].name if converted is not None and converted.subject else None
    for one in measured(bench, name) if batch is None else measured(bench, name, batch=batch):
        if (package is not None and one.of.get("package") == package) or one.of.get("runtime") == target:
            return one
    return None


def budget_verdict(record: RunRecord, target: str) -> Verdict:
    """Whether a target's package is within the device's budget; pass where there is none."""
    bench, converted = record.step("bench"), record.evidence("convert", target)
    if bench is None:
        return Verdict.PASS
    if bench.evidence is None:
        return Verdict.INCONCLUSIVE
    name = converted.subject[0].name if converted is not None and converted.subject else target
    judged = [_limit_verdict(f) for f in bench.evidence.findings
              if f.rule.startswith("RGB-BUD-") and f.message.startswith(f"{name} in ")]  # fmt: skip
    return combine([Verdict.PASS, *judged])


def _limit_verdict(finding: Finding) -> Verdict:
    return _LIMITS.get(finding.rule, Verdict.INCONCLUSIVE)


def _timed(bench: Evidence | None) -> list[Measurement]:
    return [one for one in measured(bench, "latency_p95") if one.value is not None]


def _target_of(record: RunRecord, one: Measurement) -> str:
    """The target that a timed row is about; empty when it is none of them."""
    for target in record.targets:
        converted = record.evidence("convert", target)
        if converted is not None and converted.subject and converted.subject[0].name == one.of.get("package"):
            return target
    runtime = text(one.of.get("runtime"))
    return runtime if runtime in record.targets else ""


def _row_name(one: Measurement) -> str:
    return f"{cell(one.of.get('runtime'))} · batch {cell(one.of.get('batch'))}"


def _latency_figure(record: RunRecord, bench: Evidence, rows: Sequence[Measurement]) -> Figure:
    points = []
    table = []
    for last in rows:
        error = price(record, _target_of(record, last))
        median = first(measured(bench, "latency_p50", **last.of))
        for group, one in (("median", median), ("95th percentile", last)):
            if one is None or one.value is None:
                continue
            note = f"{error[0]}, {error[2]} decisions changed" if group == "95th percentile" else ""
            points.append(Interval(_row_name(last), group, one.value, one.low, one.high, note))
            table.append((_row_name(last), group, value_text(one), interval_text(one), count_of(one), *error))
    limits = [f for f in bench.findings if f.rule.startswith("RGB-BUD-") and f.data.get("unit") == "ms"]
    allowed = first([f.data.get("limit") for f in limits if "latency_p95" in f.message])
    line = Line(float(allowed), _budget_text(limits, allowed)) if isinstance(allowed, int | float) else None
    return intervals(
        points,
        title="Latency of a pass, and what it costs in error",
        caption="Dots are quantiles over interleaved passes, lines their 95 % intervals. Beside each stands whether "
        "the conversion is still the same model, and how many decisions changed.",
        quantity="milliseconds",
        limit=line,
        table=(
            ("row", "quantile", "latency", "95 % interval", "n", "same model?", "noise floors", "decisions changed"),
            tuple(table),
        ),
    )


def _budget_text(limits: Sequence[Finding], allowed: float) -> str:
    """What the line of the budget is called; it may hold for one size of batch alone."""
    batch = first([found[1] for f in limits if (found := _BATCH.search(f.message))])
    return f"budget {allowed:g} ms" + (f", batch {batch}" if batch else "")


def _latency_table(record: RunRecord, bench: Evidence, rows: Sequence[Measurement]) -> Section:
    shown = []
    for last in rows:
        package = {key: value for key, value in last.of.items() if key != "batch"}
        same, floors, flips = price(record, _target_of(record, last))
        shown.append(
            (
                cell(last.of.get("runtime")), cell(last.of.get("batch")), cell(last.of.get("precision")),
                _bare(first(measured(bench, "latency_p50", **last.of))), _bare(last),
                _bare(first(measured(bench, "throughput", **last.of))),
                value_text(first(measured(bench, "peak_memory", **package))),
                value_text(first(measured(bench, "size_on_disk", **package))), count_of(last),
                same, floors, flips,
            )
        )  # fmt: skip
    threads = cell(bench.parameters.get("threads"))
    note = f"{bench.environment.cpu}, {threads} threads; {cell(bench.parameters.get('intervals'))}."
    columns = ("runtime", "batch", "precision", "p50, ms", "p95, ms", "rows/s", "memory", "size", "n", "same?",
               "floors", "flips")  # fmt: skip
    return Section("Measured side by side", columns, tuple(shown), numeric=(1, 8), notes=(note,))


def _bare(one: Measurement | None) -> str:
    """Value and interval without the unit, which the head of the column has."""
    return with_interval(None if one is None else replace(one, unit=""))


def _worst(several: Sequence[Measurement]) -> Measurement | None:
    known = [one for one in several if one.value is not None]
    return max(known, key=lambda one: one.value or 0.0) if known else None
