"""The stages of training around a network's forward pass: which of them two implementations do alike."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from regraft.conceptual.stages.interface import STAGES, Renamed, SameNames, Stage, StageResult, Status
from regraft.errors import RegraftError, UsageError

if TYPE_CHECKING:
    from regraft.conceptual.stages.interface import Side, WeightMap

_MEMBERS = {
    "pipeline": "pipeline:PipelineStage",
    "forward": "forward:ForwardStage",
    "loss": "loss:LossStage",
    "backward": "backward:BackwardStage",
    "optimiser": "optimiser:OptimiserStage",
    "schedule": "schedule:ScheduleStage",
    "training": "training:TrainingStage",
    "curves": "curves:CurvesStage",
}
_COMPOSED = ("training", "curves")
"""Stages that run all the others: they may only show what those said."""


def compare_stages(
    reference: Side,
    candidate: Side,
    *,
    weights: WeightMap | None = None,
    stages: Sequence[str] | None = None,
    seed: int = 0,
) -> Iterator[StageResult]:
    """Compare two implementations stage by stage, each fed by the reference.

    Args:
        reference: what is taken for right; see `sides.side_from_factory`.
        candidate: the re-implementation.
        weights: how their weights correspond; None for the candidate's `weight_map`, or for equal names and layouts.
        stages: of `STAGES`; None for all. They run in the order of training.
        seed: of probes and jitter.
    Yields:
        one result a stage; a stage that a side cannot run is `not_run`, with the reason.
    Raises:
        UsageError: there is no such stage.
    """
    wanted = STAGES if stages is None else tuple(stages)
    if unknown := [name for name in wanted if name not in STAGES]:
        raise UsageError(f"there is no stage {unknown[0]!r}", hint=f"stages: {', '.join(STAGES)}")
    declared = Renamed(candidate.weight_map) if candidate.weight_map else SameNames()
    mapped = declared if weights is None else weights
    earlier: list[str] = []
    for name in STAGES:
        if name in wanted:
            result = _compared(_stage(name), reference, candidate, mapped, seed)
            if name in _COMPOSED and result.divergences and earlier:
                reason = f"{result.reason}; may follow from {', '.join(earlier)}".lstrip("; ")
                result = msgspec.structs.replace(result, reason=reason, follows=tuple(earlier))
            earlier += [name] if result.divergences else []
            yield result


def _stage(name: str) -> Stage:
    module, _, member = _MEMBERS[name].partition(":")
    found: Stage = getattr(importlib.import_module(f"{__name__}.{module}"), member)()
    return found


def _compared(stage: Stage, reference: Side, candidate: Side, weights: WeightMap, seed: int) -> StageResult:
    lacking = [sorted(stage.needs - side.parts) for side in (reference, candidate)]
    if all(lacking):
        return StageResult(stage.name, Status.ABSENT, reason=f"neither side has {_listed(lacking[0])}")
    for side, missing in zip((reference, candidate), lacking, strict=True):
        if missing:
            reason = f"{side.where} has no {_listed(missing)}; let its factory return it"
            return StageResult(stage.name, Status.NOT_RUN, reason=reason)
    try:
        return stage.compare(reference, candidate, weights, seed=seed)
    except RegraftError as error:
        hint = f"; {error.hint}" if error.hint else ""
        return StageResult(stage.name, Status.NOT_RUN, reason=f"{error}{hint}")


def _listed(names: Sequence[str]) -> str:
    return " and ".join(f"`{name}`" for name in names)


__all__ = ["STAGES", "StageResult", "Status", "compare_stages"]
