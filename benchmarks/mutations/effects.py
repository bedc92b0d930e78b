"""What a fault does to the answers of a network: runs on all feeds, compared with those of the reference."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
from benchmarks.mutations.architectures import reference
from benchmarks.mutations.double import in_double
from benchmarks.mutations.interface import Effect, Reference
from benchmarks.mutations.running import Stopped, answers, run, session, trace

FAINT = 1e-6
"""RMS of a difference over RMS of the tensor below which float32 rounding alone could have made it (the floors of the
references are 4e-8 to 4e-7); whether it did is then decided in float64."""
_SAME_IN_DOUBLE = 1e-13


class Unfit(Exception):
    """The mutant does not load, does not run on the example, or returns other shapes there."""


@cache
def example(name: str) -> dict[str, np.ndarray]:
    """Every tensor of a reference on its example feeds."""
    found = reference(name)
    return trace(found.proto, found.feeds[0])


@cache
def _right_answers(name: str) -> tuple[dict[str, np.ndarray], ...]:
    found = reference(name)
    return tuple(run(found.proto, feeds) for feeds in found.feeds)


def effect(of: Reference, mutated: onnx.ModelProto, *, is_equivalent: bool) -> Effect:
    """Run a mutant on all feeds of its reference.

    Args:
        of: the reference.
        mutated: the mutant.
        is_equivalent: it was proven that nothing can differ but rounding.
    Raises:
        Unfit: it is no mutant that a converter could hand out.
    """
    seen, max_abs, ratio = [], 0.0, 0.0
    try:
        onnx.checker.check_model(mutated, full_check=False)
        opened = session(mutated)
    except (Stopped, onnx.checker.ValidationError) as error:
        raise Unfit(str(error)) from error
    for number, (feeds, right) in enumerate(zip(of.feeds, _right_answers(of.name), strict=True)):
        try:
            mine = answers(opened, feeds)
        except Stopped as error:
            if number == 0:
                raise Unfit(str(error)) from error
            seen.append(number)
            ratio = np.inf
            continue
        if number == 0 and any(mine[name].shape != value.shape for name, value in right.items()):
            raise Unfit("other shapes")
        here = max(difference(value, mine[name]) for name, value in right.items())
        max_abs, ratio = max(max_abs, here[1]), max(ratio, here[0])
        if here[0] > 0:
            seen.append(number)
    label = _label(of, mutated, ratio, is_equivalent=is_equivalent)
    finite = [float(value) if np.isfinite(value) else None for value in (max_abs, ratio)]
    return Effect(label, tuple(seen) if label in ("visible", "faint", "equivalent") else (), *finite)


def difference(right: np.ndarray, mine: np.ndarray) -> tuple[float, float]:
    """RMS of the difference over RMS of the reference, and the largest absolute difference.

    Infinite and 0 for integers that differ, for other shapes, and for numbers where the reference has none.
    """
    if right.shape != mine.shape or right.dtype.kind != mine.dtype.kind:
        return np.inf, 0.0
    if right.dtype.kind != "f":
        return (np.inf if (right != mine).any() else 0.0), 0.0
    if np.array_equal(right, mine, equal_nan=True):
        return 0.0, 0.0
    wide, gap = right.astype(np.float64), right.astype(np.float64) - mine
    gap[np.isnan(right) & np.isnan(mine)] = 0
    if not np.isfinite(gap).all():
        return np.inf, np.inf
    scale = np.sqrt(np.mean(wide**2)) or 1.0
    return float(np.sqrt(np.mean(gap**2)) / scale), float(np.abs(gap).max())


def _label(of: Reference, mutated: onnx.ModelProto, ratio: float, *, is_equivalent: bool) -> str:
    if is_equivalent:
        if ratio > FAINT:
            raise AssertionError(f"{of.name}: taken for equivalent, but an output differs by {ratio}")
        return "equivalent"
    if ratio >= FAINT:
        return "visible"
    if ratio > 0 and _differs_in_double(of, mutated):
        return "faint"
    return "invisible" if _differs_inside(of, mutated) else "unreached"


def _differs_in_double(of: Reference, mutated: onnx.ModelProto) -> bool:
    for feeds in of.feeds:
        right, mine = in_double(of.proto, feeds), in_double(mutated, feeds)
        if any(difference(value, mine[name])[0] > _SAME_IN_DOUBLE for name, value in right.items()):
            return True
    return False


def _differs_inside(of: Reference, mutated: onnx.ModelProto) -> bool:
    for feeds in of.feeds:
        right, mine = trace(of.proto, feeds), trace(mutated, feeds)
        if any(difference(right[name], mine[name])[0] > 0 for name in right.keys() & mine.keys()):
            return True
    return False
