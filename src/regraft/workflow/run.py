"""run: one plan, from candidates to a verified, measured, judged package."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from regraft.record.digest import Digest
from regraft.record.evidence import JSON, Artifact, Draft, Evidence, Finding, Severity, Subject, Verdict, Where
from regraft.record.store import Store, open_store
from regraft.workflow.derive import derive_steps
from regraft.workflow.engine import open_engine
from regraft.workflow.execute import CPU, PEAK_MEMORY, WALL, Watch, execute, preview
from regraft.workflow.plan import Plan
from regraft.workflow.plan_file import read_plan
from regraft.workflow.results import write_results
from regraft.workflow.state import Status, StepState

if TYPE_CHECKING:
    from regraft.workflow.engine.interface import Engine

STEP_OVER, STEP_FAILED, STEP_SKIPPED = "RGR-RUN-001", "RGR-RUN-002", "RGR-RUN-003"
_OUTCOMES = {Verdict.PASS: "ready", Verdict.FAIL: "refused", Verdict.INCONCLUSIVE: "undecided"}
_WEIGHT = {Verdict.PASS: Severity.INFO, Verdict.FAIL: Severity.HIGH, Verdict.INCONCLUSIVE: Severity.UNKNOWN}
_NOTED = {Verdict.PASS: Severity.INFO, Verdict.FAIL: Severity.MEDIUM, Verdict.INCONCLUSIVE: Severity.LOW}


class Run(msgspec.Struct, frozen=True):
    """What became of a plan.

    Attributes:
        evidence: of kind `run`; of a dry run, what would be done.
        plan: as it was read.
        steps: in order of dependence.
        report: the page, None when no folder was named for it.
    """

    evidence: Evidence
    plan: Plan
    steps: tuple[StepState, ...]
    report: Path | None = None

    def _repr_html_(self) -> str:
        from regraft.report.html import evidence_fragment

        return evidence_fragment(self.evidence)


def run(
    plan: Plan | str | os.PathLike[str],
    *,
    store: Store | None = None,
    engine: Engine | str | None = None,
    dry_run: bool = False,
    offline: bool = False,
    out: str | os.PathLike[str] | None = None,
    watch: Watch | None = None,
) -> Run:
    """Do what a plan asks for: work out the steps, do those that are not done yet, judge what came out.

    Args:
        plan: a plan, or the path of its file.
        store: of evidence, fetched packages and made packages; default: the user's.
        engine: where steps run; an open one stays open. Default: processes of this machine.
        dry_run: only say which steps there are, and which would be kept.
        offline: no network; only what was fetched before.
        out: folder for `report.html` and, below `packages`, copies of what was made; None: neither.
        watch: told whenever the state of a step changes.
    Returns:
        the run; its evidence passes when every step that weighs passed: losing candidates do not weigh.
    Raises:
        PlanError, PolicyError: the plan cannot be understood.
        StoreError: the store cannot be written to; what is finished is kept.
        NotFound, AccessDenied: a file of the plan cannot be read, or the results cannot be written.
    """
    plan = plan if isinstance(plan, Plan) else read_plan(Path(plan))
    store = store or open_store()
    began, draft = time.perf_counter(), Draft("run", parameters=_parameters(plan))
    steps = derive_steps(plan, offline=offline)
    if dry_run:
        states = preview(steps, store=store)
        return Run(_planned(draft, plan, states), plan, tuple(states.values()))
    own = None if engine is not None and not isinstance(engine, str) else _opened(engine, plan)
    try:
        states = execute(steps, store=store, engine=own or _given(engine), watch=watch)
    finally:
        if own is not None:
            own.close()
    _record_steps(draft, plan, states)
    _record_costs(draft, plan, states, wall_s=time.perf_counter() - began)
    _record_plan(draft, plan, store)
    evidence = draft.finish(outcome=_OUTCOMES[draft.verdict], summary=_summary(draft, states))
    store.put_evidence(evidence)
    report = None if out is None else _write(Path(out), plan, evidence, states)
    return Run(evidence, plan, tuple(states.values()), report)


def _opened(engine: Engine | str | None, plan: Plan) -> Engine:
    return open_engine(engine if isinstance(engine, str) else "local", import_from=[str(plan.folder.absolute())])


def _given(engine: Engine | str | None) -> Engine:
    assert engine is not None
    assert not isinstance(engine, str)
    return engine


def _parameters(plan: Plan) -> dict[str, JSON]:
    return {"plan": plan.name, "task": plan.task, "seed": plan.seed, "targets": [*plan.targets]}


def _planned(draft: Draft, plan: Plan, states: Mapping[str, StepState]) -> Evidence:
    """The evidence of a dry run: it describes, so it passes."""
    draft.subject.append(Subject(plan.name, plan.digest))
    draft.parameters["dry_run"] = True
    kept = 0
    for state in states.values():
        kept += state.status is Status.KEPT
        what = "would be kept" if state.status is Status.KEPT else "would be done"
        if state.status is Status.SKIPPED:
            what = f"would not be done: {state.reason}"
        draft.find(Finding(STEP_OVER, Severity.INFO, f"{state.step.name} {what}", Where(), _data(state)))
    return draft.finish(outcome="planned", summary=f"{len(states)} steps: {kept} would be kept; nothing was done")


def _record_steps(draft: Draft, plan: Plan, states: Mapping[str, StepState]) -> None:
    """A finding a step, a material a piece of evidence, and what was made as the subject."""
    made = [state for state in states.values() if state.product is not None and state.record is not None]
    for state in made[:1]:
        assert state.record is not None
        draft.subject.append(state.record.evidence.subject[0])
    if not made:
        draft.subject.append(Subject(plan.name, plan.digest))
    draft.materials.append(Subject("plan", plan.digest))
    for state in states.values():
        draft.find(_finding(state))
        if state.record is not None:
            draft.materials.append(Subject(f"{state.step.name} evidence", state.record.digest))


def _finding(state: StepState) -> Finding:
    verdict = state.verdict or Verdict.INCONCLUSIVE
    severity = (_WEIGHT if state.step.weighs else _NOTED)[verdict]
    name = state.step.name
    if state.status is Status.SKIPPED:
        severity = Severity.INFO if state.is_consequence else severity  # what it follows from has the weight
        return Finding(STEP_SKIPPED, severity, f"{name} was not done: {state.reason}", Where(), _data(state))
    if state.status is Status.FAILED:
        fix = next((found.fix for found in state.record.evidence.findings), None) if state.record else None
        return Finding(STEP_FAILED, severity, f"{name} was not done: {state.reason}", Where(), _data(state), fix=fix)
    said = state.record.evidence.summary if state.record else ""
    return Finding(STEP_OVER, severity, f"{name}: {said}", Where(), _data(state))


def _data(state: StepState) -> dict[str, JSON]:
    data: dict[str, JSON] = {
        "step": state.step.name,
        "verb": state.step.verb,
        "about": state.step.about,
        "status": state.status.value,
        "verdict": state.verdict,
        "outcome": state.record.evidence.outcome if state.record else None,
        "seconds": round(state.seconds, 3),
        "evidence": state.record.digest if state.record else None,
        "weighs": state.step.weighs,
        "cost": {**_costs(state)},
    }
    if state.ending is not None:
        data["ending"] = state.ending.value
    return data


def _record_costs(draft: Draft, plan: Plan, states: Mapping[str, StepState], *, wall_s: float) -> None:
    """The ledger: what this run cost, what all its steps cost when they were done, and the time of people."""
    totals, spent, peak = {WALL: 0.0, CPU: 0.0}, {WALL: 0.0, CPU: 0.0}, 0
    for state in states.values():
        costs = _costs(state)
        peak = max(peak, int(costs.get(PEAK_MEMORY, 0)))
        for name in totals:
            totals[name] += costs.get(name, 0)
            spent[name] += 0 if state.status is Status.KEPT else costs.get(name, 0)
    draft.measure("run_wall", round(wall_s, 3), "s", n=1)
    draft.measure("run_cpu", round(spent[CPU], 3), "s", n=1)
    draft.measure(
        "total_wall", round(totals[WALL], 3), "s", n=1, of={"steps": "all, also those kept from earlier runs"}
    )
    draft.measure("total_cpu", round(totals[CPU], 3), "s", n=1, of={"steps": "all, also those kept from earlier runs"})
    if peak:
        draft.measure("peak_memory", peak, "bytes", n=1)
    if plan.attended_minutes is not None:
        draft.measure("attended", plan.attended_minutes, "min", n=1, of={"source": "declared in the plan"})


def _costs(state: StepState) -> dict[str, float]:
    """What a step cost when it was done, in this run or an earlier one; what is not known is not there."""
    measured = state.record.evidence.measurements if state.record else ()
    return {one.name: one.value for one in measured if one.name in (WALL, CPU, PEAK_MEMORY) and one.value is not None}


def _record_plan(draft: Draft, plan: Plan, store: Store) -> None:
    """Keep the very bytes of the plan, when the file still has them."""
    if plan.path is not None and plan.path.is_file():
        kept = store.put_blob_file(plan.path)
        if kept == plan.digest:
            draft.artifacts.append(Artifact("plan", Digest(kept), "application/yaml"))


def _summary(draft: Draft, states: Mapping[str, StepState]) -> str:
    kept = sum(state.status is Status.KEPT for state in states.values())
    done = sum(state.status is Status.DONE for state in states.values())
    counted = f"{done} steps done, {kept} kept"
    decisive = [finding for finding in draft.findings if finding.severity.verdict is draft.verdict]
    decisive = [finding for finding in decisive if finding.rule != STEP_SKIPPED] or decisive[:1]
    if draft.verdict is Verdict.PASS or not decisive:
        return f"every step that weighs passed; {counted}"
    more = f", and {len(decisive) - 1} more" if len(decisive) > 1 else ""
    return f"{decisive[0].message}{more}; {counted}"


def _write(folder: Path, plan: Plan, evidence: Evidence, states: Mapping[str, StepState]) -> Path:
    """Write the report, and copies of what was made in place of those of an earlier run."""
    from regraft.report.run_page import run_page

    found = [state.record.evidence for state in states.values() if state.record is not None]
    page = run_page(evidence, found, command=_command(plan, folder))
    return write_results(folder, page, [state.product for state in states.values() if state.product is not None])


def _command(plan: Plan, folder: Path) -> str:
    named = str(plan.path) if plan.path is not None else f"{plan.name}.yaml"
    return f"regraft run {shlex.quote(named)} --into {shlex.quote(str(folder))}"
