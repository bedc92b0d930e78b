"""Times of two pipelines and faster ways to run the candidate's, as findings and measurements of evidence."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from regraft.conceptual.pipelines.recording import Recording, record
from regraft.conceptual.pipelines.rewrites import Kind
from regraft.conceptual.pipelines.timing import Timing, fitting, time_pipelines
from regraft.conceptual.pipelines.trials import Trial, trials
from regraft.conceptual.stages.interface import Side, Step
from regraft.conceptual.stages.pipeline import MAX_SAMPLES, as_arrays
from regraft.errors import Unsupported
from regraft.record.evidence import JSON, Draft, Finding, Severity, Where

TIMED, NOT_TIMED, PROPOSAL, NOT_EQUIVALENT = (
    "stage.timed", "stage.not_timed", "stage.proposal", "stage.not_equivalent",
)  # fmt: skip
_MAX_BYTES = 256 << 20
_RECORD_S = 10.0
_FIXES = {
    Kind.REORDER: "Change the order of the steps.",
    Kind.CAST_LATER: "Change the order of the steps.",
    Kind.BATCH: "Stack the samples first, and call the step once a batch.",
    Kind.CACHE: "Keep what the steps made, by sample; what is random comes after it.",
}


def add_pipeline_profile(draft: Draft, reference: Side, candidate: Side) -> None:
    """Time both pipelines on the reference's samples, and try faster ways to run the candidate's.

    No verdict depends on what is found, but that it could not be found out is inconclusive.

    Args:
        draft: of the verb.
        reference, candidate: with a pipeline each; the reference with samples. Nothing is done where neither has one.
    """
    if not reference.pipeline and not candidate.pipeline:
        return
    with _one_thread():
        _profile(draft, reference, candidate)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Torch on one thread, as in the workers of its DataLoader."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _profile(draft: Draft, reference: Side, candidate: Side) -> None:
    where = Where(field="pipeline")
    try:
        for side in (reference, candidate):
            if not side.pipeline:
                raise Unsupported("there are no steps", where=side.where)
        samples = list(reference.samples[:MAX_SAMPLES])
        if not samples:
            raise Unsupported("there is no sample", where=reference.where)
        timing = time_pipelines(reference.pipeline, candidate.pipeline, samples)
        recording = _recorded(candidate.pipeline, samples)
    except Unsupported as error:
        draft.find(Finding(NOT_TIMED, Severity.UNKNOWN, f"the pipelines were not timed: {error}", where))
        return
    _add_times(draft, timing)
    for finding in _proposals(recording, [step.share for step in timing.candidate]):
        draft.find(finding)


def _recorded(steps: Sequence[Step], samples: Sequence[Any]) -> Recording:
    """Of as many samples as fit into memory and time."""
    began = time.perf_counter()
    first = record(steps, samples[:1])
    once_s = time.perf_counter() - began
    once_bytes = sum(_size_bytes(value) for row in first.given for value in row)
    most = fitting(once_bytes, _MAX_BYTES, len(samples))
    return record(steps, samples[: fitting(once_s, _RECORD_S, most)])


def _size_bytes(value: Any) -> int:
    try:
        return sum(array.nbytes for array in as_arrays(value).values())
    except Unsupported:
        return 0


def _add_times(draft: Draft, timing: Timing) -> None:
    draft.measure(
        "pipeline_ratio", timing.ratio.value, "1", low=timing.ratio.low, high=timing.ratio.high, n=timing.ratio.n
    )
    for side, steps in (("reference", timing.reference), ("candidate", timing.candidate)):
        for step in steps:
            for clock, taken in (("wall", step.wall_ms), ("cpu", step.cpu_ms)):
                of: dict[str, JSON] = {"side": side, "step": step.name}
                of |= {"share": step.share} if clock == "wall" else {}
                draft.measure(f"step_{clock}", taken.value, "ms", low=taken.low, high=taken.high, n=taken.n, of=of)
    slowest = max(timing.candidate, key=lambda step: step.share)
    took = sum(step.wall_ms.value for step in timing.candidate)
    ratio = timing.ratio
    message = (
        f"the candidate's pipeline takes {took:.3g} ms a sample, {ratio.value:.2f} times the reference's "
        f"({ratio.low:.2f} to {ratio.high:.2f}); {slowest.share:.0%} of it in {slowest.name}"
    )
    draft.find(Finding(TIMED, Severity.INFO, message, Where(field=f"pipeline.{slowest.name}")))


def _proposals(recording: Recording, shares: Sequence[float]) -> Iterator[Finding]:
    if recording.unsteady:
        name = recording.steps[min(recording.unsteady)].name
        message = f"no faster way is proposed: {name} does not return the same twice, however it is seeded"
        yield Finding(TIMED, Severity.INFO, message, Where(field=f"pipeline.{name}"))
        return
    found, untried = trials(recording, shares)
    yield from map(_finding, found)
    if untried:
        message = f"{untried} ways to run the candidate's pipeline were not tried: it is slow"
        yield Finding(TIMED, Severity.INFO, message, Where(field="pipeline"))


def _finding(trial: Trial) -> Finding:
    where = Where(field=f"pipeline.{trial.step}")
    ratio = trial.ratio
    data: dict[str, JSON] = {
        "kind": trial.kind.value, "step": trial.step, "saved": trial.saved, "ratio": ratio.value, "low": ratio.low,
        "high": ratio.high, "floors": trial.floors, "samples": trial.compared[0], "made_up": trial.compared[1],
    }  # fmt: skip
    if trial.differs:
        message = f"{trial.text}: faster but not equivalent: {trial.differs}"
        return Finding(NOT_EQUIVALENT, Severity.INFO, message, where, data)
    equal = "bitwise equal" if trial.floors == 0 else f"equal within rounding ({trial.floors:.2g} noise floors)"
    made_up = f" and {trial.compared[1]} made-up ones" if trial.compared[1] else ""
    message = (
        f"{trial.text} saves {trial.saved:.0%} of the candidate's pipeline: {ratio.value:.2g} times as long "
        f"({ratio.low:.2g} to {ratio.high:.2g}), {equal} on {trial.compared[0]} samples{made_up}"
    )
    return Finding(PROPOSAL, Severity.INFO, message, where, data, _FIXES[trial.kind])
