"""The learning-rate schedule: rate by rate over the first steps of a training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regraft.compare.judge import Judgement, threshold
from regraft.compare.noise import unit_roundoff
from regraft.conceptual.stages.exact import PRECISION
from regraft.conceptual.stages.interface import Divergence, StageResult, Status
from regraft.conceptual.stages.schedule_causes import cause_of_rates
from regraft.errors import Unsupported

if TYPE_CHECKING:
    from regraft.conceptual.stages.interface import Side, WeightMap


class ScheduleStage:
    """The optimiser multiplies by a rate in float32: one unit roundoff of the largest rate is the floor."""

    name = "schedule"
    needs = frozenset({"schedule"})

    def compare(self, reference: Side, candidate: Side, weights: WeightMap, *, seed: int) -> StageResult:
        """As `Stage.compare`."""
        import numpy as np

        steps = max(reference.steps, candidate.steps)
        ours, theirs = (np.asarray(side.rates(steps)) for side in (reference, candidate))
        for side, rates in ((reference, ours), (candidate, theirs)):
            if not np.isfinite(rates).all():
                first = int(np.argmin(np.isfinite(rates)))
                raise Unsupported(f"the learning rate of step {first} is not a finite number", where=side.where)
        limits = threshold("float64", PRECISION)
        floor = unit_roundoff(PRECISION) * float(np.abs(ours).max(initial=0.0)) or 2.0**-126
        ratios = np.abs(ours - theirs) / floor
        measured = {"ratio": float(ratios.max(initial=0.0)), "steps": float(steps)}
        if measured["ratio"] <= limits.benign_peak:
            return StageResult(self.name, Status.AGREES, reason=f"the rates of {steps} steps", measured=measured)
        first = int(np.argmax(ratios > limits.benign_peak))
        found = cause_of_rates(ours, theirs)
        is_beyond = measured["ratio"] > limits.fault_peak
        seen = f"from step {first}: {ours[first]:.6g} in the reference, {theirs[first]:.6g} in the candidate"
        divergence = Divergence(
            place=found.place or f"step {first}",
            cause=found.cause,
            detail=f"{found.detail}; {seen}" if found.detail else seen,
            judgement=Judgement.BEYOND if is_beyond else Judgement.UNDECIDED,
            ratio=measured["ratio"],
            floor=floor,
            first=first,
            evidence={"reference": float(ours[first]), "candidate": float(theirs[first]), "step": first},
        )
        status = Status.DIVERGES if is_beyond else Status.UNDECIDED
        return StageResult(self.name, status, (divergence,), "", (), measured)
