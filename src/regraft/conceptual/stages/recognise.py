"""Which optimiser makes these steps: settings are searched for until its float64 steps are the ones that were seen."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.conceptual.stages.update_rules import CHOICES, NUMBERS, SETTINGS, START, Rule, trajectory

if TYPE_CHECKING:
    from regraft.conceptual.stages.interface import Array

FITS = 1e-5
"""Relative RMS error of the steps up to which a rule fits; settings that are float32 leave 1e-7."""
_ROUNDS = 6
_GOLDEN = (math.sqrt(5) - 1) / 2


class Seen(msgspec.Struct, frozen=True):
    """What an optimiser did to one weight.

    Attributes:
        weight: (n,) before.
        gradients: T of (n,).
        after: (T, n)
    """

    weight: Array
    gradients: tuple[Array, ...]
    after: Array

    def error(self, rule: Rule) -> float:
        """RMS of the difference of all steps per RMS of the steps: of the worse half of the two halves of elements.

        Elements are ordered so that those with small gradients, where epsilon shows, are a half by themselves.
        """
        import numpy as np

        before = np.concatenate([self.weight[None].astype(np.float64), self.after[:-1]])
        made = trajectory(rule, self.weight, self.gradients)
        steps = self.after - before  # (T, n)
        theirs = made - np.concatenate([self.weight[None].astype(np.float64), made[:-1]])
        half = max(1, steps.shape[1] // 2)
        parts = (slice(0, half), slice(half, None))
        return max(_relative(theirs[:, part], steps[:, part]) for part in parts)


def _relative(theirs: Array, ours: Array) -> float:
    import numpy as np

    if not ours.size:
        return 0.0
    with np.errstate(all="ignore"):
        scale = float(np.sqrt(np.mean(ours**2)))
        error = float(np.sqrt(np.mean((theirs - ours) ** 2)))
    if not math.isfinite(error):
        return math.inf
    return error / scale if scale else (0.0 if error == 0 else math.inf)


def recognised(seen: Seen, starts: Iterable[Rule], *, tolerance: float = FITS) -> Rule | None:
    """The rule that makes the steps, from starts that are near it or else from the defaults of every kind.

    Args:
        seen: steps in float64.
        starts: tried as they are, then with one setting changed, then two, then as many as it takes.
        tolerance: relative error up to which a rule fits.
    """
    tried = list(dict.fromkeys(starts))
    for rule in tried:
        if seen.error(rule) <= tolerance:
            return rule
    for rule in [*tried, *(START[kind] for kind in START if kind not in {one.kind for one in tried})]:
        found = _searched(seen, rule, tolerance)
        if found is not None:
            return found
    return None


def _searched(seen: Seen, start: Rule, tolerance: float) -> Rule | None:
    """Change the setting that helps most, again and again; choices are tried together with a fit of each number."""
    current, error = start, seen.error(start)
    for _ in range(_ROUNDS):
        options = sorted(
            ((seen.error(rule), i, rule) for i, rule in enumerate(_neighbours(current))), key=lambda o: o[:2]
        )
        best_error, _, best = min(
            ((seen.error(rule), i, rule) for i, rule in enumerate(_fitted(seen, rule) for _, _, rule in options[:12])),
            key=lambda one: one[:2],
        )
        if best_error <= tolerance:
            return best
        if best_error >= error * 0.999:
            return None
        current, error = best, best_error
    return None


def _neighbours(rule: Rule) -> Iterator[Rule]:
    """One setting changed; a decay or a momentum that comes in, with each of its places."""
    for name in SETTINGS[rule.kind]:
        for value in CHOICES.get(name, NUMBERS.get(name, ())):
            if value != getattr(rule, name):
                yield _with(rule, name, value)
    if rule.weight_decay == 0:
        for place in CHOICES["decay_place"]:
            yield from (_with(_with(rule, "decay_place", place), "weight_decay", value) for value in (0.1, 0.01, 0.001))
    if rule.momentum == 0 and rule.kind in ("sgd", "rmsprop"):
        yield from (_with(_with(rule, "nesterov", True), "momentum", value) for value in (0.9, 0.5))
        yield from (_with(_with(rule, "lr_place", "inside"), "momentum", value) for value in (0.9, 0.5))
    for place in CHOICES["eps_place"] if "eps_place" in SETTINGS[rule.kind] else ():
        yield from (_with(_with(rule, "eps_place", place), "eps", value) for value in NUMBERS["eps"])
    for factor in (0.1, 10.0):
        yield _with(rule, "lr", rule.lr * factor)


def _with(rule: Rule, name: str, value: Any) -> Rule:
    return msgspec.structs.replace(rule, **{name: value})


def _fitted(seen: Seen, rule: Rule) -> Rule:
    """The learning rate of least squares, then every number between its neighbours, twice."""
    rule = _with_rate(seen, rule)
    for _ in range(2):
        for name in SETTINGS[rule.kind]:
            if name in NUMBERS and name != "lr" and getattr(rule, name):
                rule = _with_rate(seen, _golden(seen, rule, name))
    return rule


def _with_rate(seen: Seen, rule: Rule) -> Rule:
    """The learning rate that fits best; steps are nearly proportional to it."""
    import numpy as np

    for _ in range(3):
        made = trajectory(rule, seen.weight, seen.gradients)
        start = seen.weight[None].astype(np.float64)
        ours = np.diff(np.concatenate([start, seen.after]), axis=0)
        theirs = np.diff(np.concatenate([start, made]), axis=0)
        with np.errstate(all="ignore"):
            below = float((theirs**2).sum())
            factor = float((ours * theirs).sum()) / below if below else 1.0
        if not math.isfinite(factor) or factor <= 0 or abs(factor - 1) < 1e-12:
            return rule
        rule = _with(rule, "lr", rule.lr * factor)
    return rule


def _golden(seen: Seen, rule: Rule, name: str) -> Rule:
    """The value with the least error, searched for on a logarithmic scale of the number, or of its distance to 1."""
    is_near_one = name in ("momentum", "beta1", "beta2", "dampening")
    value = getattr(rule, name)
    middle = math.log(1 - value if is_near_one else value)

    def at(place: float) -> Rule:
        number = 1 - math.exp(place) if is_near_one else math.exp(place)
        return _with(rule, name, number)

    low, high = middle - 1.2, min(middle + 1.2, 0.0 if is_near_one else middle + 1.2)
    if seen.error(at(middle)) > 1.0:
        return rule
    places = [high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)]
    errors = [seen.error(at(place)) for place in places]
    while high - low > 1e-9:
        if errors[0] <= errors[1]:
            high, places[1], errors[1] = places[1], places[0], errors[0]
            places[0] = high - _GOLDEN * (high - low)
            errors[0] = seen.error(at(places[0]))
        else:
            low, places[0], errors[0] = places[0], places[1], errors[1]
            places[1] = low + _GOLDEN * (high - low)
            errors[1] = seen.error(at(places[1]))
        if min(errors) < 1e-12:
            break
    best = at(places[0] if errors[0] <= errors[1] else places[1])
    return best if seen.error(best) < seen.error(rule) else rule


def _flag(values: Mapping[str, float], name: str) -> bool:
    return bool(values.get(name, 0.0))


def rule_from_settings(kind: str, values: Mapping[str, float]) -> Rule | None:
    """What an optimiser of torch or Keras says about itself, as a rule; None for a class that is not known.

    Args:
        kind: name of the class.
        values: its settings for one weight.
    """
    name = kind.lower()
    wanted = {
        "sgd": ("momentum", "dampening"), "rmsprop": ("momentum", "eps"), "adagrad": ("eps",),
        "lion": ("beta1", "beta2"),
    }.get(name, ("beta1", "beta2", "eps"))  # fmt: skip
    numbers: dict[str, Any] = {key: values[key] for key in ("lr", "weight_decay", *wanted) if key in values}
    if name == "sgd":
        return Rule("sgd", **numbers, nesterov=_flag(values, "nesterov"))
    if name in ("adam", "adamw"):
        is_decoupled = name == "adamw" or _flag(values, "decoupled_weight_decay")
        place = "weight" if is_decoupled else "gradient"
        return Rule("adam", **numbers, amsgrad=_flag(values, "amsgrad"), decay_place=place)
    if name == "rmsprop":
        smoothing = values.get("alpha", values.get("rho", 0.99))
        return Rule("rmsprop", **numbers, beta2=smoothing, centered=_flag(values, "centered"))
    if name == "adagrad":
        return Rule("adagrad", **numbers, start=values.get("initial_accumulator_value", 0.0))
    if name == "lion":
        return Rule("lion", **numbers, decay_place="weight")
    return None


def differences(reference: Rule, candidate: Rule) -> list[tuple[str, object, object]]:
    """Settings that differ, with both values; those that mean nothing in either rule are left out."""
    if reference.kind != candidate.kind:
        return [("kind", reference.kind, candidate.kind)]
    found = []
    for name in SETTINGS[reference.kind]:
        ours, theirs = getattr(reference, name), getattr(candidate, name)
        if _is_idle(name, reference) and _is_idle(name, candidate):
            continue
        is_same = math.isclose(ours, theirs, rel_tol=1e-3) if isinstance(ours, float) else ours == theirs
        if not is_same:
            found.append((name, ours, theirs))
    return found


def _is_idle(name: str, rule: Rule) -> bool:
    needs: dict[str, Sequence[str]] = {
        "decay_place": ("weight_decay",), "dampening": ("momentum",), "lr_place": ("momentum",),
        "eps_place": ("eps",),
    }  # fmt: skip
    if name == "nesterov" and rule.kind == "sgd":
        return not rule.momentum
    return any(not getattr(rule, one) for one in needs.get(name, ()))
