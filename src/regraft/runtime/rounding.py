"""The values that a lower precision has, in float32."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from regraft.runtime.interface import Array


def round_to(value: Any, precision: str) -> Array:
    """A floating-point array rounded to nearest, ties to even.

    Args:
        value: any floating dtype.
        precision: `float32`, `float16` or `bfloat16`; overflow becomes infinite.
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
    return narrow
