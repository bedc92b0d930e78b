"""The optimiser alone: both are given the same weights and the same gradients for some steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from regraft.compare.judge import Judgement
from regraft.conceptual.stages.exact import PRECISION, Exact, Judged, asked, judged
from regraft.conceptual.stages.interface import Divergence, StageResult, Status
from regraft.conceptual.stages.pairs import Paired
from regraft.conceptual.stages.recognise import FITS, Seen, differences, recognised, rule_from_settings
from regraft.errors import Unsupported

if TYPE_CHECKING:
    from regraft.conceptual.stages.interface import Array, Arrays, Side, WeightMap
    from regraft.conceptual.stages.update_rules import Rule

STEPS = 8
_ELEMENTS = 48
"""Of each weight that hypotheses are tried on."""
_STEP = "step "
_SIZES = (0.5, 1e-3)
_WORDS = {
    "kind": "rule", "lr": "learning rate", "momentum": "momentum", "dampening": "dampening", "nesterov": "Nesterov",
    "lr_place": "learning rate inside of the momentum", "beta1": "beta1", "beta2": "beta2", "eps": "epsilon",
    "eps_place": "epsilon placement", "correction": "bias correction", "amsgrad": "AMSGrad", "centered": "centering",
    "weight_decay": "weight decay", "decay_place": "weight-decay placement", "start": "initial accumulator",
}  # fmt: skip

_VALUES = {
    "gradient": "added to the gradient (L2)", "weight": "taken off the weight (decoupled)",
    "weight, plain": "taken off the weight, without the learning rate", "True": "on", "False": "off",
    "outside": "outside of the root", "inside": "inside of the root",
    "uncorrected": "added before the bias is taken out",
}  # fmt: skip


class OptimiserStage:
    """Steps from probing gradients: of nine sizes, so that an epsilon shows, and absent now and then.

    Weights are large, so that their decay shows, and then small, so that a step is not lost in their rounding.
    """

    name = "optimiser"
    needs = frozenset({"model", "optimiser"})

    def compare(self, reference: Side, candidate: Side, weights: WeightMap, *, seed: int) -> StageResult:
        """As `Stage.compare`."""
        paired = Paired(reference, candidate, weights)
        probes = [_probe(reference, seed + i, size) for i, size in enumerate(_SIZES)]
        called, theirs_trained = paired.counterparts(), candidate.trainable()
        names = sorted(name for name in reference.trainable() if called.get(name, name) in theirs_trained)
        if not names:
            raise Unsupported("no weight is trained in both", where=candidate.where)
        exact = [
            asked(lambda given, dtype: _steps(reference, given, names, dtype), _given(probe), seed=seed)
            for probe in probes
        ]
        theirs = [_theirs(paired, probe, names, PRECISION) for probe in probes]
        every = {name: judged(name, [one[name] for one in theirs], exact) for name in names}
        measured = {"weights": float(len(names)), "steps": float(STEPS)}
        measured["ratio"] = max(one.ratio.rms for one in every.values())
        wrong = {name: one for name, one in every.items() if one.judgement is not Judgement.WITHIN}
        if not wrong:
            reason = f"{STEPS} steps of {len(names)} weights from probing gradients"
            return StageResult(self.name, Status.AGREES, reason=reason, measured=measured)
        is_exact = all(one.method == "float64" for one in exact)
        wide = [_theirs(paired, probe, names, "float64") for probe in probes] if is_exact else theirs
        settings = reference.settings()
        ours = _recognise(settings.rule, settings.values, probes, [one.values for one in exact], wrong, [])
        said = candidate.settings()
        values = {name: said.values.get(called.get(name, name), {}) for name in wrong}
        known = [rule for rule in ours.values() if rule is not None]
        found = _recognise(said.rule, values, probes, wide, wrong, known)
        divergences = tuple(_divergences(ours, found, every, wrong, len(names), exact, theirs))
        is_beyond = any(one.judgement is Judgement.BEYOND for one in divergences)
        return StageResult(self.name, Status.DIVERGES if is_beyond else Status.UNDECIDED, divergences, "", (), measured)


class Probe(msgspec.Struct, frozen=True):
    """What both optimisers are given.

    Attributes:
        start: weight → value before the first step.
        gradients: one dict a step.
    """

    start: dict[str, Array]
    gradients: list[dict[str, Array]]


def _probe(reference: Side, seed: int, size: float) -> Probe:
    """Weights of a size and gradients from 1e-9 to 1; zero in one of four steps, the first ones larger."""
    import numpy as np

    rng = np.random.default_rng(seed)
    own, trained = reference.weights(), sorted(reference.trainable())
    start = {
        name: (rng.standard_normal(value.shape) * size).astype(np.float32) if name in trained else value
        for name, value in own.items()
    }
    sizes = {name: 10.0 ** rng.integers(-9, 1, own[name].shape) for name in trained}

    def gradient(name: str, step: int) -> Array:
        shape = own[name].shape
        drawn = rng.standard_normal(shape) * sizes[name] * (rng.random(shape) > 0.25) * (1 + 3.0 / (1 + step))
        made: Array = drawn.astype(np.float32)
        return made

    return Probe(start, [{name: gradient(name, step) for name in trained} for step in range(STEPS)])


def _given(probe: Probe) -> dict[str, Array]:
    """Weights and gradients under one roof, so that jitter moves both."""
    steps = {f"{_STEP}{i} {name}": value for i, one in enumerate(probe.gradients) for name, value in one.items()}
    return {**probe.start, **steps}


def _steps(side: Side, given: Arrays, names: Sequence[str], dtype: str) -> dict[str, Array]:
    """(T, …) changes of every weight."""
    start = {name: value for name, value in given.items() if not name.startswith(_STEP)}
    gradients = [{name: given[f"{_STEP}{i} {name}"] for name in names} for i in range(STEPS)]
    return _changes(start, side.updates(start, gradients, dtype=dtype), names)


def _changes(start: Arrays, after: Sequence[Arrays], names: Sequence[str]) -> dict[str, Array]:
    import numpy as np

    return {
        name: np.diff(np.stack([start[name].astype(after[0][name].dtype), *(one[name] for one in after)]), axis=0)
        for name in names
    }


def _theirs(paired: Paired, probe: Probe, names: Sequence[str], dtype: str) -> dict[str, Array]:
    given = [paired.gradients(one) for one in probe.gradients]
    after = paired.candidate.updates(paired.weights(probe.start), given, dtype=dtype)
    return _changes(probe.start, [paired.back(one) for one in after], names)


def _recognise(
    kind: str, values: Mapping[str, Mapping[str, float]], probes: Sequence[Probe], changes: Sequence[Arrays],
    wrong: Mapping[str, Judged], known: Sequence[Rule],
) -> dict[str, Rule | None]:  # fmt: skip
    """The rule of every weight that differs; what was found for one is tried first for the next.

    Args:
        kind: what the optimiser calls itself.
        values: weight → what it says about its settings.
    """
    found: dict[str, Rule | None] = {}
    tried: list[Rule] = list(known)
    has_missed = False
    for name in wrong:
        seen = _seen(name, probes, changes)
        told = rule_from_settings(kind, values.get(name, {}))
        starts = [*([told] if told else []), *tried]
        rule = (
            next((one for one in starts if seen.error(one) <= FITS), None) if has_missed else recognised(seen, starts)
        )
        has_missed = has_missed or rule is None
        found[name] = rule
        if rule is not None and rule not in tried:
            tried.insert(0, rule)
    return found


def _seen(name: str, probes: Sequence[Probe], changes: Sequence[Arrays]) -> Seen:
    """Some elements of a weight from all probes, those with small gradients first."""
    import numpy as np

    weight = np.concatenate([one.start[name].reshape(-1) for one in probes])
    gradients = [np.concatenate([one.gradients[i][name].reshape(-1) for one in probes]) for i in range(STEPS)]
    steps = np.concatenate([one[name].reshape(STEPS, -1) for one in changes], axis=1).astype(np.float64)
    order = np.argsort(np.abs(gradients).max(axis=0), kind="stable")
    chosen = order[np.linspace(0, weight.size - 1, min(weight.size, _ELEMENTS)).astype(int)]
    after = weight[chosen] + np.cumsum(steps[:, chosen], axis=0)
    return Seen(weight[chosen], tuple(one[chosen] for one in gradients), after)


def _divergences(
    ours: Mapping[str, Rule | None], theirs: Mapping[str, Rule | None], every: Mapping[str, Judged],
    wrong: Mapping[str, Judged], total: int, exact: Sequence[Exact], answers: Sequence[Arrays],
) -> list[Divergence]:  # fmt: skip
    """One divergence for each difference of settings, with all weights that have it."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for name in wrong:
        reference, candidate = ours[name], theirs[name]
        if reference is None or candidate is None:
            who = "the reference's" if reference is None else "the candidate's"
            groups.setdefault(("", f"{who} rule is none that is known", ""), []).append(name)
            continue
        for setting, mine, their in differences(reference, candidate) or [("", "", "")]:
            groups.setdefault((setting, _told(mine), _told(their)), []).append(name)
    made = []
    for (setting, mine, their), names in groups.items():
        worst = max((every[name] for name in names), key=lambda one: one.ratio.rms)
        place = (
            "all weights"
            if len(names) == total
            else names[0]
            if len(names) == 1
            else f"{names[0]} and {len(names) - 1} more"
        )
        detail = f"{mine} in the reference, {their} in the candidate" if setting else mine
        at = max(names, key=lambda name: every[name].ratio.rms)
        made.append(
            Divergence(
                place=place,
                cause=_cause(setting, mine, their, is_some=len(names) < total),
                detail=detail or "the same rule, and other steps",
                judgement=worst.judgement,
                ratio=worst.ratio.rms,
                floor=worst.ratio.floor,
                first=_first(exact[every[at].worst], answers[every[at].worst], at),
                names=tuple(names),
                fix=f"{_WORDS[setting]}: {mine}" if setting else "",
            )
        )
    return made


def _cause(setting: str, ours: str, theirs: str, *, is_some: bool) -> str:
    if setting == "weight_decay" and is_some and "0" in (ours, theirs):
        return "weight-decay exclusion"
    return _WORDS.get(setting, "")


def _told(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else _VALUES.get(str(value), str(value))


def _first(exact: Exact, answers: Arrays, name: str) -> int:
    """The first step whose change differs by more than a hundredth of what the largest one does."""
    import numpy as np

    gaps = np.abs(exact.values[name] - answers[name]).reshape(STEPS, -1).max(axis=1)
    return int(np.argmax(gaps > gaps.max() / 100))
