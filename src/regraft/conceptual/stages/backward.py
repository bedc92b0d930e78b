"""The backward pass alone: same weights, same batch, and the reference's derivatives by the outputs given to both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from regraft.compare.judge import Judgement
from regraft.conceptual.stages.backward_causes import BackwardQuestion, GradientCause, causes_of_gradients
from regraft.conceptual.stages.exact import PRECISION, Exact, Judged, asked, judged
from regraft.conceptual.stages.interface import Divergence, StageResult, Status
from regraft.conceptual.stages.pairs import Paired
from regraft.errors import Unsupported

if TYPE_CHECKING:
    from regraft.conceptual.stages.interface import Array, Arrays, Side, WeightMap

_SCALES = (1.0, 100.0)
"""Of the given derivatives: what clips shows at large ones; everything else is linear in them."""
_MAX_BATCHES = 2


class GradientCase(msgspec.Struct, frozen=True):
    """What both are fed.

    Attributes:
        name: how it is called.
        batch: of the reference.
        cotangents: output → derivative of the loss by it.
    """

    name: str
    batch: Arrays
    cotangents: dict[str, Array]


class BackwardStage:
    """Derivatives by every weight, as the user's backward leaves them."""

    name = "backward"
    needs = frozenset({"model", "batches"})

    def compare(self, reference: Side, candidate: Side, weights: WeightMap, *, seed: int) -> StageResult:
        """As `Stage.compare`."""
        paired = Paired(reference, candidate, weights)
        ours = reference.weights()
        if differs := _forward_differs(paired, ours, seed):
            return StageResult(self.name, Status.UNDECIDED, reason=differs)
        theirs = paired.weights(ours)
        cases = list(_cases(reference, ours))
        exact = [_exact(reference, ours, case, seed) for case in cases]
        answers = [_theirs(paired, theirs, case, PRECISION) for case in cases]
        names = sorted(reference.trainable())
        every = _judged(names, answers, exact)
        measured = {
            "weights": float(len(names)),
            "ratio": max((one.ratio.rms for one in every.values()), default=0.0),
        }
        wrong = {name: one for name, one in every.items() if one.judgement is not Judgement.WITHIN}
        if not wrong:
            reason = f"gradients of {len(names)} weights on {len(cases)} sets of derivatives"
            return StageResult(self.name, Status.AGREES, reason=reason, measured=measured)
        question = BackwardQuestion(
            paired, ours, cases, exact, lambda case, dtype: _theirs(paired, theirs, case, dtype)
        )
        found = causes_of_gradients(question, [name for name in ours if name in wrong])
        divergences = tuple(_divergence(cause, wrong, cases) for cause in found)
        is_beyond = any(one.judgement is Judgement.BEYOND for one in divergences)
        return StageResult(self.name, Status.DIVERGES if is_beyond else Status.UNDECIDED, divergences, "", (), measured)


def _forward_differs(paired: Paired, ours: Arrays, seed: int) -> str:
    """Why the backward passes cannot be compared by themselves; empty where they can."""
    reference, candidate = paired.reference, paired.candidate
    if not reference.batches:
        raise Unsupported("there is no batch", where=reference.where, hint="let the factory return `batches`")
    batch = reference.batches[0]
    exact = asked(lambda given, dtype: reference.outputs(given, batch, dtype=dtype), ours, seed=seed)
    theirs = candidate.outputs(paired.weights(ours), paired.fed(batch), dtype=PRECISION)
    for name, value in paired.outputs(exact.values, theirs).items():
        if value.shape != exact.values[name].shape:
            return f"the forward passes differ: {name} is {exact.values[name].shape}, in the candidate {value.shape}"
        one = judged(name, [value], [exact])
        if one.judgement is Judgement.BEYOND:
            random = [side.where for side in (reference, candidate) if side.is_random()]
            because = f"; {' and '.join(random)} draws random numbers: turn dropout off" if random else ""
            return f"the forward passes differ already, by {one.ratio.rms:.3g} noise floors at {name}{because}"
    return ""


def _cases(reference: Side, ours: Arrays) -> Iterator[GradientCase]:
    import numpy as np

    for i, batch in enumerate(reference.batches[:_MAX_BATCHES]):
        outputs = reference.outputs(ours, batch, dtype=PRECISION)
        if "loss" in reference.parts:
            given = reference.slope(outputs, batch, dtype=PRECISION).gradients
        else:
            rng = np.random.default_rng(i)
            given = {n: rng.standard_normal(v.shape).astype(v.dtype) for n, v in outputs.items() if v.dtype.kind == "f"}
        if not given or not all(np.isfinite(value).all() for value in given.values()):
            raise Unsupported(f"the loss has no finite derivative on batch {i}", where=reference.where)
        for scale in _SCALES:
            name = f"batch {i}" if scale == 1.0 else f"batch {i} with derivatives {scale:g} times as large"
            yield GradientCase(name, batch, {key: (value * scale).astype(value.dtype) for key, value in given.items()})


def _exact(reference: Side, ours: Arrays, case: GradientCase, seed: int) -> Exact:
    def run(given: Arrays, dtype: str) -> dict[str, Array]:
        return filled(reference.gradients(given, case.batch, case.cotangents, dtype=dtype), reference, given)

    return asked(run, ours, seed=seed)


def filled(gradients: Mapping[str, Array], side: Side, weights: Arrays) -> dict[str, Array]:
    """Gradients of every weight that is trained; zero where none arrives."""
    import numpy as np

    return {name: gradients.get(name, np.zeros_like(weights[name])) for name in sorted(side.trainable())}


def _theirs(paired: Paired, theirs: Arrays, case: GradientCase, dtype: str) -> dict[str, Array]:
    """The candidate's gradients by the reference's names."""
    candidate, batch = paired.candidate, paired.fed(case.batch)
    own = candidate.outputs(theirs, batch, dtype=PRECISION)
    cotangents = paired.as_outputs(case.cotangents, own)
    return paired.back(filled(candidate.gradients(theirs, batch, cotangents, dtype=dtype), candidate, theirs))


def _judged(names: Sequence[str], answers: Sequence[Arrays], exact: Sequence[Exact]) -> dict[str, Judged]:
    """Every weight; where the exact gradient cancels to nothing, rounding is as large as elsewhere in the network."""
    import numpy as np

    scale = min(
        max(float(np.sqrt(np.mean(np.square(one.values[name])))) for name in names if one.values[name].size)
        for one in exact
    )
    missing = {name: np.zeros_like(exact[0].values[name]) for name in names}
    return {
        name: judged(name, [one.get(name, missing[name]) for one in answers], exact, least=scale * 2.0**-24)
        for name in names
    }


def _divergence(cause: GradientCause, wrong: Mapping[str, Judged], cases: Sequence[GradientCase]) -> Divergence:
    worst = max((wrong[name] for name in cause.names if name in wrong), key=lambda one: one.ratio.rms)
    seen = f"{len(cause.names)} weights, up to {worst.ratio.rms:.3g} noise floors on {cases[worst.worst].name}"
    return Divergence(
        place=cause.place,
        cause=cause.cause,
        detail=f"{cause.detail}; {seen}" if cause.detail else seen,
        judgement=worst.judgement,
        ratio=worst.ratio.rms,
        floor=worst.ratio.floor,
        first=worst.first,
        names=tuple(cause.names),
        fix=cause.fix,
    )
