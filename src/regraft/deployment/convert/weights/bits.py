"""Values as bits: how a dtype lies in numpy arrays, and the conversions of dtypes that lose nothing."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from regraft.errors import Unsupported

if TYPE_CHECKING:
    import numpy as np

    from regraft.deployment.convert.weights.interface import Bits

NUMPY_DTYPES = frozenset(
    "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 complex64 complex128".split()
)
_CARRIERS = {"bfloat16": "uint16"}
_WIDER = {
    "bfloat16": ("float32",), "float16": ("float32",), "float32": ("float64",),
    "bool": ("uint8", "int8"), "uint8": ("int16",), "uint16": ("int32",), "uint32": ("int64",),
    "int8": ("int16",), "int16": ("int32",), "int32": ("int64",), "complex64": ("complex128",),
}  # fmt: skip
"""Dtype → dtypes that hold each of its values, the nearest first."""
_FLOAT8_BITS = {
    "float8_e4m3fn": (4, 3, 7), "float8_e5m2": (5, 2, 15), "float8_e4m3fnuz": (4, 3, 8), "float8_e5m2fnuz": (5, 2, 16),
}  # fmt: skip
"""Float8 type → bits of exponent and of mantissa, bias. Source: OCP 8-bit floating point 1.0; arXiv 2206.02915."""


def carrier(dtype: str) -> np.dtype[np.generic]:
    """The numpy dtype in whose arrays values of `dtype` are handed around, little-endian.

    Raises:
        Unsupported: values of that dtype are not handed around.
    """
    import numpy as np

    name = _CARRIERS.get(dtype, "uint8" if dtype.startswith("float8_") else dtype)
    if name not in NUMPY_DTYPES:
        raise Unsupported(f"values of type {dtype} are not converted")
    return np.dtype(name).newbyteorder("<")


def target_dtype(dtype: str, allowed: frozenset[str]) -> str | None:
    """The dtype in which values of `dtype` can be written without loss: itself, or the nearest wider one; else None."""
    if dtype in allowed:
        return dtype
    if dtype.startswith("float8_"):
        return "float32" if dtype in _FLOAT8_BITS and "float32" in allowed else None
    for wider in _WIDER.get(dtype, ()):
        found = target_dtype(wider, allowed)
        if found is not None:
            return found
    return None


def converted(values: Bits, dtype: str, target: str) -> Bits:
    """The same values in a wider dtype, exact. Both as `carrier` says.

    Args:
        values: of `dtype`.
        target: as `target_dtype` gives it.
    """
    import numpy as np

    if dtype == target:
        return values
    if dtype == "bfloat16":
        wide = (values.astype(np.uint32) << 16).view(np.float32).reshape(values.shape)
        return wide.astype(carrier(target))
    if dtype.startswith("float8_"):
        return np.asarray(_float8_table(dtype)[values.astype(np.uint8)], dtype=carrier(target))
    return values.astype(carrier(target))


def digest(values: Bits, dtype: str, shape: tuple[int, ...]) -> str:
    """SHA-256 over dtype, shape and the bits, in order of the last axis: equal for equal tensors of any container."""
    import numpy as np

    content = hashlib.sha256(f"{dtype}{list(shape)}:".encode())
    content.update(np.ascontiguousarray(values, dtype=carrier(dtype)).reshape(-1).view(np.uint8).data)
    return content.hexdigest()


def _float8_table(dtype: str) -> Bits:
    """The values of all 256 codes, (256,) float32."""
    import numpy as np

    exponents, fraction, bias = _FLOAT8_BITS[dtype]
    codes = np.arange(256)
    sign = np.where(codes & 0x80, -1.0, 1.0)
    exponent = (codes >> fraction) & ((1 << exponents) - 1)
    mantissa = codes & ((1 << fraction) - 1)
    normal = (1 + mantissa / (1 << fraction)) * 2.0 ** (exponent - bias)
    values = sign * np.where(exponent == 0, mantissa / (1 << fraction) * 2.0 ** (1 - bias), normal)
    if dtype.endswith("fnuz"):
        values[0x80] = np.nan
    elif dtype == "float8_e4m3fn":
        values[(codes & 0x7F) == 0x7F] = np.nan
    else:
        top = exponent == (1 << exponents) - 1
        values[top] = np.where(mantissa[top] == 0, sign[top] * np.inf, np.nan)
    return values.astype(np.float32)
