"""The leaves of an ONNX model: stored tensors, declared types, element types.

Source: onnx/onnx.proto3 of ONNX 1.23 (IR version 13); numbers are field numbers of its messages.
"""

from __future__ import annotations

from regraft.package.formats.interface import Port, Problem, Tensor
from regraft.package.formats.wire import Message, entry_of, integers_of

_TYPES = {
    0: ("undefined", 0), 1: ("float32", 32), 2: ("uint8", 8), 3: ("int8", 8), 4: ("uint16", 16), 5: ("int16", 16),
    6: ("int32", 32), 7: ("int64", 64), 8: ("string", 0), 9: ("bool", 8), 10: ("float16", 16), 11: ("float64", 64),
    12: ("uint32", 32), 13: ("uint64", 64), 14: ("complex64", 64), 15: ("complex128", 128), 16: ("bfloat16", 16),
    17: ("float8_e4m3fn", 8), 18: ("float8_e4m3fnuz", 8), 19: ("float8_e5m2", 8), 20: ("float8_e5m2fnuz", 8),
    21: ("uint4", 4), 22: ("int4", 4), 23: ("float4_e2m1fn", 4), 24: ("float8_e8m0fnu", 8), 25: ("uint2", 2),
    26: ("int2", 2), 27: ("float6_e2m3fn", 6), 28: ("float6_e3m2fn", 6),
}  # fmt: skip
_MAX_RANK = 64
_MAX_ELEMENTS = (1 << 58) - 1
_EXTERNAL = 1


def dtype_of(number: int) -> str:
    """Element type by its number in `TensorProto.DataType`."""
    return _TYPES[number][0] if number in _TYPES else f"type_{number}"


def is_floating(dtype: str) -> bool:
    """Is it a type that weights are trained in?"""
    return dtype.startswith(("float", "bfloat", "complex"))


def tensor_of(message: Message, problems: list[Problem], externals: dict[str, None]) -> Tensor | None:
    """A `TensorProto` without its values; None, and a problem, when its shape is impossible.

    Args:
        message: the tensor.
        problems: receives contradictions between shape and data.
        externals: receives the places of external data, in order.
    """
    name, number, location, raw_bytes = "", 0, 0, None
    dims: list[int] = []
    for field, kind, value in message.fields():
        if field == 1:
            for extent in integers_of(kind, value):
                dims.append(extent)
                if len(dims) > _MAX_RANK:
                    problems.append(Problem("a tensor of more than 64 dimensions", message.start, kind="bad-shape"))
                    return None
        elif field == 2 and isinstance(value, int):
            number = value
        elif field == 14 and isinstance(value, int):
            location = value
        elif isinstance(value, Message):
            if field == 8:
                name = value.text()
            elif field == 9:
                raw_bytes = value.size
            elif field == 13:
                key, place = entry_of(value)
                if key == "location":
                    externals[place.text() if place is not None else ""] = None
    dtype, bits = _TYPES.get(number, (dtype_of(number), 0))
    tensor = Tensor(name, dtype, tuple(dims))
    if any(extent < 0 for extent in dims) or tensor.elements > _MAX_ELEMENTS:
        problems.append(Problem(f"tensor {name[:200]!r} has the shape {dims}", message.start, kind="bad-shape"))
        return None
    size = (tensor.elements * bits + 7) // 8 if bits else None
    if raw_bytes is not None and location != _EXTERNAL and size is not None and raw_bytes != size:
        what = f"tensor {name[:200]!r} of {size} bytes has {raw_bytes} bytes of data"
        problems.append(Problem(what, message.start, kind="size-mismatch"))
    return Tensor(name, dtype, tuple(dims), size)


def sparse_tensor_of(message: Message, problems: list[Problem], externals: dict[str, None]) -> Tensor | None:
    """A `SparseTensorProto` by its dense shape; its size is that of the values and indices stored."""
    parts: dict[int, Tensor | None] = {}
    dims: list[int] = []
    for field, kind, value in message.fields():
        if field in (1, 2) and isinstance(value, Message):
            parts[field] = tensor_of(value, problems, externals)
        elif field == 3:
            dims += [extent for extent, _ in zip(integers_of(kind, value), range(_MAX_RANK + 1), strict=False)]
    values, indices = parts.get(1), parts.get(2)
    if values is None or len(dims) > _MAX_RANK:
        return None
    dense = Tensor(values.name, values.dtype, tuple(dims))
    if any(extent < 0 for extent in dims) or dense.elements > _MAX_ELEMENTS:
        problems.append(Problem(f"sparse tensor {values.name[:200]!r} has the shape {dims[:8]}", kind="bad-shape"))
        return None
    stored = (values.size_bytes or 0) + ((indices.size_bytes or 0) if indices is not None else 0)
    return Tensor(values.name, values.dtype, tuple(dims), stored)


def port_of(message: Message) -> Port:
    """A `ValueInfoProto`: name, element type and shape with symbolic dimensions by their names."""
    name, dtype = "", "unknown"
    shape: tuple[int | str | None, ...] | None = None
    for field, _, value in message.fields():
        if isinstance(value, Message):
            if field == 1:
                name = value.text()
            elif field == 2:
                dtype, shape = _type(value)
    return Port(name, dtype, shape)


def _type(message: Message) -> tuple[str, tuple[int | str | None, ...] | None]:
    """A `TypeProto`: a tensor, a sparse one, or a sequence, optional or map of them."""
    for field, _, value in message.fields():
        if not isinstance(value, Message):
            continue
        if field in (1, 8):
            dtype, shape = _tensor_type(value)
            return (f"sparse({dtype})" if field == 8 else dtype), shape
        if field in (4, 9):
            inner = next(value.spans(1), None)
            dtype = _type(inner)[0] if inner is not None else "unknown"
            return f"{'sequence' if field == 4 else 'optional'}({dtype})", None
        if field == 5:
            key = next((number for found, _, number in value.fields() if found == 1 and isinstance(number, int)), 0)
            inner = next(value.spans(2), None)
            return f"map({dtype_of(key)}, {_type(inner)[0] if inner is not None else 'unknown'})", None
    return "unknown", None


def _tensor_type(message: Message) -> tuple[str, tuple[int | str | None, ...] | None]:
    dtype = "undefined"
    shape: tuple[int | str | None, ...] | None = None
    for field, _, value in message.fields():
        if field == 1 and isinstance(value, int):
            dtype = dtype_of(value)
        elif field == 2 and isinstance(value, Message):
            shape = tuple(_extent(dim) for dim, _ in zip(value.spans(1), range(_MAX_RANK), strict=False))
    return dtype, shape


def _extent(message: Message) -> int | str | None:
    found: int | str | None = None
    for field, kind, value in message.fields():
        if field == 1 and isinstance(value, int):
            size = next(integers_of(kind, value), -1)
            found = None if size < 0 else size
        elif field == 2 and isinstance(value, Message):
            found = value.text() or None
    return found
