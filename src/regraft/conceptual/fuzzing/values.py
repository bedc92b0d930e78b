"""Arrays that networks are wrong on: kinds of numbers, integers and masks, and ways to change what was drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from regraft.conceptual.fuzzing.domain import Domain, is_mask

if TYPE_CHECKING:
    import numpy as np

    from regraft.package.formats import Port
    from regraft.runtime.interface import Array, Feeds

LARGEST = 1e8
"""No number is larger: beyond its root, squares of float32 overflow in one way of writing a norm and not in another."""
_DENORMAL = 1e-41


def _scaled(scale: float) -> Callable[[tuple[int, ...], np.random.Generator], Any]:
    return lambda shape, random: scale * random.standard_normal(shape)


def _few(shape: tuple[int, ...], random: np.random.Generator) -> Any:
    """One to three elements that are not zero."""
    import numpy as np

    made = np.zeros(shape)
    for place in random.integers(0, max(1, made.size), random.integers(1, 4)) if made.size else ():
        made.flat[place] = random.choice([-1, 1]) * 10.0 ** random.integers(-2, 4)
    return made


def _border(shape: tuple[int, ...], random: np.random.Generator) -> Any:
    """Zeros but for the first and the last place of one axis: what padding and strides lose first."""
    import numpy as np

    made = np.zeros(shape)
    if made.ndim > 1 and made.size:
        axis = int(random.integers(1, made.ndim))
        ends = np.moveaxis(made, axis, 0)
        ends[0], ends[-1] = random.standard_normal(ends[0].shape), random.standard_normal(ends[0].shape)
    return made


def _plane(shape: tuple[int, ...], random: np.random.Generator) -> Any:
    """Ordinary but for one channel, feature or place, which is a thousand times larger."""
    import numpy as np

    made = random.standard_normal(shape)
    if made.ndim and made.size:
        axis = int(random.integers(made.ndim))
        np.moveaxis(made, axis, 0)[int(random.integers(made.shape[axis]))] *= 1e3
    return made


def _ramp(shape: tuple[int, ...], random: np.random.Generator) -> Any:
    import numpy as np

    return np.arange(np.prod(shape, dtype=int)).reshape(shape) * 10.0 ** random.integers(-3, 2)


FLOATS: dict[str, Callable[[tuple[int, ...], np.random.Generator], Any]] = {
    "normal": _scaled(1.0),
    "zeros": lambda shape, _: 0.0 * _ramp(shape, _),
    "wide": _scaled(30.0),
    "small": _scaled(1e-3),
    "huge": _scaled(1e4),
    "tiny": _scaled(1e-6),
    "positive": lambda shape, random: random.random(shape),
    "negative": lambda shape, random: -abs(random.standard_normal(shape)),
    "constant": lambda shape, random: 0.0 * _ramp(shape, random) + random.choice([-100.0, -1.0, 0.5, 1.0, 7.0, 100.0]),
    "few": _few,
    "border": _border,
    "plane": _plane,
    "ties": lambda shape, random: (2 * random.standard_normal(shape)).round() / 2,
    "mixed": lambda shape, random: random.standard_normal(shape) * 10.0 ** random.uniform(-4, 4, shape),
    "offset": lambda shape, random: 1e3 + random.standard_normal(shape),
    "ramp": _ramp,
    "denormal": lambda shape, random: _DENORMAL * random.integers(-99, 100, shape),
    "enormous": _scaled(1e7),
}
"""Kinds of real numbers."""


def _edge(shape: tuple[int, ...], low: int, high: int, random: np.random.Generator) -> Any:
    """Uniform, but one element at an end of the range."""
    made = random.integers(low, high, shape, endpoint=True)
    if made.size:
        made.flat[int(random.integers(made.size))] = random.choice([low, low + 1, high - 1, high])
    return made.clip(low, high)


def _repeated(shape: tuple[int, ...], low: int, high: int, random: np.random.Generator) -> Any:
    import numpy as np

    return np.full(shape, random.integers(low, high, endpoint=True))


def _runs(shape: tuple[int, ...], low: int, high: int, random: np.random.Generator) -> Any:
    """Two integers alone, so that most of them come many times."""
    return random.choice(random.integers(low, high, 2, endpoint=True), shape)


def _counted(shape: tuple[int, ...], low: int, high: int, random: np.random.Generator) -> Any:
    import numpy as np

    start = int(random.integers(low, high, endpoint=True))
    return low + (start - low + np.arange(np.prod(shape, dtype=int)).reshape(shape)) % (high - low + 1)


INTEGERS: dict[str, Callable[[tuple[int, ...], int, int, np.random.Generator], Any]] = {
    "uniform": lambda shape, low, high, random: random.integers(low, high, shape, endpoint=True),
    "edge": _edge,
    "highest": lambda shape, low, high, _: _repeated(shape, high, high, _),
    "lowest": lambda shape, low, high, _: _repeated(shape, low, low, _),
    "repeated": _repeated,
    "counted": _counted,
    "runs": _runs,
}
"""Kinds of integers."""


def _padded(shape: tuple[int, ...], random: np.random.Generator) -> Any:
    """Every row of another length, at least 1."""
    import numpy as np

    lengths = random.integers(1, max(1, shape[-1]), shape[:-1], endpoint=True)
    return np.arange(shape[-1]) < lengths[..., None]


def _holes(shape: tuple[int, ...], random: np.random.Generator) -> Any:
    made = random.random(shape) < 0.6
    if made.size:
        made[..., int(random.integers(shape[-1]))] = True  # a row without anything has no answer
    return made


def _one_row(shape: tuple[int, ...], random: np.random.Generator) -> Any:
    """All count, but in one row only the first does."""
    import numpy as np

    made = np.ones(shape, bool)
    if made.size and made.ndim > 1:
        made[int(random.integers(shape[0])), ..., 1:] = False
    return made


MASKS: dict[str, Callable[[tuple[int, ...], np.random.Generator], Any]] = {
    "all": lambda shape, _: _padded(shape, _) | True,
    "padded": _padded,
    "left": lambda shape, random: _padded(shape, random)[..., ::-1],
    "one row": _one_row,
    "holes": _holes,
}
"""Kinds of masks; none has a row in which nothing counts."""


def kinds_of(port: Port, domain: Domain) -> list[str]:
    """The kinds of values that an input is tried with, the ordinary one first."""
    if is_mask(port, domain.ranges):
        return list(MASKS) if len(port.shape or ()) > 1 else ["all"]
    if "float" in port.dtype:
        return list(FLOATS)
    return list(INTEGERS) if "int" in port.dtype else ["uniform"]


def drawn(
    domain: Domain, setting: Mapping[str, int], kinds: Mapping[str, str], random: np.random.Generator
) -> dict[str, Array]:
    """Feeds of these sizes.

    Args:
        domain: of the reference.
        setting: symbol → size.
        kinds: input → kind of values.
        random: decides the rest.
    """
    return {port.name: _drawn(port, domain.shape(port, setting), domain, kinds[port.name], random)
            for port in domain.ports}  # fmt: skip


def _drawn(port: Port, shape: tuple[int, ...], domain: Domain, kind: str, random: np.random.Generator) -> Array:
    import numpy as np

    dtype = "float32" if port.dtype == "bfloat16" else port.dtype
    if kind in MASKS and is_mask(port, domain.ranges):
        made = MASKS[kind](shape, random) if shape else np.ones(shape, bool)
    elif "float" in port.dtype:
        most = min(LARGEST, float(np.finfo(dtype).max) / 100)
        made = np.clip(FLOATS[kind](shape, random), -most, most)
    elif port.dtype == "bool":
        made = random.random(shape) < 0.5
    else:
        made = INTEGERS[kind](shape, *domain.ranges.get(port.name, (0, 1)), random)
    return np.asarray(made).astype(dtype)


def changed(feeds: Feeds, domain: Domain, random: np.random.Generator) -> dict[str, Array]:
    """Other feeds of the same sizes: one input is changed."""
    ports = [port for port in domain.ports if feeds[port.name].size]
    if not ports:
        return dict(feeds)
    port = ports[int(random.integers(len(ports)))]
    value = feeds[port.name]
    if is_mask(port, domain.ranges) or port.dtype == "bool" or value.ndim == 0:
        kinds = kinds_of(port, domain)
        made = _drawn(port, value.shape, domain, kinds[int(random.integers(len(kinds)))], random)
    elif "float" in port.dtype:
        change = _CHANGES[int(random.integers(len(_CHANGES)))]
        made = change(value.astype("float64"), random).clip(-LARGEST, LARGEST).astype(value.dtype)
    else:
        other = _drawn(port, value.shape, domain, "edge" if random.random() < 0.5 else "uniform", random)
        made = _mixed(value, other, random)
    return {**feeds, port.name: made}


def _mixed(value: Any, other: Any, random: np.random.Generator) -> Any:
    """Some elements of another array, at least one."""
    import numpy as np

    taken = random.random(value.shape) < random.choice([0.05, 0.3, 0.8])
    taken.flat[int(random.integers(value.size))] = True
    return np.where(taken, other, value)


def _plane_scaled(x: Any, random: np.random.Generator) -> Any:
    import numpy as np

    made = x.copy()
    axis = int(random.integers(x.ndim))
    np.moveaxis(made, axis, 0)[int(random.integers(x.shape[axis]))] *= float(10.0 ** random.uniform(-2, 2))
    return made


_CHANGES: tuple[Callable[[Any, Any], Any], ...] = (
    lambda x, random: x * float(10.0 ** random.uniform(-3, 3)),
    lambda x, random: x * float(2.0 ** random.uniform(-2, 2)),
    lambda x, random: x + float(abs(x).max()) * random.uniform(-3, 3),
    lambda x, random: _mixed(x, x * float(10.0 ** random.uniform(-2, 2)), random),
    lambda x, random: _mixed(x, 0.0 * x, random),
    lambda x, random: _mixed(x, float(abs(x).max()) * random.standard_normal(x.shape), random),
    lambda x, random: abs(x) * random.choice([-1, 1]),
    _plane_scaled,
    lambda x, random: x + float(abs(x).max()) * 10.0 ** random.uniform(-3, 0) * random.standard_normal(x.shape),
)
"""Ways to change real numbers; those that scale also change how large the rest of the network's numbers are."""
