"""The loss function alone: both are given the outputs that the reference's network has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from regraft.compare.judge import Judgement
from regraft.conceptual.stages.exact import Exact, Judged, asked, judged
from regraft.conceptual.stages.interface import Divergence, StageResult, Status
from regraft.conceptual.stages.loss_causes import LossCase, LossQuestion, cause_of_loss
from regraft.conceptual.stages.pairs import Paired
from regraft.errors import Unsupported

if TYPE_CHECKING:
    from regraft.conceptual.stages.interface import Array, Arrays, Side, WeightMap

VALUE = "value"
_PROBE = 4.0
"""Outputs so many times as large: clamps and saturation show there, as they do late in a training."""
_MAX_BATCHES = 4


class LossStage:
    """Value and derivative by the outputs, on the batches, on half of each, and on larger outputs."""

    name = "loss"
    needs = frozenset({"loss", "batches", "model"})

    def compare(self, reference: Side, candidate: Side, weights: WeightMap, *, seed: int) -> StageResult:
        """As `Stage.compare`."""
        paired = Paired(reference, candidate, weights)
        cases = list(_cases(reference))
        exact = [_exact(reference, case, seed) for case in cases]
        if bad := [case.name for case, one in zip(cases, exact, strict=True) if not _is_finite(one.values[VALUE])]:
            raise Unsupported(f"the reference's own loss is not a finite number on {bad[0]}", where=reference.where)
        question = LossQuestion(paired, cases, exact, _is_exact(exact))
        answers = [question.theirs(case, "float32") for case in cases]
        measured = {"cases": float(len(cases))}
        if answers[0].value.shape != exact[0].values[VALUE].shape:
            return StageResult(
                self.name, Status.DIVERGES, (_other_shape(answers[0].value, exact[0]),), "", (), measured
            )
        value = judged(VALUE, [one.value for one in answers], exact)
        slopes = [_gradient(one.gradients, exact[i]) for i, one in enumerate(answers)]
        known = [one for one in slopes if one is not None]
        slope = judged("gradient", known, exact) if len(known) == len(exact) else value
        worst = max((value, slope), key=lambda one: one.ratio.rms)
        measured |= {"ratio": value.ratio.rms, "gradient_ratio": slope.ratio.rms}
        if value.judgement is Judgement.WITHIN and slope.judgement is Judgement.WITHIN:
            return StageResult(self.name, Status.AGREES, reason=f"{len(cases)} sets of outputs", measured=measured)
        cause, detail, fix = cause_of_loss(question)
        divergence = _divergence(value, worst, cases, exact, answers[worst.first].value, cause, detail, fix)
        status = Status.DIVERGES if divergence.judgement is Judgement.BEYOND else Status.UNDECIDED
        return StageResult(self.name, status, (divergence,), "", (), measured)


def _cases(reference: Side) -> Iterator[LossCase]:
    """The batches with the reference's outputs; then a half of the first one, and its outputs enlarged."""
    weights = reference.weights()
    batches = reference.batches[:_MAX_BATCHES]
    if not batches:
        raise Unsupported("there is no batch", where=reference.where, hint="let the factory return `batches`")
    made = [
        LossCase(f"batch {i}", reference.outputs(weights, batch, dtype="float32"), batch)
        for i, batch in enumerate(batches)
    ]
    yield from made
    first = made[0]
    rows = next(iter(first.outputs.values())).shape[:1]
    if rows and rows[0] >= 2:
        yield LossCase("half of batch 0", _half(first.outputs, rows[0]), _half(first.batch, rows[0]))
    larger = {name: value * _PROBE if value.dtype.kind == "f" else value for name, value in first.outputs.items()}
    yield LossCase(f"batch 0 with outputs {_PROBE:g} times as large", larger, first.batch, is_probe=True)


def _half(arrays: Arrays, rows: int) -> dict[str, Array]:
    return {
        name: value[: rows // 2] if value.ndim and value.shape[0] == rows else value for name, value in arrays.items()
    }


def _exact(reference: Side, case: LossCase, seed: int) -> Exact:
    def run(outputs: Arrays, dtype: str) -> dict[str, Array]:
        found = reference.slope(outputs, case.batch, dtype=dtype)
        return {VALUE: found.value, "gradient": _joined(found.gradients)}

    return asked(run, case.outputs, seed=seed)


def _joined(gradients: Arrays) -> Array:
    """All derivatives as one array, in the order of the outputs' names."""
    import numpy as np

    if not gradients:
        return np.zeros(0)
    return np.concatenate([gradients[name].reshape(-1) for name in sorted(gradients)])


def _gradient(gradients: Arrays, exact: Exact) -> Array | None:
    joined = _joined(gradients)
    return joined if joined.shape == exact.values["gradient"].shape else None


def _is_finite(value: Array) -> bool:
    import numpy as np

    return bool(np.isfinite(value).all())


def _is_exact(exact: list[Exact]) -> bool:
    return all(one.method == "float64" for one in exact)


def _other_shape(theirs: Array, exact: Exact) -> Divergence:
    ours = exact.values[VALUE].shape
    pair = f"{_shape(ours)} in the reference, {_shape(theirs.shape)} in the candidate"
    return Divergence("reduction", "reduction", f"the loss is {pair}", fix="reduce the losses of the samples alike")


def _shape(shape: tuple[int, ...]) -> str:
    return "one number" if not shape else f"an array of {'×'.join(map(str, shape))}"


def _divergence(
    value: Judged, worst: Judged, cases: list[LossCase], exact: list[Exact], theirs: Array,
    cause: str, detail: str, fix: str,
) -> Divergence:  # fmt: skip
    import numpy as np

    case = cases[worst.first]
    ours = exact[worst.first].values[VALUE]
    seen = f"{float(np.sum(ours)):.6g} in the reference, {float(np.sum(theirs)):.6g} in the candidate on {case.name}"
    place = "value" if value.judgement is not Judgement.WITHIN else "derivative"
    return Divergence(
        place=cause or place,
        cause=cause,
        detail=f"{detail}; {seen}" if detail else seen,
        judgement=worst.judgement,
        ratio=worst.ratio.rms,
        floor=worst.ratio.floor,
        first=worst.first,
        evidence={"reference": float(np.sum(ours)), "candidate": float(np.sum(theirs)), "on": case.name},
        fix=fix,
    )
