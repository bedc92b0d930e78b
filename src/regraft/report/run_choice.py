"""The report's answer to: which candidate, why, and what is reuse worth?"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from msgspec.structs import replace

from regraft.record.evidence import JSON, Evidence, Finding, Measurement
from regraft.report.chapter import (
    UNKNOWN,
    Chapter,
    cell,
    count_of,
    interval_text,
    percent,
    rewritten,
    sentence,
    value_text,
    with_interval,
)
from regraft.report.figures import Figure
from regraft.report.quantity import bytes_text
from regraft.report.run_figures import Interval, Line, Point, curves, intervals
from regraft.report.run_record import RunRecord, first, measured, text
from regraft.report.sections import Section

_CROSS, _HELD_OUT = "cross-validation", "held-out"


def chosen(record: RunRecord) -> tuple[str, tuple[str, ...]]:
    """The candidate that was chosen and the reasons; an empty name where none was, or nobody knows."""
    evidence = record.evidence("select")
    for finding in evidence.findings if evidence is not None else ():
        if name := text(finding.data.get("chosen")):
            reasons = finding.data.get("reasons")
            return name, tuple(map(cell, reasons)) if isinstance(reasons, list) else (finding.message,)
    return "", ()


def choice(record: RunRecord) -> Chapter:
    """What was chosen among which, how good each is, and what could not be told apart."""
    evidence = record.evidence("select")
    common = Chapter(anchor="choice", title="What was chosen, and why")
    if evidence is None:
        return replace(common, gaps=(record.missing("select"),))
    name, reasons = chosen(record)
    why = f"{name}: {'; '.join(reasons)}." if name else f"Nothing was chosen: {evidence.summary}."
    lead = (rewritten(why),)
    ties = tuple(sentence(f.message) for f in _with(evidence, "group"))
    unknown = tuple(sentence(f.message) for f in evidence.findings if f.data.get("adaptation"))
    names = _competitors(evidence)
    figures = (_selection_figure(evidence, names, name),) if names else ()
    tables = [_competitor_table(evidence, names, name)] if names else []
    if left_out := [f for f in evidence.findings if "code" in f.data and "candidate" in f.data]:
        rows = tuple((cell(f.data.get("candidate")), f.message, f.fix or "") for f in left_out)
        tables.append(Section("Candidates that were not compared", ("candidate", "why", "what to do"), rows))
    gaps = unknown if names else (f"unknown: no accuracy was measured: {evidence.summary}", *unknown)
    return replace(
        common,
        lead=(*lead, *ties),
        figures=figures,
        tables=tuple(tables),
        more=tuple(filter(None, [_data_table(evidence)])),
        gaps=gaps,
        command=_command(evidence),
    )


def worth(record: RunRecord) -> Chapter:
    """The learning curves: how many labels the baseline needs to catch up."""
    evidence = record.evidence("select")
    common = Chapter(anchor="worth", title="What reuse is worth")
    points = measured(evidence, "learning_curve")
    known = [one for one in points if one.value is not None and isinstance(one.of.get("labels"), int | float)]
    if evidence is None or not known:
        why = record.missing("select") if evidence is None else "unknown: no learning curve was measured"
        return replace(common, gaps=(why,))
    catch_up = first(measured(evidence, "labels_to_catch_up"))
    lead = tuple(sentence(f.message) for f in evidence.findings if "most" in f.data)
    if not lead and catch_up is not None:
        ahead, at = cell(catch_up.of.get("reaches")), cell(catch_up.of.get("at_labels"))
        needs = f"{labels_text(catch_up)} labels {labels_interval(catch_up)}"
        lead = (f"{cell(catch_up.of.get('method'))} needs {needs} to be as good as {ahead} at {at}.",)
    return replace(
        common,
        lead=lead,
        figures=(_curve_figure(known, catch_up),),
        gaps=() if lead else ("unknown: how many labels the baseline would need to catch up",),
        command=_command(evidence),
    )


def gain(record: RunRecord) -> Chapter:
    """How good the adapted package is on rows that nothing was learnt or chosen from."""
    evidence = record.evidence("adapt")
    common = Chapter(anchor="adapted", title="How good it is on rows that it has not seen")
    if evidence is None:
        return replace(common, gaps=(record.missing("adapt"),))
    wanted = ("accuracy", "baseline_accuracy", "accuracy_gain", "recall", "log_loss", "calibration_error",
              "reload_deviation")  # fmt: skip
    rows = tuple(
        (_named(one), _plain_value(one), interval_text(one), count_of(one), _conditions(one))
        for one in evidence.measurements
        if one.name in wanted
    )
    columns = ("what", "value", "95 % interval", "n", "of")
    accuracy = first(measured(evidence, "accuracy"))
    learnt = accuracy.of.get("labels") if accuracy is not None else None
    note = f"Learnt from {cell(learnt)} labelled rows, seed {cell(evidence.parameters.get('seed'))}."
    tables = (Section("Measured on held-out rows", columns, rows, numeric=(1, 3), notes=(note,)),) if rows else ()
    gaps = () if rows else ("unknown: nothing was measured on held-out rows",)
    lead = (sentence(evidence.summary),)
    return replace(common, lead=lead, tables=tables, gaps=gaps, command=_command(evidence))


def _competitors(evidence: Evidence) -> list[str]:
    """Names in the order of the ranking, which is that of the measurements."""
    return list(dict.fromkeys(cell(one.of.get("candidate")) for one in _accuracies(evidence)))


def _accuracies(evidence: Evidence, **of: JSON) -> list[Measurement]:
    return [one for one in measured(evidence, "accuracy", **of) if one.of.get("method") != "k-NN"]


def _is_baseline(evidence: Evidence, name: str) -> bool:
    """Baselines are no packages: nobody measured their size or the time of their features."""
    return not measured(evidence, "feature_time", candidate=name) and not measured(evidence, "size", candidate=name)


def _selection_figure(evidence: Evidence, names: Sequence[str], picked: str) -> Figure:
    points = [
        Interval(_label(evidence, name, picked), split, one.value, one.low, one.high, percent(one.value))
        for name in names
        for split in (_CROSS, _HELD_OUT)
        for one in _accuracies(evidence, candidate=name, split=split)[:1]
        if one.value is not None
    ]
    labels = first([one.of.get("labels") for one in _accuracies(evidence) if one.of.get("labels") is not None])
    caption = (
        "Dots are means, lines are 95 % intervals. Cross-validation on the learning rows orders; the held-out "
        "rows only judge. Places whose difference is within noise share a number: they are ties. Baselines are in the "
        "same table."
    )
    columns = ("place", "what", "method", "split", "accuracy", "95 % interval", "n")
    rows = tuple(
        (_place(one), cell(one.of.get("candidate")), cell(one.of.get("method")), cell(one.of.get("split")),
         value_text(one), interval_text(one), count_of(one))
        for one in measured(evidence, "accuracy")
    )  # fmt: skip
    at = f" after learning from {labels:,} rows" if isinstance(labels, int) else ""
    return intervals(
        points,
        title=f"Accuracy{at}",
        caption=caption,
        quantity="accuracy",
        percent=True,
        table=(columns, rows),
    )


def _label(evidence: Evidence, name: str, picked: str) -> str:
    place = _place(first(_accuracies(evidence, candidate=name)))
    mark = " (baseline)" if _is_baseline(evidence, name) else " ← chosen" if name == picked else ""
    return f"{place} · {name}{mark}"


def _place(one: Measurement | None) -> str:
    return UNKNOWN if one is None or one.of.get("group") is None else f"{one.of['group']}"


def _competitor_table(evidence: Evidence, names: Sequence[str], picked: str) -> Section:
    rows: list[tuple[str, ...]] = []
    tones = []
    for name in names:
        cross = first(_accuracies(evidence, candidate=name, split=_CROSS))
        held_out = first(_accuracies(evidence, candidate=name, split=_HELD_OUT))
        near = first(measured(evidence, "accuracy", candidate=name, method="k-NN"))
        behind = first(measured(evidence, "accuracy_lead", against=name))
        size = first(measured(evidence, "size", candidate=name))
        time = first(measured(evidence, "feature_time", candidate=name))
        is_baseline = _is_baseline(evidence, name)
        role = "chosen" if name == picked else "baseline" if is_baseline else ""
        rows.append(
            (
                _place(cross), name, role, with_interval(cross), with_interval(held_out),
                "" if is_baseline else value_text(near), "leads" if not rows else with_interval(behind),
                "" if is_baseline else UNKNOWN if size is None or size.value is None else bytes_text(size.value),
                "" if is_baseline else value_text(time),
            )
        )  # fmt: skip
        tones.append("pass" if name == picked else "")
    n = first([count_of(one) for one in _accuracies(evidence, split=_HELD_OUT)]) or UNKNOWN
    folds, repeats = cell(evidence.parameters.get("folds")), cell(evidence.parameters.get("repeats"))
    note = (
        f"95 % intervals: {cell(evidence.parameters.get('intervals'))}. {folds} folds × {repeats} repeats; {n} "
        f"held-out rows; seed {cell(evidence.parameters.get('seed'))}. The same place is a tie."
    )
    columns = ("place", "what", "", "cross-validation", "held-out", "k-NN", "behind the first by", "size", "time a row")
    return Section("Everything that was compared", columns, tuple(rows), numeric=(7, 8), tones=tuple(tones),
                   notes=(note,))  # fmt: skip


def _data_table(evidence: Evidence) -> Section | None:
    found = [f for f in evidence.findings if f.rule.startswith("RGA-DATA-")]
    if not found:
        return None
    rows = tuple((f.severity.value, f.message, f.fix or "") for f in found)
    return Section("What was seen in the data", ("severity", "what", "what to do"), rows,
                   tones=tuple(f.severity.value for f in found))  # fmt: skip


def _curve_figure(known: Sequence[Measurement], catch_up: Measurement | None) -> Figure:
    points = [
        Point(cell(one.of.get("method")), float(one.of["labels"]), one.value, one.low, one.high)  # type: ignore[arg-type]
        for one in known
        if one.value is not None
    ]
    level = reached = None
    if catch_up is not None:
        ahead, at = cell(catch_up.of.get("reaches")), catch_up.of.get("at_labels")
        target = first([p.y for p in points if p.series == ahead and p.x == at])
        if target is not None and isinstance(at, int | float):
            level = Line(target, f"{ahead} at {at:,} labels: {percent(target)}")
        if catch_up.value is not None:
            reached = Line(catch_up.value, f"caught up: {catch_up.value:,.0f} labels")
    rows = tuple(
        (cell(one.of.get("method")), f"{one.of['labels']:,}", percent(one.value), interval_text(one), count_of(one))
        for one in known
    )
    if catch_up is not None:
        rows += (
            (f"{cell(catch_up.of.get('method'))} catches up", labels_text(catch_up), "", labels_interval(catch_up), ""),
        )
    return curves(
        points,
        title="Accuracy on held-out rows, by the number of labels",
        caption="Points are means over random draws of the labels, bands the smallest and largest draw. Where the "
        "baseline's curve meets the dashed line, reuse has saved the labels to its left.",
        quantity="labels (logarithmic)",
        level=level,
        reached=reached,
        table=(("method", "labels", "accuracy", "range of draws", "draws"), rows),
    )


def labels_text(one: Measurement) -> str:
    """How many labels; beyond those that were tried, more than that."""
    most = one.of.get("most_tried")
    return f"{one.value:,.0f}" if one.value is not None else f"more than {most:,}" if isinstance(most, int) else UNKNOWN


def labels_interval(one: Measurement) -> str:
    """The interval of that number."""
    most = one.of.get("most_tried")
    beyond = f"more than {most:,}" if isinstance(most, int) else "?"
    return f"[{', '.join(beyond if end is None else f'{end:,.0f}' for end in (one.low, one.high))}]"


def _named(one: Measurement) -> str:
    label = one.of.get("label")
    return one.name.replace("_", " ") + (f" of {cell(label)}" if label is not None else "")


def _plain_value(one: Measurement) -> str:
    if one.name in ("reload_deviation", "calibration_error") and one.value is not None:
        return f"{one.value:.3g}"
    return value_text(one)


_WORDS = {
    "against": "against",
    "p_value": "exact McNemar p",
    "only_this": "rows that only this gets right",
    "only_baseline": "rows that only the baseline gets right",
}
"""How a reader calls a condition of a measurement."""
_SHARED = ("label", "labels", "seed", "split", "rows")
"""Conditions that stand elsewhere in the table or under it."""


def _conditions(one: Measurement) -> str:
    """Under which conditions it was measured."""
    several = {key: value for key, value in one.of.items() if key not in _SHARED}
    return ", ".join(f"{_WORDS.get(key, key.replace('_', ' '))} {cell(value)}" for key, value in several.items())


def _with(evidence: Evidence, key: str) -> list[Finding]:
    return [finding for finding in evidence.findings if key in finding.data]


def _command(evidence: Evidence) -> str:
    """The verb alone, with the data that the evidence says it had."""
    data = evidence.parameters.get("data")
    spec = data if isinstance(data, dict) else {}
    candidates = evidence.parameters.get("candidates")
    subjects = candidates if isinstance(candidates, list) else [evidence.parameters.get("reference")]
    if not spec.get("ref") or not all(isinstance(one, str) for one in subjects):
        return ""
    where = spec.get("where")
    options = [("--data", spec.get("ref")), ("--text", spec.get("text")), ("--label", spec.get("label"))]
    options += [("--where", f"{key}={value}") for key, value in where.items()] if isinstance(where, dict) else []
    options += [("--learn", spec.get("learn")), ("--held-out", spec.get("held_out"))]
    options += [("--seed", evidence.parameters.get("seed"))]
    words = [f"{name} {shlex.quote(str(value))}" for name, value in options if value is not None]
    return " ".join(["regraft", evidence.kind, *(shlex.quote(str(one)) for one in subjects), *words])
