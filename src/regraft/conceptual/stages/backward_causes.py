"""Why gradients differ: scaled, clipped, cut off, or a branch that carries none; tried on the reference."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from regraft.conceptual.stages.exact import closeness

if TYPE_CHECKING:
    from regraft.conceptual.stages.backward import GradientCase
    from regraft.conceptual.stages.exact import Exact
    from regraft.conceptual.stages.gradient_sites import GradientSite
    from regraft.conceptual.stages.interface import Array, Arrays
    from regraft.conceptual.stages.pairs import Paired

_TOLERANCE = 1e-5
"""Relative; float32 where a side has no float64 run leaves more than that only where gradients cancel."""
_CANCELLED = 1e-6
"""Gradients below this part of the largest one of the network are rounding."""
_MAX_SITES = 400
_MAX_FACTORS = 3
_LOSS_SCALES = tuple(2.0**power for power in range(7, 25))


class GradientCause(NamedTuple):
    """A cause and the weights that it touches.

    Attributes:
        place: module, weight or `all weights`.
        cause: empty where no hypothesis holds.
    """

    place: str
    cause: str
    detail: str
    names: Sequence[str]
    fix: str = ""


class BackwardQuestion:
    """Gradients of both sides on all cases, in the reference's names.

    Args:
        paired: both sides.
        weights: of the reference.
        cases: what both are fed.
        exact: the reference's answers.
        ask: (case, dtype) to the candidate's gradients.
    """

    def __init__(
        self,
        paired: Paired,
        weights: Arrays,
        cases: Sequence[GradientCase],
        exact: Sequence[Exact],
        ask: Callable[[GradientCase, str], dict[str, Array]],
    ) -> None:
        self.paired = paired
        self.weights = weights
        self.cases = tuple(cases)
        self.dtype = "float64" if all(one.method == "float64" for one in exact) else "float32"
        self.ours = [one.values for one in exact]
        answers = [ask(case, self.dtype) for case in cases]
        nothing = _nothing(self.ours[0])
        self.theirs = [{name: one.get(name, zero) for name, zero in nothing.items()} for one in answers]

    def is_all(self, names: Collection[str]) -> bool:
        """Whether these are all weights but those whose gradients cancel, as that of a bias before a norm."""
        import numpy as np

        sizes = {name: max(float(np.abs(one[name]).max(initial=0.0)) for one in self.ours) for name in self.ours[0]}
        return all(name in names for name, size in sizes.items() if size > _CANCELLED * max(sizes.values()))

    def factors(self, name: str) -> list[float] | None:
        """The candidate's gradient of a weight per that of the reference, by case; None where it is no multiple."""
        import numpy as np

        found = []
        for ours, theirs in zip(self.ours, self.theirs, strict=True):
            mine, their = ours[name].astype(np.float64), theirs[name].astype(np.float64)
            norm = float(np.square(mine).sum())
            factor = float((mine * their).sum()) / norm if norm else 1.0
            if closeness([their], [mine * factor]) > _TOLERANCE and np.abs(their).max(initial=0.0) > 0:
                return None
            found.append(factor)
        return found


def _nothing(gradients: Arrays) -> dict[str, Array]:
    import numpy as np

    return {name: np.zeros_like(value) for name, value in gradients.items()}


def causes_of_gradients(question: BackwardQuestion, wrong: Sequence[str]) -> list[GradientCause]:
    """Causes for the weights whose gradients differ; what none explains is named by the weight nearest to the output.

    Args:
        question: gradients of both.
        wrong: weights that differ, in the order of the reference's network.
    """
    for family in (_other_limit, _clipped, _scaled, _frozen, _cut):
        for found in family(question, wrong):
            rest = [name for name in wrong if name not in found.names]
            return [found] if not rest else [found, *causes_of_gradients(question, rest)]
    return [GradientCause(wrong[-1], "", "no hypothesis reproduces these gradients", wrong)]


def _clipped(question: BackwardQuestion, wrong: Sequence[str]) -> Iterator[GradientCause]:
    for side, (plain, cut) in (
        ("candidate", (question.ours, question.theirs)),
        ("reference", (question.theirs, question.ours)),
    ):
        other = "reference" if side == "candidate" else "candidate"
        for word, limit in _limits(plain, cut, wrong):
            yield GradientCause(
                "all weights" if question.is_all(wrong) else _few(wrong),
                "clipping",
                f"the {side} clips gradients {word} {limit:.4g}, the {other} does not",
                wrong,
                f"clip {word} {limit:.4g} in both, or in neither",
            )
            return


def _limits(plain: Sequence[Arrays], cut: Sequence[Arrays], wrong: Sequence[str]) -> Iterator[tuple[str, float]]:
    """Ways to clip that make the one from the other."""
    import numpy as np

    largest = max(float(np.abs(one[name]).max(initial=0.0)) for one in cut for name in wrong)
    if largest and _is_cut(plain, cut, lambda one: {n: np.clip(v, -largest, largest) for n, v in one.items()}):
        yield "by value at", largest
    norms = [_norm(one.values()) for one in plain]
    limit = max(_norm(one.values()) for one in cut)
    if any(norm > limit * (1 + _TOLERANCE) for norm in norms) and _is_cut(plain, cut, lambda one: _by_norm(one, limit)):
        yield "by their norm at", limit
    each = max(_norm([one[name]]) for one in cut for name in wrong)
    if _is_cut(plain, cut, lambda one: {n: next(iter(_by_norm({n: v}, each).values())) for n, v in one.items()}):
        yield "weight by weight, by norm at", each


def _is_cut(plain: Sequence[Arrays], cut: Sequence[Arrays], change: Callable[[Arrays], dict[str, Array]]) -> bool:
    for one, other in zip(plain, cut, strict=True):
        changed = change(one)
        if closeness([other[name] for name in changed], list(changed.values())) > _TOLERANCE * 10:
            return False
    return True


def _by_norm(gradients: Arrays, limit: float) -> dict[str, Array]:
    norm = _norm(gradients.values())
    return {name: value * min(1.0, limit / norm) if norm else value for name, value in gradients.items()}


def _norm(values: Iterable[Array]) -> float:
    import numpy as np

    return math.sqrt(sum(float(np.square(one.astype(np.float64)).sum()) for one in values))


def _other_limit(question: BackwardQuestion, wrong: Sequence[str]) -> Iterator[GradientCause]:
    """Both clip by the norm, at different limits: the norms of large gradients do not grow."""
    norms = [[_norm(one.values()) for one in side] for side in (question.ours, question.theirs)]
    ours, theirs = (max(side) for side in norms)
    large = [i for i, case in enumerate(question.cases) if "times as large" in case.name]
    if not large or any(not math.isclose(side[i], max(side), rel_tol=1e-3) for side in norms for i in large):
        return
    factors = [question.factors(name) for name in wrong]
    if all(found is not None and math.isclose(found[large[0]], theirs / ours, rel_tol=1e-3) for found in factors):
        yield GradientCause(
            "all weights",
            "clipping",
            f"gradients are clipped by their norm at {ours:.4g} in the reference, at {theirs:.4g} in the candidate",
            wrong,
            f"clip at {ours:.4g}",
        )


def _scaled(question: BackwardQuestion, wrong: Sequence[str]) -> Iterator[GradientCause]:
    """The same factor for all of them."""
    every = {name: question.factors(name) for name in wrong}
    first = next(iter(every.values()))
    if first is None or not first[0] or not math.isclose(first[0], first[-1], rel_tol=_TOLERANCE * 10):
        return
    factor = first[0]
    same = [name for name, found in every.items() if found and math.isclose(found[0], factor, rel_tol=_TOLERANCE * 10)]
    if math.isclose(factor, 1.0, rel_tol=_TOLERANCE * 10):
        return
    if question.is_all(same):
        yield GradientCause("all weights", *_named_factor(factor, is_all=True), same, f"divide by {factor:.6g}")


def _named_factor(factor: float, *, is_all: bool) -> tuple[str, str]:
    told = f"gradients are {factor:.6g} times those of the reference"
    if math.isclose(factor, 2.0, rel_tol=_TOLERANCE * 10) and is_all:
        return "accumulated twice", told
    if any(math.isclose(factor, one**power, rel_tol=1e-4) for one in _LOSS_SCALES for power in (1, -1)):
        return "loss scale", f"{told}: a scale of the loss is not taken out again"
    if math.isclose(factor, -1.0, rel_tol=_TOLERANCE * 10):
        return "sign", told
    return "scale", told


def _frozen(question: BackwardQuestion, wrong: Sequence[str]) -> Iterator[GradientCause]:
    """Weights that one side does not train."""
    trained, called = question.paired.candidate.trainable(), question.paired.counterparts()
    frozen = [name for name in wrong if called.get(name, name) not in trained]
    if frozen:
        yield GradientCause(_few(frozen), "frozen", "the candidate does not train them", frozen, "train them")


def _cut(question: BackwardQuestion, wrong: Sequence[str]) -> Iterator[GradientCause]:
    """A place in the reference where gradients, cut off or scaled, become the candidate's."""
    import numpy as np

    for site, factor in _tried(question, wrong):
        told = "no gradient goes" if factor == 0 else f"{factor:.4g} times the gradient goes"
        yield GradientCause(
            site.place,
            "stop-gradient" if factor == 0 else "scale",
            f"{told} back through {site.told} in the candidate",
            wrong,
            "remove the detach or stop_gradient" if factor == 0 else f"divide by {factor:.4g} there",
        )
        return
    for side, gradients in (("candidate", question.theirs), ("reference", question.ours)):
        none = [name for name in wrong if not any(np.abs(one[name]).max(initial=0.0) for one in gradients)]
        if none:
            detail = f"no gradient arrives at them in the {side}"
            yield GradientCause(none[-1], "stop-gradient", detail, none)
            return
    for name in reversed(wrong):
        factors = question.factors(name)
        if factors and math.isclose(factors[0], factors[-1], rel_tol=_TOLERANCE * 10):
            same = [one for one in wrong if _has_factor(question.factors(one), factors[0])]
            yield GradientCause(same[-1], *_named_factor(factors[0], is_all=False), same)
            return


def _has_factor(factors: Sequence[float] | None, wanted: float) -> bool:
    return factors is not None and math.isclose(factors[0], wanted, rel_tol=_TOLERANCE * 10)


def _tried(question: BackwardQuestion, wrong: Sequence[str]) -> Iterator[tuple[GradientSite, float]]:
    """Sites of a torch reference, and the factors there, that make the candidate's gradients."""
    import numpy as np

    reference = question.paired.reference
    case, names = question.cases[0], list(question.ours[0])
    factors = [0.0]
    for name in wrong:
        same = question.factors(name)
        if same and same[0] and not any(math.isclose(same[0], one, rel_tol=1e-3) for one in (*factors, 1.0)):
            factors.append(same[0])
    for site in reference.gradient_sites(question.weights, case.batch)[:_MAX_SITES]:
        for factor in factors[:_MAX_FACTORS]:
            found = reference.gradients_through(
                question.weights, case.batch, case.cotangents, dtype=question.dtype, site=site, factor=factor
            )
            full = [found.get(name, np.zeros_like(question.ours[0][name])) for name in names]
            if _is_same([question.theirs[0][name] for name in names], full):
                yield site, factor


def _is_same(theirs: Sequence[Array], wanted: Sequence[Array]) -> bool:
    """Equal but for rounding; what vanishes on one side must nearly vanish on the other."""
    import numpy as np

    scale = max(float(np.abs(one).max(initial=0.0)) for one in wanted)
    return all(
        float(np.abs(one - other).max(initial=0.0))
        <= _TOLERANCE * max(float(np.abs(other).max(initial=0.0)), 1e-6 * scale)
        for one, other in zip(theirs, wanted, strict=True)
    )


def _few(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
