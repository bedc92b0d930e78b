"""The report's answer to: is what came out still the same model, what is known about it, and may it be used?"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from regraft.record.evidence import Evidence, Measurement, Severity, Subject, Verdict
from regraft.report.chapter import (
    UNKNOWN,
    Chapter,
    cell,
    count_of,
    interval_text,
    tone,
    value_text,
    verdict_text,
    with_interval,
)
from regraft.report.figures import Figure
from regraft.report.run_figures import Interval, Line, Point, intervals, layers
from regraft.report.run_record import RunRecord, RunStep, first, measured, text
from regraft.report.sections import FACT_KNOWN, FACT_UNKNOWN, SEVERITY_ORDER, Section, described, provenance_text

PACKAGES = "packages"
"""Folder beside the page, in which copies of what was made lie."""
_ASKED = ("adapt", "convert", "verify", "bench", "inspect", "scan", "check")
_NEVER_ASKED = {
    "reproduce": "whether published numbers of the package hold",
    "audit": "how it answers to attacks",
    "sign": "who vouches for these bytes",
    "bom": "what it is made of, for others",
}


def passport(record: RunRecord) -> Chapter:
    """What is known about each converted package, and what is not."""
    tables, gaps = [], []
    for target in record.targets:
        rows = [*_standing(record, target)]
        tables.append(Section(f"For {target}", ("asked", "verdict", "what it says"), tuple(r[:3] for r in rows),
                              tones=tuple(r[3] for r in rows)))  # fmt: skip
        inspection = record.evidence("inspect", target)
        if inspection is None:
            gaps.append(f"{target}: what it is: {record.missing('inspect', target)}")
        else:
            tables.append(_facts(inspection, target))
    if not record.targets:
        gaps.append("unknown: nothing was converted, so there is no package to know about")
    return Chapter(
        anchor="passport", title="Passport of the result", tables=tuple(tables), gaps=tuple(gaps),
        command="regraft inspect PACKAGE" if record.targets else "",
    )  # fmt: skip


def lineage(record: RunRecord) -> Chapter:
    """From which package each one was made, and the evidence in between."""
    rows: list[tuple[str, ...]] = []
    for step in (*record.of("adapt"), *record.of("convert")):
        if step.evidence is None:
            rows.append((step.name, UNKNOWN, UNKNOWN, UNKNOWN, step.said))
            continue
        evidence = step.evidence
        for number, parent in enumerate(evidence.materials or (None,)):
            made = _short(evidence.subject[0]) if evidence.subject and number == 0 else ""
            source = UNKNOWN if parent is None else _short(parent)
            rows.append(
                (step.name if number == 0 else "", source, made,
                 verdict_text(step.verdict, evidence.outcome) if number == 0 else "",
                 evidence.digest[:12] if number == 0 else "")
            )  # fmt: skip
    digests = tuple(dict.fromkeys((s.name, s.sha256, s.digest.value) for s in _packages(record)))
    return Chapter(
        anchor="lineage",
        title="Lineage",
        lead=(_chain(record),),
        tables=(Section("Made by which step from what", ("step", "from", "made", "verdict", "evidence"), tuple(rows)),)
        if rows
        else (),
        more=(Section("Full digests", ("package", "sha256", "digest"), digests),) if digests else (),
        gaps=() if rows else ("unknown: nothing was adapted or converted",),
        command="sha256sum FILE compares a file with the manifest that these digests stand for",
    )


def divergence(record: RunRecord) -> Chapter:
    """How far each conversion is from its source, at the outputs and layer by layer."""
    found = [(target, record.step("verify", target)) for target in record.targets]
    gaps = [f"{target}: {record.missing('verify', target)}" for target, step in found
            if step is None or step.evidence is None]  # fmt: skip
    known = [(target, step.evidence) for target, step in found if step is not None and step.evidence is not None]
    lead = tuple(f"{target}: {verdict_text(evidence.verdict)}: {evidence.summary}." for target, evidence in known)
    figures = []
    if any(measured(evidence, "layer_rms_ratio") for _, evidence in known):
        figures.append(_layer_figure(known))
    for target, evidence in known:
        if not measured(evidence, "layer_rms_ratio"):
            why = first([f.message for f in evidence.findings if f.rule == "divergence.layers"])
            gaps.append(f"{target}: divergence by layer: unknown: {why or 'no layer was measured'}")
    table = _output_table(known)
    return Chapter(
        anchor="divergence",
        title="Is it still the same model?",
        lead=lead,
        figures=tuple(figures),
        tables=(table,) if table is not None else (),
        gaps=tuple(gaps) or (() if found else ("unknown: nothing was converted, so nothing was compared",)),
        command=_command(record, "verify", [e for _, e in known[:1]]),
    )


def latency(record: RunRecord) -> Chapter:
    """How fast each conversion is, next to what the speed costs in error."""
    bench = record.evidence("bench")
    common = {"anchor": "latency", "title": "How fast it is, and at what price"}
    rows = _timed(bench)
    if bench is None or not rows:
        why = record.missing("bench") if bench is None else f"unknown: nothing was timed: {bench.summary}"
        return Chapter(**common, gaps=(why,))  # type: ignore[arg-type]
    budget = [f for f in bench.findings if f.rule.startswith("RGB-BUD-")]
    tables = [_latency_table(record, bench, rows)]
    if budget:
        words = tuple((verdict_text({"RGB-BUD-001": Verdict.PASS, "RGB-BUD-002": Verdict.FAIL}.get(
            f.rule, Verdict.INCONCLUSIVE)), f.message) for f in budget)  # fmt: skip
        tables.append(Section("Against the device's budget", ("", "limit"), words))
    caveats = [f for f in bench.findings if f.rule.startswith(("RGB-RUN-", "RGB-INP-"))]
    more = [Section("What to know before believing the intervals", ("severity", "what", "what to do"),
                    tuple((f.severity.value, f.message, f.fix or "") for f in caveats),
                    tones=tuple(f.severity.value for f in caveats))] if caveats else []  # fmt: skip
    return Chapter(
        **common,
        lead=(f"{bench.summary}.",),
        figures=(_latency_figure(record, bench, rows),),
        tables=tuple(tables),
        more=tuple(more),
        gaps=() if budget else ("unknown: whether a device's budget is met: none was judged",),
        command=_command(record, "bench", [e for t in record.targets if (e := record.evidence("convert", t))]),
    )


def policy(record: RunRecord) -> Chapter:
    """What the policy decided about each package, demand by demand."""
    tables, gaps, lead = [], [], []
    for target in record.targets:
        evidence = record.evidence("check", target)
        if evidence is None:
            gaps.append(f"{target}: {record.missing('check', target)}")
            continue
        lead.append(f"{target}: {verdict_text(evidence.verdict, evidence.outcome)}: {evidence.summary}.")
        ordered = sorted(evidence.findings, key=lambda f: SEVERITY_ORDER.index(f.severity))
        rows = tuple((_decision(f.severity), f.rule, f.message, f.fix or "") for f in ordered)
        if rows:
            tables.append(Section(f"For {target}", ("decision", "rule", "why", "what to do"), rows,
                                  tones=tuple(f.severity.verdict.value for f in ordered)))  # fmt: skip
    if not record.targets:
        gaps.append("unknown: there is no package that a policy could judge")
    return Chapter(anchor="policy", title="What the policy says", lead=tuple(lead), tables=tuple(tables),
                   gaps=tuple(gaps), command="regraft check PACKAGE --policy POLICY" if tables else "")  # fmt: skip


def price(record: RunRecord, target: str) -> tuple[str, str, str]:
    """What a conversion costs in error: verdict, noise floors at the worst output, decisions that changed."""
    step = record.step("verify", target)
    if step is None or step.evidence is None:
        return UNKNOWN, UNKNOWN, UNKNOWN
    worst = _worst(measured(step.evidence, "rms_ratio"))
    floors = UNKNOWN if worst is None else f"{worst.value:.3g} (rounding explains {_limit_text(worst)})"
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


def _standing(record: RunRecord, target: str) -> Iterator[tuple[str, str, str, str]]:
    for verb in _ASKED:
        about = None if verb in ("adapt", "bench") else target
        step = record.step(verb, about)
        if step is None or step.evidence is None:
            yield verb, UNKNOWN, record.missing(verb, about), "absent"
        else:
            yield verb, verdict_text(step.verdict, step.evidence.outcome), step.evidence.summary, tone(step.verdict)
    for verb, what in _NEVER_ASKED.items():
        if record.step(verb) is None:
            yield verb, UNKNOWN, f"not looked at: {what}", "absent"


def _facts(inspection: Evidence, target: str) -> Section:
    known, unknown = described(inspection, FACT_KNOWN), described(inspection, FACT_UNKNOWN)
    rows = [(cell(d.get("field")), cell(d.get("text", d.get("value"))), provenance_text(_list(d.get("provenance"))))
            for d in known]  # fmt: skip
    rows += [(cell(d.get("field")), UNKNOWN, f"not in: {cell(d.get('could_say'))}") for d in unknown]
    if not rows:
        rows = [("everything", UNKNOWN, inspection.summary)]
    tones = ("",) * len(known) + ("absent",) * (len(rows) - len(known))
    return Section(f"What it is ({target})", ("field", "value", "who says so"), tuple(rows), tones=tones)


def _packages(record: RunRecord) -> Iterator[Subject]:
    for step in (*record.of("adapt"), *record.of("convert")):
        if step.evidence is not None:
            yield from step.evidence.materials
            yield from step.evidence.subject[:1]


def _chain(record: RunRecord) -> str:
    adapted = record.evidence("adapt")
    parts = []
    if adapted is not None and adapted.materials and adapted.subject:
        parts = [_short(adapted.materials[0]), f"adapted: {_short(adapted.subject[0])}"]
    made = [f"{t}: {_short(e.subject[0])}" for t in record.targets
            if (e := record.evidence("convert", t)) is not None and e.subject]  # fmt: skip
    return " → ".join([*(parts or [f"adapted: {UNKNOWN}"]), "; ".join(made) or f"converted: {UNKNOWN}"]) + "."


def _short(subject: Subject) -> str:
    return f"{subject.name} ({subject.sha256[:12]})"


def _layer_figure(known: Sequence[tuple[str, Evidence]]) -> Figure:
    points, rows, limits = [], [], {}
    equal = 0
    for target, evidence in known:
        found = measured(evidence, "layer_rms_ratio")
        for number, one in enumerate(found):
            order = one.of.get("order")
            place = order if isinstance(order, int | float) else number
            if one.value is not None:
                points.append(Point(target, place, one.value))
                equal += one.value == 0
            peak = one.of.get("peak_ratio")
            rows.append(
                (target, cell(place), cell(one.of.get("layer")), cell(one.of.get("operator")),
                 UNKNOWN if one.value is None else f"{one.value:.3g}",
                 f"{peak:.3g}" if isinstance(peak, int | float) else UNKNOWN)
            )  # fmt: skip
        limit = first(measured(evidence, "rms_ratio"))
        if limit is not None and isinstance(limit.of.get("benign_up_to"), int | float):
            limits[limit.of["benign_up_to"]] = f"rounding explains up to {limit.of['benign_up_to']:.3g} at an output"
    drawn = [Line(float(at), label) for at, label in limits.items()]  # type: ignore[arg-type]
    on = first([text(e.parameters.get("layers_on")) for _, e in known])
    caption = (
        "Each dot is one layer's deviation from float64, in units of the deviation that the source's own float32 run "
        f"has there (RMS, on {on or 'one pass'}); 1 is what rounding alone does. The line was measured on outputs of "
        "benign conversions: layers above it do not fail by themselves."
    )
    caption += f" {equal} layers are bitwise equal and not drawn." if equal else ""
    columns = ("target", "order", "layer", "operator", "RMS, floors", "peak, floors")
    lines = [*drawn, Line(1.0, "1: what float32 rounding does to the source itself")]
    return layers(points, title="Divergence by layer", caption=caption, limits=lines, table=(columns, tuple(rows)))


def _output_table(known: Sequence[tuple[str, Evidence]]) -> Section | None:
    rows, tones = [], []
    for target, evidence in known:
        for one in evidence.measurements:
            if one.name in ("rms_ratio", "peak_ratio", "relative_error", "decision_flips",
                            "decision_flips_beyond_floor"):  # fmt: skip
                shown = UNKNOWN if one.value is None else f"{one.value:.3g}"
                limit = _limit_text(one) if "ratio" in one.name else ""
                rows.append((target, cell(one.of.get("output")), one.name.replace("_", " "), shown, one.unit, limit,
                             count_of(one)))  # fmt: skip
                tones.append("")
    if not rows:
        return None
    alarms = first([one for _, e in known for one in measured(e, "false_alarm_share")])
    notes: tuple[str, ...] = ()
    if alarms is not None and alarms.value is not None:
        bound = UNKNOWN if alarms.high is None else f"{alarms.high:.2%}"
        said = f"{alarms.value:.2%} of {count_of(alarms)} (95 % bound {bound})"
        notes = (f"False alarms of these limits on benign conversions: {said}.",)
    columns = ("target", "output", "what", "value", "unit", "rounding explains", "n")
    return Section("At the outputs, worst of all feeds", columns, tuple(rows), numeric=(3, 5, 6), notes=notes)


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
            note = f"{error[0]}, flips {error[2]}" if group == "95th percentile" else ""
            points.append(Interval(_row_name(last), group, one.value, one.low, one.high, note))
            table.append((_row_name(last), group, value_text(one), interval_text(one), count_of(one), *error))
    limits = [f for f in bench.findings if f.rule.startswith("RGB-BUD-") and f.data.get("unit") == "ms"]
    allowed = first([f.data.get("limit") for f in limits if "latency_p95" in f.message])
    line = Line(float(allowed), f"budget {allowed:g} ms") if isinstance(allowed, int | float) else None
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


def _latency_table(record: RunRecord, bench: Evidence, rows: Sequence[Measurement]) -> Section:
    shown = []
    for last in rows:
        package = {key: value for key, value in last.of.items() if key != "batch"}
        error = price(record, _target_of(record, last))
        shown.append(
            (
                cell(last.of.get("runtime")), cell(last.of.get("batch")), cell(last.of.get("precision")),
                with_interval(first(measured(bench, "latency_p50", **last.of))), with_interval(last),
                with_interval(first(measured(bench, "throughput", **last.of))),
                value_text(first(measured(bench, "peak_memory", **package))),
                value_text(first(measured(bench, "size_on_disk", **package))), count_of(last), *error,
            )
        )  # fmt: skip
    threads = cell(bench.parameters.get("threads"))
    note = f"{bench.environment.cpu}, {threads} threads; {cell(bench.parameters.get('intervals'))}."
    columns = ("runtime", "batch", "precision", "p50", "p95", "throughput", "peak memory", "size", "n", "same model?",
               "noise floors", "decisions changed")  # fmt: skip
    return Section("Measured side by side", columns, tuple(shown), numeric=(1, 8), notes=(note,))


def _worst(several: Sequence[Measurement]) -> Measurement | None:
    known = [one for one in several if one.value is not None]
    return max(known, key=lambda one: one.value or 0.0) if known else None


def _limit_text(one: Measurement) -> str:
    limit = one.of.get("benign_up_to")
    return f"≤ {limit:.3g}" if isinstance(limit, int | float) else UNKNOWN


def _decision(severity: Severity) -> str:
    return {Verdict.PASS: "met", Verdict.FAIL: "broken", Verdict.INCONCLUSIVE: "undecided"}[severity.verdict]


def _command(record: RunRecord, verb: str, converted: Sequence[Evidence]) -> str:
    """The verb alone, on the copies that lie beside the page."""
    adapted: RunStep | None = record.step("adapt")
    names = [e.subject[0].name for e in converted if e.subject]
    if verb == "verify" and adapted is not None and adapted.evidence is not None and adapted.evidence.subject:
        names = [adapted.evidence.subject[0].name, *names]
    if not names:
        return ""
    return " ".join(["regraft", verb, *(shlex.quote(f"{PACKAGES}/{name}") for name in names)])


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
