"""replicate --training: two trainings of the user's own, stage by stage."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from regraft.compare.weight_map import WeightMap
from regraft.compare.weight_map.document import map_from_toml
from regraft.conceptual.pipelines.findings import add_pipeline_profile
from regraft.conceptual.stages import STAGES, compare_stages
from regraft.conceptual.stages.findings import add_stages
from regraft.conceptual.stages.interface import Side, StageResult, Status
from regraft.conceptual.stages.sides import side_from_factory
from regraft.errors import UsageError
from regraft.package.reference import parse_reference
from regraft.record.digest import digest_bytes
from regraft.record.evidence import JSON, DigestKind, Draft, Evidence, Severity, Subject, Verdict, combine

_OUTCOMES = {Verdict.PASS: "replicated", Verdict.FAIL: "differs", Verdict.INCONCLUSIVE: "undecided"}


def replicate_training(
    reference: str,
    candidate: str,
    *,
    stages: Sequence[str] | None = None,
    map_file: Path | None = None,
    seed: int = 0,
    is_profiled: bool = False,
) -> Evidence:
    """Find out whether two trainings do the same: data, forward pass, loss, gradients, optimiser, schedule, steps.

    Args:
        reference: `py:module:factory` of the user's; what it returns is described in docs/how-to/replicate-training.md.
        candidate: likewise.
        stages: of `STAGES`; None for all that both have.
        map_file: a weight map (TOML), as `replicate` writes it; None for the candidate's `weight_map`, or equal names.
        seed: of probes and jitter.
        is_profiled: time the data pipelines, too, step by step, and try faster ways to run the candidate's.
    Returns:
        evidence of kind `replicate`: replicated passes, differs fails, undecided is inconclusive.
    Raises:
        UsageError, Damaged: a reference is no `py:`, a factory returns something else, or the map does not fit.
        NotFound: there is no such module or factory.
    """
    for ref in (reference, candidate):
        if not ref.startswith("py:"):
            raise UsageError("a training is code of your own", where=ref, hint="name it py:module:factory")
    told: dict[str, JSON] = {"training": True, "stages": list(stages or STAGES), "seed": seed}
    draft = Draft("replicate", parameters=told | {"map": str(map_file) if map_file else None})
    ours, theirs = side_from_factory(reference), side_from_factory(candidate)
    draft.subject.append(_subject(candidate))
    draft.materials.append(_subject(reference))
    weights = None if map_file is None else _map(map_file, ours, theirs)
    results = list(compare_stages(ours, theirs, weights=weights, stages=stages, seed=seed))
    add_stages(draft, results)
    if is_profiled:
        add_pipeline_profile(draft, ours, theirs)
    verdict = _verdict(draft, results)
    return draft.finish(outcome=_OUTCOMES[verdict], summary=_summary(draft, results, verdict), verdict=verdict)


def _map(path: Path, ours: Side, theirs: Side) -> WeightMap:
    """The map in a file, between the weights that both factories build."""
    known, shapes = ({name: value.shape for name, value in side.weights().items()} for side in (ours, theirs))
    return map_from_toml(path, shapes=shapes, reference_shapes=known)


def _subject(ref: str) -> Subject:
    """The file of the factory; what it imports is not in its digest."""
    parse_reference(ref, from_user=True)
    module = sys.modules.get(ref.removeprefix("py:").partition(":")[0])
    file = getattr(module, "__file__", None)
    content = Path(file).read_bytes() if file and Path(file).is_file() else ref.encode()
    return Subject(ref, digest_bytes(content), DigestKind.PARTIAL)


def _verdict(draft: Draft, results: Sequence[StageResult]) -> Verdict:
    """What the findings amount to; inconclusive where nothing was compared."""
    if all(result.status is Status.ABSENT for result in results):
        return Verdict.INCONCLUSIVE
    return combine([Verdict.PASS, *(finding.severity.verdict for finding in draft.findings)])


def _summary(draft: Draft, results: Sequence[StageResult], verdict: Verdict) -> str:
    compared = [one.stage for one in results if one.status is not Status.ABSENT]
    if not compared:
        return "the two factories have no stage in common"
    if verdict is Verdict.PASS:
        return f"rounding explains every difference in {', '.join(compared)}"
    severity = Severity.HIGH if verdict is Verdict.FAIL else Severity.UNKNOWN
    blocking = [one for one in draft.findings if one.severity is severity]
    more = f" (and {len(blocking) - 1} more)" if len(blocking) > 1 else ""
    return blocking[0].message + more
