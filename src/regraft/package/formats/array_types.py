"""Element types of numpy and torch by the names that their files use."""

from __future__ import annotations

import re

_SIMPLE = {
    "b1": "bool", "i1": "int8", "i2": "int16", "i4": "int32", "i8": "int64", "u1": "uint8", "u2": "uint16",
    "u4": "uint32", "u8": "uint64", "f2": "float16", "f4": "float32", "f8": "float64", "f16": "longdouble",
    "c8": "complex64", "c16": "complex128", "c32": "clongdouble",
}  # fmt: skip
_NAMED = {"U": ("str", 4), "S": ("bytes", 1), "a": ("bytes", 1), "V": ("void", 1)}
_TIMES = {"M8": "datetime64", "m8": "timedelta64"}
_DESCRIPTOR = re.compile(r"[<>=|]?([A-Za-z])(\d{1,9})(\[.{0,20}\])?")

_STORAGES = {
    "FloatStorage": "float32", "DoubleStorage": "float64", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool", "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128", "QInt8Storage": "qint8", "QUInt8Storage": "quint8",
    "QInt32Storage": "qint32", "QUInt4x2Storage": "quint4x2", "QUInt2x4Storage": "quint2x4",
    "UntypedStorage": "uint8",
}  # fmt: skip
_ALIASES = {"float": "float32", "double": "float64", "half": "float16", "long": "int64", "int": "int32",
            "short": "int16", "cfloat": "complex64", "cdouble": "complex128"}  # fmt: skip
_ITEM_BYTES = {
    "bool": 1, "int8": 1, "uint8": 1, "qint8": 1, "quint8": 1, "int16": 2, "uint16": 2, "float16": 2, "bfloat16": 2,
    "int32": 4, "uint32": 4, "qint32": 4, "float32": 4, "int64": 8, "uint64": 8, "float64": 8, "complex32": 4,
    "complex64": 8, "complex128": 16, "longdouble": 16, "clongdouble": 32, "quint4x2": 1, "quint2x4": 1,
}  # fmt: skip
TORCH_SCALAR_TYPES = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32", 8: "float64",
    9: "complex32", 10: "complex64", 11: "complex128", 12: "bool", 13: "bfloat16", 28: "uint16",
    29: "float8_e4m3fn", 30: "float8_e5m2", 31: "float8_e4m3fnuz", 32: "float8_e5m2fnuz", 33: "float8_e8m0fnu",
    34: "uint32", 35: "uint64",
}  # fmt: skip
"""Numbers of `ScalarType` in exported programs. Source: torch 2.13, torch/_export/serde/schema.py."""


def item_bytes(dtype: str) -> int | None:
    """Bytes of one element; None where it is not known."""
    if dtype.startswith("float8"):
        return 1
    return _ITEM_BYTES.get(dtype)


def numpy_dtype(descriptor: str) -> tuple[str, int] | None:
    """(name, bytes of one element) of a numpy type string such as `<f4`, `|O`, `<U10`; None when it is none."""
    if descriptor.lstrip("<>=|") in ("O", "O4", "O8"):
        return "object", 8
    match = _DESCRIPTOR.fullmatch(descriptor)
    if match is None:
        name = descriptor if descriptor in _ITEM_BYTES else None
        return None if name is None else (name, _ITEM_BYTES[name])
    code = match[1] + match[2]
    if code in _SIMPLE:
        return _SIMPLE[code], int(match[2])
    if code in _TIMES:
        return _TIMES[code], 8
    if match[1] in _NAMED:
        name, width = _NAMED[match[1]]
        return name, width * int(match[2])
    return None


def storage_dtype(name: str) -> str | None:
    """Element type of a torch storage class, by its name; None when there is no such class."""
    return _STORAGES.get(name)


def torch_dtype(name: str) -> str:
    """`float` of `torch.float` and the like in full: float32."""
    return _ALIASES.get(name, name)
