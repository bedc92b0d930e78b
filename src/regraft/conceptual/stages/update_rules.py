"""Optimisers as they are written down, with every convention that implementations disagree on as a setting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from regraft.conceptual.stages.interface import Array


class Rule(msgspec.Struct, frozen=True):
    """One optimiser for one weight, element by element.

    Attributes:
        kind: `sgd`, `adam`, `rmsprop`, `adagrad` or `lion`.
        lr: learning rate.
        momentum: of SGD and RMSprop.
        dampening: share of a gradient that does not enter the momentum; from the second step on.
        nesterov: the step looks ahead along the momentum.
        lr_place: whether the learning rate multiplies the momentum (`outside`) or what enters it (`inside`).
        beta1, beta2: decay of the moments; `beta2` is RMSprop's smoothing, too.
        eps: keeps the denominator from 0.
        eps_place: `outside` of the square root, `inside` of it, or `uncorrected`: added before the bias of the second
            moment is taken out.
        correction: which moments' bias is taken out: `both`, `first`, `second` or `none`.
        amsgrad: the denominator never shrinks.
        centered: RMSprop with the variance in place of the second moment.
        weight_decay: its factor.
        decay_place: `gradient` (L2), `weight` (decoupled, times the learning rate), `weight, plain` (decoupled,
            whatever the learning rate is).
        start: second moment or sum before the first step.
    Source: Kingma and Ba 2015 (Adam), algorithm 1 and the note below it on the order of computation; Loshchilov and
        Hutter 2019 (AdamW), algorithm 2; Reddi et al. 2018 (AMSGrad); Sutskever et al. 2013 (Nesterov), as torch and
        Keras deviate from it; Chen et al. 2023 (Lion); Duchi et al. 2011 (Adagrad).
    """

    kind: str
    lr: float = 0.001
    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False
    lr_place: str = "outside"
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    eps_place: str = "outside"
    correction: str = "both"
    amsgrad: bool = False
    centered: bool = False
    weight_decay: float = 0.0
    decay_place: str = "gradient"
    start: float = 0.0


CHOICES: dict[str, tuple[object, ...]] = {
    "nesterov": (False, True),
    "lr_place": ("outside", "inside"),
    "eps_place": ("outside", "inside", "uncorrected"),
    "correction": ("both", "none", "first", "second"),
    "amsgrad": (False, True),
    "centered": (False, True),
    "decay_place": ("gradient", "weight", "weight, plain"),
}
"""Setting → what it can be."""
NUMBERS: dict[str, tuple[float, ...]] = {
    "lr": (),
    "momentum": (0.0, 0.5, 0.8, 0.9, 0.95, 0.99),
    "dampening": (0.0, 0.1, 0.5, 0.9),
    "beta1": (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999),
    "beta2": (0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 0.9999),
    "eps": (0.0, *(10.0**-power for power in range(1, 17))),
    "weight_decay": (0.0, 0.1, 0.05, 0.01, 0.004, 0.001, 5e-4, 1e-4, 1e-5),
    "start": (0.0, 0.1, 1.0),
}
"""Setting → values that are tried; others are searched for between them."""
SETTINGS = {
    "sgd": ("lr", "momentum", "dampening", "nesterov", "lr_place", "weight_decay", "decay_place"),
    "adam": ("lr", "beta1", "beta2", "eps", "eps_place", "correction", "amsgrad", "nesterov", "weight_decay",
             "decay_place"),
    "rmsprop": ("lr", "beta2", "eps", "eps_place", "momentum", "lr_place", "centered", "weight_decay", "decay_place",
                "start"),
    "adagrad": ("lr", "eps", "eps_place", "start", "weight_decay", "decay_place"),
    "lion": ("lr", "beta1", "beta2", "weight_decay", "decay_place"),
}  # fmt: skip
"""Kind → settings that it has."""
START = {
    "sgd": Rule("sgd", lr=0.01),
    "adam": Rule("adam"),
    "rmsprop": Rule("rmsprop", lr=0.01, beta2=0.9),
    "adagrad": Rule("adagrad", lr=0.01, eps=1e-10, eps_place="outside"),
    "lion": Rule("lion", lr=1e-4, beta2=0.99),
}
"""Kind → where a search begins."""


def trajectory(rule: Rule, weight: Array, gradients: Sequence[Array]) -> Array:
    """Weights after each step, in float64.

    Args:
        rule: the optimiser.
        weight: (n,) before the first step.
        gradients: (n,) for each of the T steps.
    Returns:
        (T, n)
    """
    import numpy as np

    current = weight.astype(np.float64)
    state: dict[str, Array] = {}
    found = []
    with np.errstate(all="ignore"):  # rules that are tried may divide by 0
        for count, gradient in enumerate(gradients, 1):
            given = gradient.astype(np.float64)
            if rule.weight_decay and rule.decay_place == "gradient":
                given = given + rule.weight_decay * current
            change = _CHANGES[rule.kind](rule, given, state, count)
            if rule.weight_decay and rule.decay_place != "gradient":
                rate = rule.lr if rule.decay_place == "weight" else 1.0
                change = change + rate * rule.weight_decay * current
            current = current - change
            found.append(current)
    return np.stack(found)


def _sgd(rule: Rule, gradient: Array, state: dict[str, Array], count: int) -> Array:
    enters = gradient * (rule.lr if rule.lr_place == "inside" else 1.0)
    if not rule.momentum:
        change = enters
    else:
        kept = enters if count == 1 else rule.momentum * state["velocity"] + (1 - rule.dampening) * enters
        state["velocity"] = kept
        change = enters + rule.momentum * kept if rule.nesterov else kept
    made: Array = change if rule.lr_place == "inside" else rule.lr * change
    return made


def _adam(rule: Rule, gradient: Array, state: dict[str, Array], count: int) -> Array:
    import numpy as np

    first = rule.beta1 * state.get("first", 0.0) + (1 - rule.beta1) * gradient
    second = rule.beta2 * state.get("second", 0.0) + (1 - rule.beta2) * gradient**2
    state |= {"first": first, "second": second}
    if rule.amsgrad:
        second = state["largest"] = np.maximum(state.get("largest", np.zeros_like(second)), second)
    bias1 = 1 - rule.beta1**count if rule.correction in ("both", "first") else 1.0
    bias2 = 1 - rule.beta2**count if rule.correction in ("both", "second") else 1.0
    if rule.nesterov:
        first = rule.beta1 * first + (1 - rule.beta1) * gradient
    made: Array
    if rule.eps_place == "uncorrected":
        made = rule.lr * (first / bias1) * np.sqrt(bias2) / (np.sqrt(second) + rule.eps)
    elif rule.eps_place == "inside":
        made = rule.lr * (first / bias1) / np.sqrt(second / bias2 + rule.eps)
    else:
        made = rule.lr * (first / bias1) / (np.sqrt(second / bias2) + rule.eps)
    return made


def _rmsprop(rule: Rule, gradient: Array, state: dict[str, Array], count: int) -> Array:
    import numpy as np

    start = np.full_like(gradient, rule.start)
    second = state["second"] = rule.beta2 * state.get("second", start) + (1 - rule.beta2) * gradient**2
    if rule.centered:
        mean = state["mean"] = rule.beta2 * state.get("mean", 0.0) + (1 - rule.beta2) * gradient
        second = second - mean**2
    scaled: Array = gradient / _root(second, rule)
    if not rule.momentum:
        return rule.lr * scaled
    enters = scaled * (rule.lr if rule.lr_place == "inside" else 1.0)
    kept = state["velocity"] = rule.momentum * state.get("velocity", 0.0) + enters
    return kept if rule.lr_place == "inside" else rule.lr * kept


def _adagrad(rule: Rule, gradient: Array, state: dict[str, Array], count: int) -> Array:
    import numpy as np

    total = state["sum"] = state.get("sum", np.full_like(gradient, rule.start)) + gradient**2
    made: Array = rule.lr * gradient / _root(total, rule)
    return made


def _lion(rule: Rule, gradient: Array, state: dict[str, Array], count: int) -> Array:
    import numpy as np

    kept = state.get("kept", np.zeros_like(gradient))
    made: Array = rule.lr * np.sign(rule.beta1 * kept + (1 - rule.beta1) * gradient)
    state["kept"] = rule.beta2 * kept + (1 - rule.beta2) * gradient
    return made


def _root(second: Array, rule: Rule) -> Array:
    import numpy as np

    made: Array = np.sqrt(second + rule.eps) if rule.eps_place == "inside" else np.sqrt(second) + rule.eps
    return made


_CHANGES = {"sgd": _sgd, "adam": _adam, "rmsprop": _rmsprop, "adagrad": _adagrad, "lion": _lion}
