"""The data pipeline: every step of both on what the reference's step before made of the same samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.compare.deviation import deviation
from regraft.compare.judge import Judgement, threshold
from regraft.compare.noise import Ratio, ratios, unit_roundoff
from regraft.conceptual.stages.declaration import all_seeded
from regraft.conceptual.stages.exact import PRECISION
from regraft.conceptual.stages.interface import Divergence, StageResult, Status, Step
from regraft.conceptual.stages.sample_causes import StepCase, cause_of_step
from regraft.errors import Unsupported

if TYPE_CHECKING:
    from regraft.conceptual.stages.interface import Array, Side, WeightMap

MAX_SAMPLES = 32
_SEED = 0
_OWN = 4.0
"""Units of its scale by which a step may be wrong: it is a formula of some operations, and has no float64 run."""
_WHOLE = "pipeline"


class PipelineStage:
    """Steps are paired by position; pipelines of another length, or in another order, are compared as a whole.

    A step is code of the user's on data of any kind and cannot be run in float64, so its floor is four unit roundoffs
    of the scale of its result.
    """

    name = "pipeline"
    needs = frozenset({"pipeline"})

    def compare(self, reference: Side, candidate: Side, weights: WeightMap, *, seed: int) -> StageResult:
        """As `Stage.compare`."""
        samples = list(reference.samples[:MAX_SAMPLES])
        if not samples:
            raise Unsupported("there is no sample", where=reference.where, hint="let the factory return `samples`")
        if other := _other_samples(samples, candidate):
            return StageResult(self.name, Status.DIVERGES, (other,), measured={"samples": float(len(samples))})
        pairs = _paired(reference.pipeline, candidate.pipeline)
        random = [side.where for side in (reference, candidate) if _is_random(side, samples[0])]
        found, notes = [], []
        given = samples
        for ours, theirs in pairs:
            cases = [_case(ours, theirs, sample, reference.where) for sample in given]
            divergence = _divergence(ours, theirs, cases, candidate.where)
            found += [divergence] if divergence else []
            given = [case.ours for case in cases]
        measured = {"samples": float(len(samples)), "steps": float(len(pairs))}
        if len(reference.pipeline) != len(candidate.pipeline):
            notes.append(
                f"{len(reference.pipeline)} steps in the reference, {len(candidate.pipeline)} in the candidate: "
                "whole pipelines were compared; name the steps alike to see which one differs"
            )
        if random and (found or len(random) == 1):
            because = (
                f"{' and '.join(random)} draws random numbers: they were seeded alike before each step; turn it off"
            )
            return StageResult(self.name, Status.UNDECIDED, tuple(found), because, tuple(notes), measured)
        measured["ratio"] = max((one.ratio or 0.0 for one in found), default=0.0)
        is_beyond = any(one.judgement is Judgement.BEYOND for one in found)
        status = Status.DIVERGES if is_beyond else Status.UNDECIDED if found else Status.AGREES
        reason = "" if found else f"{len(pairs)} steps on {len(samples)} samples"
        return StageResult(self.name, status, tuple(found), reason, tuple(notes), measured)


def _paired(ours: Sequence[Step], theirs: Sequence[Step]) -> list[tuple[Step, Step]]:
    if len(ours) == len(theirs):
        by_name = {step.name: step for step in theirs}
        in_order = [step.name for step in ours] == [step.name for step in theirs]
        if not in_order and set(by_name) == {step.name for step in ours}:
            return [(chain(ours), chain(theirs))]  # the same steps in another order
        return list(zip(ours, theirs, strict=True))
    return [(chain(ours), chain(theirs))]


def chain(steps: Sequence[Step]) -> Step:
    """All steps as one."""

    def run(sample: Any) -> Any:
        for step in steps:
            sample = step.run(sample)
        return sample

    names = [step.name for step in steps]
    return Step(_WHOLE if len(set(names)) > 1 else names[0], run)


def _case(ours: Step, theirs: Step, sample: Any, where: str) -> StepCase:
    made = _run(ours, sample, where)
    try:
        return StepCase(sample, made, _run(theirs, sample, ""), "", ours.run, theirs.run)
    except Unsupported as error:
        return StepCase(sample, made, None, error.what, ours.run, theirs.run)


def _run(step: Step, sample: Any, where: str) -> Any:
    """One step on a copy of a sample, with seeded random numbers.

    Raises:
        Unsupported: it failed.
    """
    import copy

    try:
        with all_seeded(_SEED):
            return step.run(copy.deepcopy(sample))
    except Exception as error:  # the user's code may raise anything
        raise Unsupported(f"the step {step.name} failed: {type(error).__name__}: {error}", where=where) from error


def _is_random(side: Side, sample: Any) -> bool:
    """Whether a sample comes out differently with another seed."""
    import copy

    if not side.pipeline:
        return False
    made = []
    for seed in (_SEED, _SEED + 1):
        try:
            with all_seeded(seed):
                made.append(as_arrays(chain(side.pipeline).run(copy.deepcopy(sample))))
        except Exception:  # noqa: BLE001  # it is told where the step is run
            return False
    return any(not _is_equal(made[0][name], made[1].get(name)) for name in made[0])


def as_arrays(value: Any) -> dict[str, Array]:
    """What a step returned, as named arrays; texts are arrays of characters' numbers."""
    import numpy as np

    if isinstance(value, Mapping):
        return {f"{key}{name}": array for key, one in value.items() for name, array in as_arrays(one).items()}
    if isinstance(value, tuple) or (isinstance(value, list) and value and not np.isscalar(value[0])):
        return {f"[{i}]{name}": array for i, one in enumerate(value) for name, array in as_arrays(one).items()}
    if isinstance(value, str):
        return {"": np.array([ord(character) for character in value], dtype=np.int64)}
    if hasattr(value, "detach"):
        value = value.detach().numpy()
    array = np.asarray(value)
    if array.dtype.kind in "US":
        return {f"[{i}]": np.array(list(map(ord, str(one)))) for i, one in enumerate(array.reshape(-1).tolist())}
    if array.dtype == object:
        raise Unsupported(f"{type(value).__name__} cannot be compared as arrays")
    return {"": array}


def _is_equal(one: Array, other: Array | None) -> bool:
    return other is not None and one.shape == other.shape and bool((one == other).all())


def _other_samples(samples: Sequence[Any], candidate: Side) -> Divergence | None:
    """The candidate's own samples are others, or come in another order; None where they are equal or not given."""
    own = list(candidate.samples[: len(samples)])
    if not own:
        return None
    try:
        ours, theirs = ([as_arrays(sample) for sample in side] for side in (samples, own))
    except Unsupported:
        return None
    if len(own) != len(samples):
        detail = f"{len(samples)} samples in the reference, {len(own)} in the candidate"
        return Divergence("extract", "samples", detail, first=min(len(own), len(samples)))
    differ = [i for i, (one, other) in enumerate(zip(ours, theirs, strict=True)) if not _same(one, other)]
    if not differ:
        return None
    moved = [next((j for j, other in enumerate(theirs) if _same(ours[i], other)), -1) for i in differ]
    if all(place >= 0 for place in moved):
        detail = (
            f"the same samples in another order: sample {differ[0]} of the reference is {moved[0]} of the candidate"
        )
        return Divergence("extract", "order", detail, first=differ[0], fix="shuffle alike, or not at all")
    detail = f"{len(differ)} of {len(samples)} samples are others, the first is sample {differ[0]}"
    return Divergence("extract", "samples", detail, first=differ[0])


def _same(one: Mapping[str, Array], other: Mapping[str, Array]) -> bool:
    return set(one) == set(other) and all(_is_equal(one[name], other[name]) for name in one)


class _Difference(msgspec.Struct):
    judgement: Judgement
    ratio: float | None
    floor: float | None
    detail: str


def _divergence(ours: Step, theirs: Step, cases: Sequence[StepCase], where: str) -> Divergence | None:
    """The first sample on which a step differs, with its cause; None where it agrees on all."""
    worst: _Difference | None = None
    first = -1
    touched = []
    for i, case in enumerate(cases):
        found = _difference(case)
        if found is None:
            continue
        touched.append(str(i))
        first = i if first < 0 else first
        is_worse = worst is None or (found.ratio or 0.0) > (worst.ratio or 0.0)
        worst = found if is_worse else worst
    if worst is None:
        return None
    place = ours.name if ours.name == theirs.name else f"{ours.name} / {theirs.name}"
    failed = next((case.failure for case in cases if case.failure), "")
    cause, detail, fix = ("", f"{where}: {failed}", "") if failed else cause_of_step(cases, first)
    return Divergence(
        place=place,
        cause=cause,
        detail=f"{detail or worst.detail}; {len(touched)} of {len(cases)} samples differ",
        judgement=worst.judgement,
        ratio=worst.ratio,
        floor=worst.floor,
        first=first,
        names=tuple(touched),
        fix=fix,
    )


def _difference(case: StepCase) -> _Difference | None:
    if case.failure:
        return _Difference(Judgement.BEYOND, None, None, case.failure)
    ours, theirs = as_arrays(case.ours), as_arrays(case.theirs)
    if len(ours) != len(theirs):
        detail = f"{len(ours)} arrays in the reference, {len(theirs)} in the candidate"
        return _Difference(Judgement.BEYOND, None, None, detail)
    limits = threshold("float64", PRECISION)
    found: _Difference | None = None
    for (name, one), other in zip(ours.items(), theirs.values(), strict=True):
        if one.shape != other.shape:
            detail = f"{name or 'it'} is {one.shape} in the reference, {other.shape} in the candidate"
            return _Difference(Judgement.BEYOND, None, None, detail)
        if one.dtype.kind not in "f" and other.dtype.kind not in "f":
            if (one != other).any():
                detail = f"{int((one != other).sum())} of {one.size} whole numbers differ"
                return _Difference(Judgement.BEYOND, None, None, detail)
            continue
        ratio = rounding_ratio(one, other)
        judgement = limits.judgement(ratio)
        if judgement is not Judgement.WITHIN and (found is None or ratio.rms > (found.ratio or 0.0)):
            found = _Difference(judgement, ratio.rms, ratio.floor, f"{ratio.rms:.3g} noise floors")
    return found


def rounding_ratio(ours: Array, theirs: Array) -> Ratio:
    """How far two results of a step are apart, in roundoffs of the coarser of float32 and what the first one is."""
    import numpy as np

    exact = ours.astype(np.float64)
    kind = str(ours.dtype) if str(ours.dtype) == "float16" else PRECISION
    unit = unit_roundoff(kind) * _OWN
    own = deviation(exact, exact)
    return ratios([deviation(theirs.astype(np.float64), exact)], [own], unit=unit)[0]


def within_rounding(ratio: Ratio) -> bool:
    """Whether rounding explains how far two results of a step are apart."""
    return threshold("float64", PRECISION).judgement(ratio) is Judgement.WITHIN
