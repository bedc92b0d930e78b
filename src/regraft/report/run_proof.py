"""The report's answer to: is what came out still the same model, what is known about it, and may it be used?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from regraft.record.evidence import Evidence, Severity, Subject, Verdict
from regraft.report.chapter import (
    UNKNOWN,
    Chapter,
    Node,
    cell,
    count_of,
    limit_text,
    percent,
    rewritten,
    tone,
    verdict_text,
)
from regraft.report.figures import Figure
from regraft.report.run_figures import Line, Point, layers
from regraft.report.run_record import RunRecord, command_on, converted, first, measured, text
from regraft.report.sections import FACT_KNOWN, FACT_UNKNOWN, SEVERITY_ORDER, Section, described, provenance_text

_ASKED = ("adapt", "convert", "verify", "bench", "inspect", "scan", "check")
_NEVER_ASKED = {
    "reproduce": "whether published numbers of the package hold",
    "audit": "how it answers to attacks",
    "sign": "who vouches for these bytes",
    "bom": "what it is made of, for others",
}


def passport(record: RunRecord) -> Chapter:
    """What is known about the converted packages, and what is not."""
    asked = list(_standing(record))
    tables = [Section("What was asked about it", ("verdict", "asked", "about", "what it says"),
                      tuple(row[:4] for row in asked), tones=tuple(row[4] for row in asked))]  # fmt: skip
    facts, gaps = [], []
    for target in record.targets:
        inspection = record.evidence("inspect", target)
        if inspection is None:
            gaps.append(f"{target}: what it is: {record.missing('inspect', target)}")
        else:
            facts.append(_facts(inspection, target))
    if not record.targets:
        gaps.append("unknown: nothing was converted, so there is no package to know about")
    return Chapter(
        anchor="passport", title="Passport of the result", tables=(*tables, *facts[:1]), more=tuple(facts[1:]),
        gaps=tuple(gaps), command=command_on(record, "inspect", converted(record)[:1]),
    )  # fmt: skip


def lineage(record: RunRecord) -> Chapter:
    """From which package each one was made, and the evidence in between."""
    rows: list[tuple[str, ...]] = []
    for step in (*record.of("adapt"), *record.of("convert")):
        if step.evidence is None:
            rows.append((step.name, UNKNOWN, UNKNOWN, UNKNOWN, step.said))
            continue
        evidence = step.evidence
        source = UNKNOWN if not evidence.materials else _short(evidence.materials[0])
        source += f" and {len(evidence.materials) - 1} more" if len(evidence.materials) > 1 else ""
        made = _short(evidence.subject[0]) if evidence.subject else UNKNOWN
        rows.append((step.name, source, made, verdict_text(step.verdict, evidence.outcome), evidence.digest[:12]))
    digests = tuple(dict.fromkeys((s.name, s.sha256, s.digest.value) for s in _packages(record)))
    return Chapter(
        anchor="lineage",
        title="Lineage",
        chain=_chain(record),
        tables=(Section("Made by which step from what", ("step", "from", "made", "verdict", "evidence"), tuple(rows)),)
        if rows
        else (),
        more=(
            Section(
                "Every package, file and row that went in, with full digests", ("package", "sha256", "digest"), digests
            ),
        )
        if digests
        else (),
        gaps=() if rows else ("unknown: nothing was adapted or converted",),
    )


def divergence(record: RunRecord) -> Chapter:
    """How far each conversion is from its source, at the outputs and layer by layer."""
    asked = [(target, record.step("verify", target)) for target in record.targets]
    gaps = [f"{target}: {record.missing('verify', target)}" for target, step in asked
            if step is None or step.evidence is None]  # fmt: skip
    known = [(target, step.evidence) for target, step in asked if step is not None and step.evidence is not None]
    lead = tuple(rewritten(f"{target}: {verdict_text(found.verdict)}: {found.summary}.") for target, found in known)
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
        gaps=tuple(gaps) or (() if asked else ("unknown: nothing was converted, so nothing was compared",)),
        command=command_on(record, "verify", [e for _, e in known[:1]]),
    )


def policy(record: RunRecord) -> Chapter:
    """What the policy decided about each package, demand by demand."""
    tables, gaps, lead = [], [], []
    for target in record.targets:
        evidence = record.evidence("check", target)
        if evidence is None:
            gaps.append(f"{target}: {record.missing('check', target)}")
            continue
        lead.append(rewritten(f"{target}: {verdict_text(evidence.verdict, evidence.outcome)}: {evidence.summary}."))
        ordered = sorted(evidence.findings, key=lambda f: SEVERITY_ORDER.index(f.severity))
        rows = tuple(
            (_decision(f.severity), f.where.field or "", rewritten(f.message), f.fix or "", f.rule) for f in ordered
        )
        if rows:
            tables.append(Section(f"For {target}", ("decision", "about", "why", "what to do", "rule"), rows,
                                  tones=tuple(f.severity.verdict.value for f in ordered)))  # fmt: skip
    if not record.targets:
        gaps.append("unknown: there is no package that a policy could judge")
    return Chapter(anchor="policy", title="What the policy says", lead=tuple(lead), tables=tuple(tables),
                   gaps=tuple(gaps), command="regraft check PACKAGE --policy POLICY" if tables else "")  # fmt: skip


def _standing(record: RunRecord) -> Iterator[tuple[str, str, str, str, str]]:
    for verb in _ASKED:
        for about in (None,) if verb in ("adapt", "bench") else record.targets or (None,):
            step = record.step(verb, about)
            if step is None or step.evidence is None:
                yield UNKNOWN, verb, about or "", record.missing(verb, about), "absent"
                continue
            verdict = verdict_text(step.verdict, step.evidence.outcome)
            yield verdict, verb, about or "", rewritten(step.evidence.summary), tone(step.verdict)
    for verb, what in _NEVER_ASKED.items():
        if record.step(verb) is None:
            yield UNKNOWN, verb, "", f"not looked at: {what}", "absent"


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


def _chain(record: RunRecord) -> tuple[tuple[Node, ...], ...]:
    adapted = record.evidence("adapt")
    source = first(adapted.materials) if adapted is not None else None
    product = first(adapted.subject) if adapted is not None else None
    made = tuple(
        _node(f"converted: {target}", first(evidence.subject) if evidence is not None else None)
        for target in record.targets
        for evidence in [record.evidence("convert", target)]
    )
    return ((_node("candidate", source),), (_node("adapted", product),), made or (_node("converted", None),))


def _node(role: str, subject: Subject | None) -> Node:
    return Node(role, UNKNOWN, "") if subject is None else Node(role, subject.name, subject.sha256[:12])


def _short(subject: Subject) -> str:
    return f"{subject.name} ({subject.sha256[:12]})"


def _layer_figure(known: Sequence[tuple[str, Evidence]]) -> Figure:
    points, rows = [], []
    limits: dict[float, str] = {}
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
        at = limit.of.get("benign_up_to") if limit is not None else None
        if isinstance(at, int | float):
            limits[float(at)] = f"{at:.3g}: limit at an output"
    drawn = [Line(at, label) for at, label in limits.items()]
    on = first([text(e.parameters.get("layers_on")) for _, e in known])
    caption = (
        "Each dot is one layer's deviation from float64, in units of the deviation that the source's own float32 run "
        f"has there (RMS, on {on or 'one pass'}); 1 is what rounding alone does. The line was measured on outputs of "
        "benign conversions: layers above it do not fail by themselves."
    )
    caption += f" {equal} layers are bitwise equal and not drawn." if equal else ""
    columns = ("target", "order", "layer", "operator", "RMS, floors", "peak, floors")
    lines = [*drawn, Line(1.0, "1: the source's own rounding")]
    return layers(points, title="Divergence by layer", caption=caption, limits=lines, table=(columns, tuple(rows)))


def _output_table(known: Sequence[tuple[str, Evidence]]) -> Section | None:
    rows, tones = [], []
    for target, evidence in known:
        for one in evidence.measurements:
            if one.name in ("rms_ratio", "peak_ratio", "relative_error", "decision_flips",
                            "decision_flips_beyond_floor"):  # fmt: skip
                shown = UNKNOWN if one.value is None else f"{one.value:.3g}"
                limit = limit_text(one) if "ratio" in one.name else ""
                rows.append((target, cell(one.of.get("output")), one.name.replace("_", " "), shown, one.unit, limit,
                             count_of(one)))  # fmt: skip
                tones.append("")
    if not rows:
        return None
    alarms = first([one for _, e in known for one in measured(e, "false_alarm_share")])
    notes: tuple[str, ...] = ()
    if alarms is not None and alarms.value is not None and alarms.n is not None:
        several = alarms.of.get("architectures")
        of = f" of {several} architectures" if isinstance(several, int) else ""
        told = f"{alarms.value * alarms.n:.0f} of {alarms.n} benign conversions{of}"
        bound = f"; the true share is below {percent(alarms.high)} with 95 % confidence" if alarms.high else ""
        notes = (f"These limits would have failed {told}{bound}.",)
    columns = ("target", "output", "what", "value", "unit", "rounding explains", "n")
    return Section("At the outputs, worst of all feeds", columns, tuple(rows), numeric=(3, 5, 6), notes=notes)


def _decision(severity: Severity) -> str:
    return {Verdict.PASS: "met", Verdict.FAIL: "broken", Verdict.INCONCLUSIVE: "undecided"}[severity.verdict]


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
