"""PaddlePaddle: programs (`.pdmodel`, Paddle 3's JSON) and combined parameters (`.pdiparams`).

Source: paddle/fluid/framework (framework.proto, lod_tensor.cc) of Paddle 2.6; pir/serialize_deserialize of Paddle 3.0.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from regraft.errors import Damaged, LimitExceeded
from regraft.package.formats.interface import Description, Loading, Port, Probe, Problem, Role, Tensor
from regraft.package.formats.wire import SPAN, VARINT, Message, fields, integers_of, message_of, signed
from regraft.package.limits import MAX_NESTING, MAX_TENSORS
from regraft.package.reader import BytesReader, Reader

_TYPES = {
    0: ("bool", 1), 1: ("int16", 2), 2: ("int32", 4), 3: ("int64", 8), 4: ("float16", 2), 5: ("float32", 4),
    6: ("float64", 8), 19: ("uint64", 8), 20: ("uint8", 1), 21: ("int8", 1), 22: ("bfloat16", 2), 23: ("complex64", 8),
    24: ("complex128", 16), 32: ("float8_e4m3fn", 1), 33: ("float8_e5m2", 1),
}  # fmt: skip
_LOD_TENSOR = 7
_RECORD_HEAD_BYTES = 20
_MAX_DESC_BYTES = 1024
_MAX_RANK = 64
_MAX_ELEMENTS = (1 << 58) - 1
_MAX_LOD_LEVELS = 16


class PaddleProgram:
    """Format `paddle-program`: a ProgramDesc; its parameters lie in `.pdiparams`."""

    name = "paddle-program"
    title = "PaddlePaddle program"
    role = Role.GRAPH
    loading = Loading.INERT
    suffixes = (".pdmodel",)

    def matches(self, probe: Probe) -> bool:
        """A message whose first field is a block: its index, its parent's index, then variables or operators."""
        if probe.head[:1] != b"\x0a":
            return False
        try:
            block = next(message_of(probe).spans(1))
            kinds = [(number, kind) for (number, kind, _), _ in zip(block.fields(), range(3), strict=False)]
        except (Damaged, StopIteration):
            return False
        return kinds[:2] == [(1, VARINT), (2, VARINT)] and kinds[2:] in ([(3, SPAN)], [(4, SPAN)])

    def describe(self, probe: Probe) -> Description:
        """Operators, fed and fetched variables, and how many parameters are declared.

        Raises:
            Damaged: the bytes are no such messages.
        """
        operators: Counter[str] = Counter()
        variables: dict[str, Port] = {}
        fed: list[str] = []
        fetched: list[str] = []
        declared = elements = 0
        version = None
        for number, _, value in message_of(probe).fields():
            if number == 4 and isinstance(value, Message):
                version = str(next((signed(v) for n, _, v in value.fields() if n == 1 and isinstance(v, int)), 0))
            if number != 1 or not isinstance(value, Message):
                continue
            for found, _, part in value.fields():
                if found == 3 and isinstance(part, Message):
                    port, is_kept = _variable(part)
                    variables[port.name] = port
                    declared += is_kept
                    elements += _elements(port) if is_kept else 0
                elif found == 4 and isinstance(part, Message):
                    _add_operator(part, operators, fed, fetched)
        return Description(
            version=version,
            tensors=(),
            operators=dict(operators),
            inputs=tuple(variables.get(name, Port(name, "unknown")) for name in fed),
            outputs=tuple(variables.get(name, Port(name, "unknown")) for name in fetched),
            metadata={"persistable_variables": str(declared), "declared_parameters": str(elements)},
        )


class PaddleParameters:
    """Format `paddle-parameters`: tensors one after the other, in the order of their names, which are not stored."""

    name = "paddle-parameters"
    title = "PaddlePaddle parameters"
    role = Role.WEIGHTS
    loading = Loading.INERT
    suffixes = (".pdiparams",)

    def matches(self, probe: Probe) -> bool:
        """A record's head with versions 0 and a tensor description that can be read."""
        if len(probe.head) < _RECORD_HEAD_BYTES + 2 or any(probe.head[:4]) or probe.head[20:21] != b"\x08":
            return False
        try:
            return _record(probe.reader, 0, 0)[1] > 0
        except Damaged:
            return False

    def describe(self, probe: Probe) -> Description:
        """Shape and dtype of every tensor, by position.

        Raises:
            Damaged: a record does not follow where the one before ends.
        """
        reader = probe.reader
        tensors: list[Tensor] = []
        problems = []
        position = 0
        while position < reader.size:
            tensor, position = _record(reader, position, len(tensors))
            tensors.append(tensor)
            if len(tensors) > MAX_TENSORS:
                raise LimitExceeded(f"more than {MAX_TENSORS} tensors", where=reader.where)
        if position > reader.size:
            what = f"truncated: {position - reader.size} bytes of the last tensor are missing"
            problems.append(Problem(what, reader.size, kind="truncated"))
        return Description(tensors=tuple(tensors), problems=tuple(problems))


class PaddleJson:
    """Format `paddle-json`: the program of Paddle 3, `inference.json`."""

    name = "paddle-json"
    title = "PaddlePaddle program (JSON)"
    role = Role.GRAPH
    loading = Loading.INERT
    suffixes = (".json",)

    def matches(self, probe: Probe) -> bool:
        """A JSON object with `base_code` of the magic `pir` and a `program`."""
        if b'"base_code"' not in probe.head or not isinstance(probe.json, dict):
            return False
        base = probe.json.get("base_code")
        return isinstance(base, dict) and base.get("magic") == "pir" and isinstance(probe.json.get("program"), dict)

    def describe(self, probe: Probe) -> Description:
        """Operators under the short names of the file (`1.conv2d`; `p` is a parameter).

        Raises:
            Damaged: it is not such an object.
        """
        whole = probe.json
        if not isinstance(whole, dict) or not isinstance(whole.get("program"), dict):
            raise Damaged("not a Paddle program", where=probe.reader.where)
        operators: Counter[str] = Counter()
        pending: list[tuple[Any, int]] = [(whole["program"], 0)]
        while pending:
            holder, depth = pending.pop()
            if depth > MAX_NESTING:
                raise LimitExceeded(f"regions nested more than {MAX_NESTING} deep", where=probe.reader.where)
            for key in ("regions", "blocks", "ops"):
                for item in _objects(holder.get(key)):
                    pending.append((item, depth + 1))
                    if key == "ops" and isinstance(item.get("#"), str):
                        operators[item["#"][:200]] += 1
        base = whole.get("base_code")
        version = base.get("version") if isinstance(base, dict) else None
        metadata = {"persistable_variables": str(operators["p"])}
        return Description(
            version=str(version) if type(version) is int else None,
            tensors=(),
            operators=dict(operators),
            metadata=metadata,
        )


def _objects(items: Any) -> list[dict[str, Any]]:
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _record(reader: Reader, at: int, index: int) -> tuple[Tensor, int]:
    """A stored tensor and the offset behind it: version, levels of detail, version, TensorDesc, values."""
    if reader.read_exactly(at, 4) != bytes(4):
        raise Damaged(f"no tensor at offset {at}", where=reader.where)
    levels = int.from_bytes(reader.read_exactly(at + 4, 8), "little")
    if levels > _MAX_LOD_LEVELS:
        raise Damaged(f"{levels} levels of detail at offset {at}", where=reader.where)
    position = at + 12
    for _ in range(levels):
        position += 8 + int.from_bytes(reader.read_exactly(position, 8), "little")
    if reader.read_exactly(position, 4) != bytes(4):
        raise Damaged(f"no tensor at offset {at}", where=reader.where)
    size = int.from_bytes(reader.read_exactly(position + 4, 4), "little")
    if not 0 < size <= _MAX_DESC_BYTES:
        raise Damaged(f"a tensor description of {size} bytes at offset {at}", where=reader.where)
    raw = BytesReader(reader.read_exactly(position + 8, size), where=reader.where)
    number, dims = _tensor_desc(fields(raw))
    if number not in _TYPES or min(dims, default=0) < 0:
        raise Damaged(f"a tensor of type {number} and shape {dims} at offset {at}", where=reader.where)
    dtype, width = _TYPES[number]
    shape = tuple(dims)
    bare = Tensor(str(index), dtype, shape)
    if bare.elements > _MAX_ELEMENTS:
        raise Damaged(f"a tensor of the shape {shape} at offset {at}", where=reader.where)
    return Tensor(bare.name, dtype, shape, bare.elements * width), position + 8 + size + bare.elements * width


def _tensor_desc(found: Any) -> tuple[int, list[int]]:
    number, dims = -1, []
    for field, kind, value in found:
        if field == 1 and isinstance(value, int):
            number = value
        elif field == 2:
            dims += [extent for extent, _ in zip(integers_of(kind, value), range(_MAX_RANK), strict=False)]
    return number, dims[:_MAX_RANK]


def _variable(message: Message) -> tuple[Port, bool]:
    """A `VarDesc` as a port, and whether it is a parameter that is kept in the file beside."""
    name, dtype, is_kept, kind = "", "unknown", False, -1
    shape: tuple[int | None, ...] | None = None
    for number, _, value in message.fields():
        if number == 1 and isinstance(value, Message):
            name = value.text()
        elif number == 3 and isinstance(value, int):
            is_kept = bool(value)
        elif number == 2 and isinstance(value, Message):
            for found, _, part in value.fields():
                if found == 1 and isinstance(part, int):
                    kind = part
                elif found == 3 and isinstance(part, Message):
                    for desc in part.spans(1):
                        element, dims = _tensor_desc(desc.fields())
                        dtype = _TYPES.get(element, (f"type_{element}", 0))[0]
                        shape = tuple(None if extent < 0 else extent for extent in dims)
    return Port(name, dtype, shape), is_kept and kind == _LOD_TENSOR


def _elements(port: Port) -> int:
    count = 1
    for extent in port.shape or ():
        count = min(count * extent, _MAX_ELEMENTS) if isinstance(extent, int) else 0
    return count


def _add_operator(message: Message, operators: Counter[str], fed: list[str], fetched: list[str]) -> None:
    """Count an `OpDesc`; `feed` and `fetch` are the program's signature, not operators."""
    kind = ""
    names: dict[int, list[str]] = {1: [], 2: []}
    for number, _, value in message.fields():
        if not isinstance(value, Message):
            continue
        if number == 3:
            kind = value.text(limit=200)
        elif number in names and len(names[number]) < 1000:
            names[number] += [argument.text() for argument in value.spans(2)]
    if kind == "feed":
        fed += names[2]
    elif kind == "fetch":
        fetched += names[1]
    else:
        operators[kind] += 1
