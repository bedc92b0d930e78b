"""What stands beside a speed: the error against the first model, and energy; or why there is no number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from regraft.record.evidence import JSON, Draft, Finding, Severity

if TYPE_CHECKING:
    from regraft.deployment.bench.run import Live


def report_agreement(draft: Draft, live: Live, of: Mapping[str, JSON], label: str) -> None:
    """The error of one model against the first, in noise floors of that one's float32, and its changed decisions."""
    found = live.agreed
    if found is not None:
        told: dict[str, JSON] = {**of, "output": found.output, "benign_up_to": found.benign_up_to}
        draft.measure("error_in_floors", found.floors, "noise floors", n=found.feeds, of=told)
        draft.measure("relative_error", found.relative, "", n=found.feeds, of=dict(of))
        if found.decisions:
            draft.measure("decision_flips", found.flips, "decisions", n=found.decisions, of=dict(of))
        if found.floors > found.benign_up_to:
            flips = f"; {found.flips} of {found.decisions} decisions are others" if found.decisions else ""
            message = (
                f"{label}: {found.floors:.3g} noise floors from the first, more than the {found.benign_up_to:.3g} that "
                f"rounding explains{flips}"
            )
            fix = "regraft verify FIRST THIS says whether that is a fault or a lower precision"
            draft.find(Finding("RGB-ERR-001", Severity.LOW, message, data=dict(of), fix=fix))
    elif live.disagreement is not None:
        message = f"{label}: not compared with the first: {live.disagreement}"
        draft.find(Finding("RGB-ERR-002", Severity.INFO, message, data=dict(of)))


def report_energy(draft: Draft, lives: Sequence[Live]) -> None:
    """One note for all, where energy cannot be measured: no number is not a zero."""
    why = next((one.no_energy for live in lives for one in live.started if one.no_energy), "")
    if why:
        draft.find(Finding("RGB-NRG-001", Severity.INFO, f"energy was not measured: {why}"))


def price_of(live: Live) -> str:
    """The error beside a speed in a summary; empty for the first, and where nothing was compared."""
    found = live.agreed
    if found is None:
        return ""
    flips = f", {found.flips} of {found.decisions} decisions changed" if found.decisions else ""
    return f" ({found.floors:.3g} noise floors from the first{flips})"
