"""What can be set wrongly at an operator, in any framework: the name of the setting, and values to try."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from regraft.compare.roles import role

EPSILONS = (1e-5, 1e-6, 1e-12, 1e-3, 1e-8, 1e-7, 1e-4, 1e-2, 0.0)
_SLOPES = (0.01, 0.1, 0.2, 0.3, 0.0)
_MAX_AXES = 5
_MAX_GROUPS = 16
Settings = Mapping[str, Any]
Choose = Callable[[str, Settings, str, Any], Iterator[Any]]
"""(role of the operator, its settings, name of one, first operand) → values of that one to try."""


def variants(operator: str, now: Settings, x: Any) -> Iterator[dict[str, Any]]:
    """Other settings of an operator that converters and ports are known to give it, the likeliest first.

    Args:
        operator: in the framework's words.
        now: its settings.
        x: its first operand.
    Yields:
        what to change: the setting that is tried first, then what may have to follow it.
    """
    kind = role(operator)
    for name, choose in _KNOBS.items():
        if name not in now:
            continue
        for value in choose(kind, now, name, x):
            if value != now[name]:
                yield {name: value}
                following = _following(now, name, value)
                if following:
                    yield {name: value, **following}


def _following(now: Settings, name: str, value: Any) -> dict[str, Any]:
    """With another dilation the padding that keeps the size; with the nearest neighbour torch's rounding."""
    if value == "nearest" and "nearest_mode" in now:
        return {"nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
    pads = next((one for one in ("pads", "padding") if isinstance(now.get(one), list)), None)
    if name not in ("dilation", "dilations") or pads is None or not all(now[name]):
        return {}
    factors = [new / old for new, old in zip(value, now[name], strict=True)]
    spread = now[pads]
    wanted = [extent * factors[i % len(factors)] for i, extent in enumerate(spread)]
    return {pads: [int(one) for one in wanted]} if all(one == int(one) for one in wanted) and any(spread) else {}


def _listed(*values: Any) -> Choose:
    return lambda kind, now, name, x: iter(values)


def _by_role(**values: tuple[Any, ...]) -> Choose:
    return lambda kind, now, name, x: iter(values.get(kind, ()))


def _flag(kind: str, now: Settings, name: str, x: Any) -> Iterator[Any]:
    value = now[name]
    if isinstance(value, bool | int) and kind != "batch_norm":  # whose training mode changes its own statistics
        yield type(value)(not value)


def _axis(kind: str, now: Settings, name: str, x: Any) -> Iterator[Any]:
    rank = getattr(x, "ndim", _MAX_AXES)
    value = now[name]
    if isinstance(value, int):
        yield from (axis for axis in range(rank) if axis != value % max(1, rank))
    elif isinstance(value, list) and len(value) == 1:
        yield from ([axis] for axis in range(rank))


def _order(kind: str, now: Settings, name: str, x: Any) -> Iterator[Any]:
    rank = getattr(x, "ndim", 0)
    if rank <= _MAX_AXES:
        yield from map(list, itertools.permutations(range(rank)))


def ends(pads: Sequence[int]) -> Iterator[list[int]]:
    """As much padding in all, elsewhere: first all beginnings, then all ends, as ONNX lists it; or none."""
    half = len(pads) // 2
    total = [pads[i] + pads[i + half] for i in range(half)]
    low = [extent // 2 for extent in total]
    high = [extent - other for extent, other in zip(total, low, strict=True)]
    yield from ([0] * half + total, total + [0] * half, [0] * len(pads), low + high, high + low)


def _ends(kind: str, now: Settings, name: str, x: Any) -> Iterator[Any]:
    return ends(now[name])


def _sides(kind: str, now: Settings, name: str, x: Any) -> Iterator[Any]:
    """The same as torch lists it: before and behind each axis."""
    pads = now[name]
    for other in ends([*pads[::2], *pads[1::2]]):
        half = len(other) // 2
        yield [extent for pair in zip(other[:half], other[half:], strict=True) for extent in pair]


def _same_everywhere(*values: int) -> Choose:
    def choose(kind: str, now: Settings, name: str, x: Any) -> Iterator[Any]:
        if isinstance(now[name], list):
            yield from ([value] * len(now[name]) for value in values)

    return choose


def _divisors(kind: str, now: Settings, name: str, x: Any) -> Iterator[Any]:
    channels = x.shape[1] if getattr(x, "ndim", 0) > 1 else 0
    yield from (count for count in range(1, min(channels, _MAX_GROUPS) + 1) if channels % count == 0)


def _direction(kind: str, now: Settings, name: str, x: Any) -> Iterator[Any]:
    if now[name] != "bidirectional":
        yield from ("forward", "reverse")


_KNOBS: dict[str, Choose] = {
    "epsilon": _listed(*EPSILONS), "eps": _listed(*EPSILONS),
    "approximate": _listed("tanh", "none"),
    "coordinate_transformation_mode": _listed(
        "half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "half_pixel_symmetric"
    ),
    "nearest_mode": _listed("round_prefer_floor", "floor", "ceil", "round_prefer_ceil"),
    "align_corners": _flag,
    "rounding_mode": _listed("floor", "trunc", None),
    "mode": _by_role(
        resize=("nearest", "linear", "cubic"), depthtospace=("DCR", "CRD"),
        pad=("constant", "reflect", "edge", "replicate", "circular"),
    ),
    "ceil_mode": _flag, "count_include_pad": _flag, "fmod": _flag, "exclusive": _flag, "reverse": _flag,
    "select_last_index": _flag, "largest": _flag, "linear_before_reset": _flag, "keepdims": _flag, "keepdim": _flag,
    "transA": _flag, "transB": _flag, "is_causal": _flag,
    "axis": _axis, "dim": _axis,
    "alpha": _by_role(leakyrelu=_SLOPES, elu=(1.0, 0.1), hardsigmoid=(1 / 6, 0.2)),
    "negative_slope": _listed(*_SLOPES),
    "pads": _ends, "pad": _sides, "padding": _same_everywhere(0, 1, 2),
    "dilations": _same_everywhere(1, 2), "dilation": _same_everywhere(1, 2),
    "strides": _same_everywhere(1, 2), "stride": _same_everywhere(1, 2),
    "perm": _order, "dims": _order,
    "num_groups": _divisors,
    "direction": _direction,
}  # fmt: skip
"""Setting, by the name that some framework has for it → what to try; in the order in which they are tried."""

NUMBERS = frozenset("epsilon eps alpha beta negative_slope scale value min max other exponent lambd".split())
"""Settings that are numbers which are searched for."""
