"""What a search for counterexamples found, as findings and measurements of evidence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from regraft.compare.coverage import FaultCoverage
from regraft.conceptual.fuzzing.search import Counterexample, Fuzzed
from regraft.record.evidence import JSON, Draft, Finding, Severity, Where

if TYPE_CHECKING:
    import numpy as np

_SHOWN = 24
"""Numbers of an input that evidence holds; the file has all."""


def report_fuzzed(draft: Draft, found: Fuzzed, *, seed: int, kept: str = "") -> None:
    """Findings and measurements of one search.

    Args:
        draft: of the verb.
        found: by the search.
        seed: of it.
        kept: path of the counterexample's file; empty where it was not kept.
    """
    draft.measure("inputs_tried", found.inputs, "inputs", of={
        "independent": found.independent, "refused": found.refused, "rounded": found.rounded, "seed": seed,
    })  # fmt: skip
    draft.measure("fuzz_passes", found.passes, "passes")
    draft.measure("fuzz_seconds", found.seconds, "s")
    draft.measure("fuzz_largest", found.best, "fault thresholds", of={"in": "float64" if found.is_exact else "float32"})
    for refusal in found.refusals:
        draft.find(_refused(refusal.setting, refusal.message, is_declared=refusal.is_declared))
    if found.rounding is not None:
        told, message = found.rounding
        draft.find(
            Finding(
                "replicate.fuzz_rounding",
                Severity.LOW,
                f"with {told}, {message}",
                fix="look for sums of squares, differences of large numbers, an exponential without its maximum",
            )
        )
    if found.counterexample is not None:
        draft.find(counterexample_finding(found.counterexample, kept=kept))
        return
    if found.inputs == found.refused:
        message = f"it was not fuzzed: {found.skipped + found.refused} inputs were tried, and none could be judged"
        draft.find(Finding("replicate.no_fuzz", Severity.UNKNOWN, message, fix="give it more time: --fuzz 60"))
        return
    if found.bound is not None:
        draft.measure("disagreement_bound", found.bound, "1", n=found.independent)
    draft.find(Finding("replicate.fuzz", Severity.INFO, _nothing(found)))


def report_coverage(draft: Draft, found: FaultCoverage) -> None:
    """How many faults, planted in the reference, the kinds of inputs that were tried would have shown."""
    if found.share is None:
        message = f"fault coverage is unknown: {found.reason}"
        draft.find(Finding("feeds.coverage", Severity.INFO, message))
        return
    one = found.share
    draft.measure("fault_coverage", one.value, "1", low=one.low, high=one.high, n=one.n, of={"feeds": "fuzzing"})


def counterexample_finding(found: Counterexample, *, kept: str = "") -> Finding:
    """Where and on what the two differ."""
    inputs = ", ".join(f"{name} {_told(value)}" for name, value in found.feeds.items())
    data: dict[str, JSON] = {
        "weights": found.checkpoint.name,
        "inputs": {name: _shown(value) for name, value in found.feeds.items()},
        "inputs_tried": found.inputs,
        "severity": found.outcome.severity,
    }
    again = f"look at it again: --replay {kept}" if kept else None
    message = f"with {found.checkpoint.told}, {found.outcome.message}, on {inputs}"
    return Finding(
        "replicate.counterexample", Severity.HIGH, message, Where(field=found.outcome.output or None), data, again
    )


def _refused(setting: Mapping[str, int], message: str, *, is_declared: bool) -> Finding:
    sizes = ", ".join(f"{symbol}={size}" for symbol, size in setting.items()) or "inputs of the usual sizes"
    return Finding(
        "replicate.fuzz_refused",
        Severity.UNKNOWN if is_declared else Severity.MEDIUM,
        f"the reference takes {sizes}, and {message}",
        data={"sizes": dict(setting)},
        fix="" if is_declared else "is a size written into it? The reference computes it from its input",
    )


def _nothing(found: Fuzzed) -> str:
    sets = f"{len(found.checkpoints)} sets of weights" if len(found.checkpoints) > 1 else "the reference's own weights"
    told = f"no disagreement in {found.inputs - found.refused} inputs of {found.settings} sizes, with {sets}"
    if found.refused:
        told += f"; the candidate stopped on {found.refused} more"
    if found.rounded:
        told += f"; rounding alone explains {found.rounded} of them"
    if found.bound is None:
        return f"{told}; none was drawn by chance alone: give it more time"
    return f"{told}; of inputs like the {found.independent} drawn by chance, at most {found.bound:.2g} disagree (95 %)"


def _told(value: np.ndarray) -> str:
    """Shape and, of short ones, numbers."""
    if value.size <= 4:
        return f"{list(value.shape)} = {value.reshape(-1).tolist()}"
    others = int((value != 0).sum())
    return f"{list(value.shape)}, {others} not zero"


def _shown(value: np.ndarray) -> JSON:
    numbers = value.reshape(-1).tolist() if value.size <= _SHOWN else None
    return {"shape": list(value.shape), "dtype": str(value.dtype), "values": numbers}
