"""The page of a run: the verdict in words, then everything that it stands on. No script, nothing fetched."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from regraft.record.evidence import Evidence, Measurement, Verdict, combine
from regraft.report.chapter import (
    UNKNOWN,
    Chapter,
    count_of,
    interval_text,
    percent,
    rewritten,
    value_text,
    verdict_text,
    with_interval,
)
from regraft.report.html import drawn, page_of
from regraft.report.quantity import seconds_text
from regraft.report.run_choice import choice, chosen, gain, labels_interval, labels_text, worth
from regraft.report.run_latency import budget_verdict, latency, price, timing
from regraft.report.run_ledger import every_step, ledger
from regraft.report.run_proof import divergence, lineage, passport, policy
from regraft.report.run_record import RunRecord, first, measured, run_record
from regraft.report.sections import Section

_FAILED = {"failed", "skipped"}


class Tile(msgspec.Struct, frozen=True):
    """One number at the top of the page."""

    label: str
    value: str
    note: str = ""


def run_page(run: Evidence, steps: Sequence[Evidence], *, command: str) -> str:
    """One self-contained page about a run.

    Args:
        run: evidence of kind `run`.
        steps: the evidence in which its steps ended, in any order; what is missing is shown as unknown.
        command: that makes the page again.
    """
    record = run_record(run, steps)
    several = chapters(record)
    return page_of(
        "run.html",
        f"{run.parameters.get('plan') or 'run'}: {run.verdict.value}",
        run=run,
        name=str(run.parameters.get("plan") or (run.subject[0].name if run.subject else "run")),
        about=_about(record),
        sentences=sentences(record),
        tiles=tiles(record),
        decisions=_decisions(record),
        chapters=[(chapter, [drawn(figure) for figure in chapter.figures]) for chapter in several],
        unknown=sum(_unknowns(chapter) for chapter in several),
        command=command,
        seconds=seconds_text(run.seconds),
        packages=_packages(record),
    )


def chapters(record: RunRecord) -> list[Chapter]:
    """Everything below the verdict, in the order of a reader's questions."""
    return [
        choice(record),
        gain(record),
        worth(record),
        passport(record),
        lineage(record),
        divergence(record),
        latency(record),
        policy(record),
        ledger(record),
        *([_claims(record)] if record.step("reproduce") else []),
        every_step(record),
    ]


def sentences(record: RunRecord) -> list[str]:
    """The verdict in words: what may be used where, what may not, and what is not known."""
    name, _ = chosen(record)
    said = [f"{name} was chosen among {_candidates(record)}." if name else f"No candidate was chosen: {_why(record)}."]
    said += _how_good(record)
    allowed = "the policy allows it" if record.step("check") is not None else "no policy was given"
    fits = ", it fits the device" if _is_budget_judged(record) else ""
    for verdict, words in (
        (Verdict.PASS, f"may be used: {allowed}{fits}, and it answers as what it was converted from"),
        (Verdict.FAIL, "must not be used as it is"),
        (Verdict.INCONCLUSIVE, "is not decided"),
    ):
        targets = [target for target in record.targets if _target_verdict(record, target) is verdict]
        if targets:
            said.append(f"On {' and '.join(targets)} the result {words}.")
    if lost := [step.name for step in record.steps if step.status in _FAILED]:
        said.append(f"Not done: {', '.join(lost)}.")
    return said


def _candidates(record: RunRecord) -> str:
    evidence = record.evidence("select")
    several = evidence.parameters.get("candidates") if evidence is not None else None
    return f"{len(several)} candidates" if isinstance(several, list) and len(several) > 1 else "the candidates"


def _how_good(record: RunRecord) -> list[str]:
    """How often the result is right, beside the baseline; that it is not better, if so."""
    adapt = record.evidence("adapt")
    accuracy, lead = first(measured(adapt, "accuracy")), first(measured(adapt, "accuracy_gain"))
    if lead is None:
        return []
    baseline = lead.of.get("against") or "the baseline"
    if lead.low is None or lead.low <= 0:
        return [f"It is not shown to be better than {baseline}."]
    if accuracy is None or accuracy.value is None:
        return []
    more = f"{value_text(lead)} {interval_text(lead)} more than {baseline}"
    return [
        f"Adapted, it is right on {percent(accuracy.value)} of {count_of(accuracy)} rows that it has not seen, {more}."
    ]


def _is_budget_judged(record: RunRecord) -> bool:
    bench = record.evidence("bench")
    return bench is not None and any(found.rule.startswith("RGB-BUD-") for found in bench.findings)


def _about(record: RunRecord) -> str:
    """What the run is about, in one line: task, data, rows."""
    select = record.evidence("select")
    data = select.parameters.get("data") if select is not None else None
    spec = data if isinstance(data, dict) else {}
    parts = [record.run.parameters.get("task"), spec.get("ref")]
    for key, words in (("learn", "rows to learn from"), ("held_out", "held out")):
        count = spec.get(key)
        parts.append(f"{count:,} {words}" if isinstance(count, int) else None)
    return " · ".join(str(part) for part in parts if part)


def _packages(record: RunRecord) -> list[str]:
    """The libraries that took part, by the evidence of the steps."""
    found = [record.run, *(step.evidence for step in record.steps if step.evidence is not None)]
    several = {(name, version) for one in found for name, version in one.environment.packages.items()}
    return [f"{name} {version.partition('-')[0]}" for name, version in sorted(several)]


def tiles(record: RunRecord) -> list[Tile]:
    """The numbers that a reader wants first; those that nobody measured say so."""
    adapt, select = record.evidence("adapt"), record.evidence("select")
    accuracy = first(measured(adapt, "accuracy"))
    lead = first(measured(adapt, "accuracy_gain"))
    labels = first(measured(select, "labels_to_catch_up"))
    against = lead.of.get("against") if lead is not None else None
    wall = first(measured(record.run, "total_wall")) or first(measured(record.run, "run_wall"))
    return [
        Tile("chosen", chosen(record)[0] or UNKNOWN, "by cross-validation on the learning rows"),
        _tile("accuracy on held-out rows", accuracy),
        _tile(f"better than {against}" if against else "better than the baseline", lead),
        Tile(
            "labels the baseline would need",
            UNKNOWN if labels is None else labels_text(labels),
            "" if labels is None else f"for the same accuracy, 95 % {labels_interval(labels)}",
        ),
        Tile("all steps took", UNKNOWN if wall is None or wall.value is None else seconds_text(wall.value),
             "on the clock, on the machine named at the end"),
    ]  # fmt: skip


def _unknowns(chapter: Chapter) -> int:
    return len(chapter.gaps) + sum(table.tones.count("absent") for table in (*chapter.tables, *chapter.more))


def _tile(label: str, one: Measurement | None) -> Tile:
    return Tile(label, value_text(one), _note(one))


def _note(one: Measurement | None) -> str:
    if one is None:
        return ""
    interval = interval_text(one)
    n = "" if one.n is None else f"n {count_of(one)}"
    return ", ".join(filter(None, ["" if interval == "none" else f"95 % {interval}", n]))


def _decisions(record: RunRecord) -> Section:
    """One row a target: may it be used, is it the same model, how fast, how large."""
    rows, tones = [], []
    for target in record.targets:
        verdict = _target_verdict(record, target)
        check = record.step("check", target)
        allowed = verdict_text(check.verdict, check.outcome) if check is not None else f"{UNKNOWN}: no policy"
        same, floors, flips = price(record, target)
        rows.append(
            (verdict_text(verdict), target, allowed, same, floors, flips,
             with_interval(timing(record, target, "latency_p95", 1)),
             value_text(timing(record, target, "size_on_disk")))
        )  # fmt: skip
        tones.append(verdict.value)
    columns = (
        "",
        "target",
        "policy",
        "same model?",
        "noise floors (limit)",
        "decisions changed",
        "p95 at batch 1",
        "size",
    )
    return Section("The result, target by target", columns, tuple(rows), numeric=(), tones=tuple(tones))


def _target_verdict(record: RunRecord, target: str) -> Verdict:
    """What policy, comparison and budget amount to; what nobody found out is inconclusive."""
    asked = [record.step(verb, target) for verb in ("verify", "check")]
    if asked[1] is None and record.step("check") is None:  # a plan without a policy
        asked = asked[:1]
    verdicts = [step.verdict if step is not None and step.verdict else Verdict.INCONCLUSIVE for step in asked]
    return combine([*verdicts, budget_verdict(record, target)])


def _why(record: RunRecord) -> str:
    return record.missing("select").removeprefix("unknown: ")


def _claims(record: RunRecord) -> Chapter:
    """Published numbers, reproduced or not."""
    rows = tuple(
        (verdict_text(step.verdict, step.outcome), step.name, rewritten(step.said.removeprefix(f"{step.name}: ")))
        for step in record.of("reproduce")
    )
    table = Section("Claims", ("verdict", "claim", "what was found"), rows)
    return Chapter(anchor="claims", title="Published numbers", tables=(table,), command="regraft reproduce CLAIM")
