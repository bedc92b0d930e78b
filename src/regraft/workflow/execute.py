"""Do steps in the order in which they depend on each other; what an earlier run found out stands."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from regraft.errors import RegraftError
from regraft.record.durable import told
from regraft.record.evidence import (
    JSON,
    Artifact,
    Draft,
    Evidence,
    Finding,
    Measurement,
    Record,
    Severity,
    Verdict,
    evidence_from_json,
)
from regraft.record.store import Store
from regraft.workflow.engine.interface import Ended, Ending, Engine, Progressed, Started, Task, Usage
from regraft.workflow.products import find_product, is_subject, keep_product, working_folder
from regraft.workflow.resolve import Call, Unmet, resolve
from regraft.workflow.state import Status, StepState
from regraft.workflow.steps import Step, dependencies, in_order

WALL, CPU, PEAK_MEMORY = "step_wall", "step_cpu", "step_peak_memory"
"""Measurements that every step's evidence gets: what it cost (s, s, bytes)."""
LOG = "log"
"""Name of the artifact that holds what a step wrote to stdout and stderr."""
_RULES = {
    Ending.REFUSED: "RGR-STEP-001",
    Ending.RAISED: "RGR-STEP-002",
    Ending.CRASHED: "RGR-STEP-003",
    Ending.TIMED_OUT: "RGR-STEP-004",
    Ending.OUT_OF_MEMORY: "RGR-STEP-005",
}
_FIXES = {
    Ending.RAISED: "Its log has the traceback; file it as an issue.",
    Ending.CRASHED: "Its log says where; try another runtime, or leave the candidate out.",
    Ending.TIMED_OUT: "Its log says where; allow more in the plan: limits: {time: 30 min}.",
    Ending.OUT_OF_MEMORY: "Allow more in the plan: limits: {memory: 8 GB}.",
}

Watch = Callable[[StepState], None]


def execute(steps: Iterable[Step], *, store: Store, engine: Engine, watch: Watch | None = None) -> dict[str, StepState]:
    """Do every step that can be done; one that dies leaves a record and those that do not need it go on.

    A step is kept when a step of the same key ended in evidence that the store still has, with every
    artifact and the package that it made. What is reported as done is on the disk: a run that is killed
    anywhere goes on from there.

    Args:
        steps: in any order.
        store: evidence, logs and made packages go here.
        engine: stays open; cancelled when this ends by an exception.
        watch: told whenever a state changes; it must not keep it.
    Returns:
        name → state, in order of dependence.
    Raises:
        StoreError: the store cannot be written to.
        KeyboardInterrupt: passes through; what is finished is kept.
    """
    ordered = in_order(steps)
    run = _Execution({step.name: StepState(step) for step in ordered}, store, engine, watch or _nobody)
    try:
        with working_folder(store) as folder:
            run.work_in(folder)
    except BaseException:
        engine.cancel()
        raise
    return run.states


def preview(steps: Iterable[Step], *, store: Store) -> dict[str, StepState]:
    """What `execute` would find kept (status KEPT) and what it would have to do (WAITING); nothing is done.

    What is always looked at again is taken as it was found last, so that the rest can be told.
    """
    states = {step.name: StepState(step) for step in in_order(steps)}
    for state in states.values():
        if all(states[name].status is Status.KEPT for name in dependencies(state.step)):
            try:
                _take_kept(state, resolve(state.step, states), store, is_certain=False)
            except Unmet as unmet:
                state.skip(unmet.reason, verdict=unmet.verdict, is_consequence=unmet.is_consequence)
            except RegraftError as error:
                state.reason = str(error)
    for state in states.values():
        if state.step.is_volatile and state.status is Status.KEPT:
            state.status, state.reason = Status.WAITING, "looked at again; the rest is told as if it were the same"
    return states


def _nobody(state: StepState) -> None:
    pass


class _Execution:
    """One run of steps."""

    def __init__(self, states: dict[str, StepState], store: Store, engine: Engine, watch: Watch) -> None:
        self.states = states
        self._store = store
        self._engine = engine
        self._watch = watch
        self._calls: dict[str, Call] = {}

    def work_in(self, folder: Path) -> None:
        """Do all steps, each in a folder of its own below this one."""
        self._submit_ready(folder)
        for event in self._engine.events():
            state = self.states[event.task.name]
            match event:
                case Started():
                    state.status = Status.RUNNING
                case Progressed():
                    state.activity = event.what
                    state.progress = min(1.0, event.done / event.total) if event.total else None
                case Ended():
                    self._conclude(state, event)
            self._watch(state)
            if isinstance(event, Ended):
                self._submit_ready(folder)

    def _submit_ready(self, folder: Path) -> None:
        """Settle every step whose dependencies are over; those that must be done go to the engine."""
        for state in self.states.values():
            name = state.step.name
            if state.status is not Status.WAITING or name in self._calls:
                continue
            if not all(self.states[other].status.is_over for other in dependencies(state.step)):
                continue
            try:
                call = resolve(state.step, self.states)
            except Unmet as unmet:
                state.skip(unmet.reason, verdict=unmet.verdict, is_consequence=unmet.is_consequence)
            except RegraftError as error:
                state.status, state.reason, state.verdict = Status.FAILED, str(error), Verdict.INCONCLUSIVE
            else:
                if not _take_kept(state, call, self._store):
                    self._submit(call, folder)
                    continue
            self._watch(state)

    def _submit(self, call: Call, folder: Path) -> None:
        self._calls[call.step.name] = call
        place = folder / f"{len(self._calls)}"
        with told(place):
            (place / "out").mkdir(parents=True)
        self._engine.submit(
            Task(
                call.step.name,
                call.step.function,
                call.arguments(_out(call.step, place)),
                str(place),
                str(self._store.root),
                call.step.resources,
            )
        )

    def _conclude(self, state: StepState, event: Ended) -> None:
        """Keep what a step found out and made; only then is it done."""
        call, folder = self._calls[state.step.name], Path(event.task.folder)
        state.seconds, state.ending, state.progress, state.activity = event.usage.wall_s, event.ending, None, ""
        found = _evidence_of(event)
        evidence = found[0] if found else None
        reason = "" if evidence else event.problem.what if event.problem else "its evidence cannot be read"
        made = _out(state.step, folder)
        if evidence is not None and made is not None and made.exists():
            if is_subject(made, evidence):
                state.product = keep_product(self._store, call.key, made, evidence)
            else:
                evidence, reason = None, "what it made is not what its evidence is about"
        state.status, state.reason = (Status.FAILED, reason) if evidence is None else (Status.DONE, "")
        final = self._with_log(_with_cost(evidence or _obituary(call, event, reason), event.usage), event.log)
        for other in found[1:] if state.status is Status.DONE else ():
            self._store.put_evidence(other)
        digest = self._store.put_evidence(final)
        if state.status is Status.DONE:
            self._store.set_step(call.key, digest)
        state.record, state.verdict = Record(digest, final), final.verdict
        shutil.rmtree(folder, ignore_errors=True)

    def _with_log(self, evidence: Evidence, log: bytes) -> Evidence:
        if not log:
            return evidence
        kept = Artifact(LOG, self._store.put_blob([log]), "text/plain")
        return msgspec.structs.replace(evidence, artifacts=(*evidence.artifacts, kept))


def _take_kept(state: StepState, call: Call, store: Store, *, is_certain: bool = True) -> bool:
    """Fill in the state from an earlier run, if that is still whole and, for certain, has not changed."""
    state.key = call.key
    if state.step.is_volatile and is_certain:
        return False
    try:
        digest = store.step(call.key)
        evidence = None if digest is None else store.evidence(digest)
    except RegraftError:
        return False
    if digest is None or evidence is None:
        return False
    if any(store.blob_path(artifact.sha256) is None for artifact in evidence.artifacts):
        return False
    out = state.step.out
    product = find_product(store, call.key, out.name, evidence) if out else None
    if out and product is None and evidence.verdict is not Verdict.FAIL:
        return False
    state.status, state.product = Status.KEPT, product
    state.record, state.verdict = Record(digest, evidence), evidence.verdict
    return True


def _out(step: Step, folder: Path) -> Path | None:
    return folder / "out" / step.out.name if step.out else None


def _evidence_of(event: Ended) -> list[Evidence]:
    """What a step found out, the piece that counts first; nothing when any of it cannot be read."""
    try:
        return [evidence_from_json(one) for one in event.evidence]
    except ValueError:
        return []


def _obituary(call: Call, event: Ended, said: str) -> Evidence:
    """The record of a step that ended without evidence: inconclusive, with the reason."""
    draft = Draft(call.step.verb, parameters={"step": call.step.name})
    draft.subject += call.subjects
    problem = event.problem
    data: dict[str, JSON] = {"ending": event.ending.value}
    if problem is not None:
        data |= {"code": problem.code, "where": problem.where}
    rule = _RULES.get(event.ending, _RULES[Ending.RAISED])
    fix = (problem.hint if problem else "") or _FIXES.get(event.ending)
    draft.find(Finding(rule, Severity.UNKNOWN, said, data=data, fix=fix))
    return draft.finish(outcome="not_done", summary=f"{call.step.name} was not done: {said}")


def _with_cost(evidence: Evidence, usage: Usage) -> Evidence:
    """The evidence with what the step cost; what is not known is left out."""
    costs = (
        (WALL, round(usage.wall_s, 3), "s"),
        (CPU, usage.cpu_s, "s"),
        (PEAK_MEMORY, usage.peak_memory_bytes, "bytes"),
    )
    added = tuple(Measurement(name, round(value, 3), unit, n=1) for name, value, unit in costs if value is not None)
    return msgspec.structs.replace(evidence, measurements=(*evidence.measurements, *added))
