"""How far an answer is from the one that was kept. It needs numpy."""

import numpy as np

LIMIT = 1e-3
"""Of the error, above what other processors and other versions of a library make by rounding."""


def error(found, wanted) -> float:
    """The largest error as a share of the largest number wanted; infinite where anything but a number's size differs.

    That is a shape, a dtype, a string, an integer, or where NaN and infinities stand.
    """
    found = stored(found)
    if found.shape != wanted.shape or found.dtype.kind != wanted.dtype.kind:
        return np.inf
    if wanted.dtype.kind != "f":
        return 0.0 if np.array_equal(found, wanted) else np.inf
    if found.dtype != wanted.dtype:
        return np.inf
    found, wanted = found.astype(np.float64), wanted.astype(np.float64)
    finite = np.isfinite(wanted)
    if not np.array_equal(np.isfinite(found), finite):
        return np.inf
    if not np.array_equal(found[~finite], wanted[~finite], equal_nan=True):
        return np.inf
    largest = np.abs(wanted[finite]).max(initial=0)
    return float(np.abs(found[finite] - wanted[finite]).max(initial=0) / max(largest, 1e-30))


def stored(value) -> np.ndarray:
    """An array as an .npz holds it: strings by their characters, never as pickled objects."""
    value = np.asarray(value)
    return value.astype(str) if value.dtype == object else value
