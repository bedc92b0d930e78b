"""The values that a lower precision has, in float32, and the neighbours of a number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from regraft.runtime.interface import Array


def round_to(value: Any, precision: str) -> Array:
    """A floating-point array rounded to nearest, ties to even.

    Args:
        value: any floating dtype.
        precision: `float32`, `tensorfloat32`, `float16` or `bfloat16`; overflow becomes infinite.
    Returns:
        float32, same shape.
    """
    import numpy as np

    narrow: Array
    with np.errstate(over="ignore"):
        narrow = value.astype(np.float32)
        if precision == "float16":
            narrow = narrow.astype(np.float16).astype(np.float32)
        if precision == "bfloat16":
            import ml_dtypes

            narrow = narrow.astype(ml_dtypes.bfloat16).astype(np.float32)
        if precision == "tensorfloat32":
            narrow = _ten_bits(narrow)
    return narrow


def neighbours(value: Array, rng: np.random.Generator, unit: float) -> Array:
    """Each element times 1 − unit, 1 or 1 + unit: a neighbouring number, or itself.

    Args:
        value: floating-point array.
        rng: decides which.
        unit: relative distance of neighbouring numbers of the precision.
    """
    import numpy as np

    factor = 1.0 + unit * rng.integers(-1, 2, size=value.shape)
    with np.errstate(over="ignore"):
        moved = (value.astype(np.float64) * factor).astype(value.dtype)
    result: Array = np.where(np.isfinite(moved), moved, value)
    return result


def rounded(value: Any, precision: str) -> Array:
    """As `round_to`, in the dtype that the array has; bfloat16 in float32."""
    return as_dtype(round_to(value, precision), float_dtype(value))


def float_dtype(value: Any) -> str:
    """The dtype in which floating-point numbers are held: their own, where numpy has it; else float32."""
    return str(value.dtype) if value.dtype.kind == "f" else "float32"


def as_dtype(value: Any, dtype: str) -> Array:
    """The array in another floating dtype; overflow becomes infinite, and no copy is made where nothing changes."""
    import numpy as np

    with np.errstate(over="ignore"):
        result: Array = value if value.dtype == dtype else value.astype(dtype)
    return result


def as_like(value: Any, own: Any) -> Any:
    """An array, or each of a list of them, in the dtype of another one; integers, sizes and tuples as they are."""
    if isinstance(value, list) and isinstance(own, list) and len(value) == len(own):
        return [as_like(*pair) for pair in zip(value, own, strict=True)]
    is_float = hasattr(value, "dtype") and value.dtype.kind == "f" and hasattr(own, "dtype")
    return as_dtype(value, str(own.dtype)) if is_float else value


def _ten_bits(value: Array) -> Array:
    """float32 with the mantissa of float16; infinities and NaN as they are."""
    import numpy as np

    bits = np.ascontiguousarray(value).view(np.uint32)
    kept = (bits + np.uint32(0xFFF) + ((bits >> np.uint32(13)) & np.uint32(1))) & np.uint32(0xFFFFE000)
    result: Array = np.where(np.isfinite(value), kept.view(np.float32), value)
    return result
