"""safetensors: a JSON header with the name, dtype, shape and place of every tensor.

Source: the format section of github.com/huggingface/safetensors and `Metadata::validate` of its 0.8 crate. That library
refuses a file with any of the problems listed here; they are told one by one because other readers accept them.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from regraft.errors import Damaged, LimitExceeded
from regraft.package.formats.interface import Description, Loading, Probe, Problem, Role, Tensor
from regraft.package.limits import MAX_TENSORS
from regraft.package.reader import Reader

_BITS = {
    "BOOL": ("bool", 8), "U8": ("uint8", 8), "I8": ("int8", 8), "U16": ("uint16", 16), "I16": ("int16", 16),
    "U32": ("uint32", 32), "I32": ("int32", 32), "U64": ("uint64", 64), "I64": ("int64", 64),
    "F16": ("float16", 16), "BF16": ("bfloat16", 16), "F32": ("float32", 32), "F64": ("float64", 64),
    "C64": ("complex64", 64), "F8_E4M3": ("float8_e4m3fn", 8), "F8_E5M2": ("float8_e5m2", 8),
    "F8_E8M0": ("float8_e8m0fnu", 8), "F8_E4M3FNUZ": ("float8_e4m3fnuz", 8), "F8_E5M2FNUZ": ("float8_e5m2fnuz", 8),
    "F6_E2M3": ("float6_e2m3fn", 6), "F6_E3M2": ("float6_e3m2fn", 6), "F4": ("float4_e2m1fn", 4),
}  # fmt: skip
_MAX_HEADER_BYTES = 100_000_000  # the library's own limit
_MAX_FACT_CHARS = 4000
_MAX_FACTS = 1000
_MAX_PROBLEMS = 1000
_MAX_RANK = 64
_MAX_EXTENT = (1 << 63) - 1
_METADATA = "__metadata__"


class Safetensors:
    """Format `safetensors`."""

    name = "safetensors"
    title = "safetensors"
    role = Role.WEIGHTS
    loading = Loading.INERT
    suffixes = (".safetensors",)

    def matches(self, probe: Probe) -> bool:
        """A header length, then a JSON object that is named or shaped like a tensor table; the file may be cut off."""
        head = probe.head
        if len(head) < 10 or head[8:9] != b"{":
            return False
        text = head[9:].lstrip(b" \t\r\n")
        if text[:1] not in (b'"', b"}"):
            return False
        fits = 2 <= int.from_bytes(head[:8], "little") <= probe.reader.size - 8
        known = b'"dtype"' in text or text.startswith(b'"__metadata__"')
        return (known and head[6:8] == bytes(2)) or (fits and head[4:8] == bytes(4))

    def describe(self, probe: Probe) -> Description:
        """Everything but the values of the tensors.

        Raises:
            Damaged: the header is cut off or not the JSON that it must be.
            LimitExceeded: the header has more than 100 MB, or too many tensors.
        """
        problems: list[Problem] = []
        found, metadata, _ = _header(probe.reader, problems)
        tensors = tuple(tensor for tensor, _, _ in found)
        return Description(tensors=tensors, metadata=metadata, problems=tuple(problems[:_MAX_PROBLEMS]))


def tensor_places(reader: Reader) -> dict[str, tuple[Tensor, int]]:
    """Name → tensor and the offset of its first byte in the file, of a file without any problem.

    Raises:
        Damaged, LimitExceeded: as `Safetensors.describe`, and for every problem that it would list.
    """
    problems: list[Problem] = []
    found, _, start = _header(reader, problems)
    if problems:
        raise Damaged(problems[0].what, where=reader.where)
    return {tensor.name: (tensor, start + begin) for tensor, begin, _ in found}


def _header(reader: Reader, problems: list[Problem]) -> tuple[list[tuple[Tensor, int, int]], dict[str, str], int]:
    """Tensors with the begin and end of their data, the metadata, and where in the file the data begin."""
    length = int.from_bytes(reader.read_exactly(0, 8), "little")
    if length > _MAX_HEADER_BYTES:
        raise LimitExceeded(f"a header of {length} bytes, more than {_MAX_HEADER_BYTES}", where=reader.where)
    entries = _parse(reader.read_exactly(8, length), reader.where, problems)
    metadata = _facts(entries.pop(_METADATA, None), problems)
    if len(entries) > MAX_TENSORS:
        raise LimitExceeded(f"{len(entries)} tensors, more than {MAX_TENSORS}", where=reader.where)
    tensors = [found for name, entry in entries.items() if (found := _tensor(_clean(name), entry, problems))]
    places = sorted((begin, end, tensor.name) for tensor, begin, end in tensors)
    _check_places(places, 8 + length, reader.size, problems)
    return tensors, metadata, 8 + length


def _parse(header: bytes, where: str, problems: list[Problem]) -> dict[str, Any]:
    """The header's object. JSON allows a key twice and readers differ in which one they take, so it is a problem.

    A header that is the same after decoding and encoding, as the library writes it, has no key twice: the quick way.
    """
    try:
        entries = msgspec.json.decode(header)
        if isinstance(entries, dict) and msgspec.json.encode(entries) == header.rstrip(b" "):
            return entries
    except (ValueError, RecursionError):
        pass  # told below, in the words of the thorough parser

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            seen: set[str] = set()
            twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            _note(problems, f"the key {_clean(twice)!r} occurs more than once", "duplicate-name")
        return found

    try:
        entries = json.loads(header, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"the header is not JSON ({str(error)[:100]})", where=where) from None
    if not isinstance(entries, dict):
        raise Damaged("the header is not a JSON object", where=where)
    return entries


def _tensor(name: str, entry: Any, problems: list[Problem]) -> tuple[Tensor, int, int] | None:
    """A tensor with the begin and end of its data; None, and a problem, where an entry is unusable."""
    fields = entry if isinstance(entry, dict) else {}
    dtype, shape, offsets = fields.get("dtype"), _naturals(fields.get("shape")), _naturals(fields.get("data_offsets"))
    if not isinstance(dtype, str) or shape is None or offsets is None or len(shape) > _MAX_RANK or len(offsets) != 2:
        _note(problems, f"tensor {name[:200]!r} has no usable dtype, shape or data_offsets", "bad-entry")
        return None
    begin, end = offsets
    if begin > end:
        _note(problems, f"the data of tensor {name[:200]!r} end before they begin", "bad-entry")
        return None
    word, bits = _BITS.get(dtype, (_clean(dtype[:40]).lower(), 0))
    tensor = Tensor(name, word, tuple(shape), end - begin)
    if tensor.elements > _MAX_EXTENT:
        _note(problems, f"tensor {name[:200]!r} has more elements than 64 bits can count", "bad-entry")
        return None
    if not bits:
        _note(problems, f"tensor {name[:200]!r} has the dtype {dtype[:40]!r}, which does not exist", "unknown-dtype")
    elif tensor.elements * bits != (end - begin) * 8:
        what = f"tensor {name[:200]!r} of {tensor.elements} × {bits} bits has {end - begin} bytes of data"
        _note(problems, what, "size-mismatch")
    return tensor, begin, end


def _check_places(places: list[tuple[int, int, str]], start: int, file_size: int, problems: list[Problem]) -> None:
    """The data of all tensors must fill the file from `start` on without holes and overlaps."""
    position, available = 0, file_size - start
    for begin, end, name in places:
        if begin < position:
            _note(
                problems,
                f"the data of tensor {name[:200]!r} overlap those before by {position - begin} bytes",
                "overlap",
            )
        elif begin > position:
            what = f"{begin - position} bytes before the data of tensor {name[:200]!r} belong to none"
            _note(problems, what, "hole", start + position)
        position = max(position, end)
    if position > available:
        _note(
            problems, f"truncated: {position - available} of {position} bytes of tensor data are missing", "truncated"
        )
    elif position < available:
        what = f"{available - position} bytes after the last tensor belong to none"
        _note(problems, what, "trailing-data", start + position)


def _facts(entry: Any, problems: list[Problem]) -> dict[str, str]:
    if entry is None:
        return {}
    if not isinstance(entry, dict) or not all(isinstance(value, str) for value in entry.values()):
        _note(problems, "__metadata__ is not a map from text to text", "bad-entry")
    items = list(entry.items())[:_MAX_FACTS] if isinstance(entry, dict) else []
    return {_clean(key[:200]): _clean(value[:_MAX_FACT_CHARS]) for key, value in items if isinstance(value, str)}


def _naturals(value: Any) -> list[int] | None:
    """A list of numbers that 63 bits can hold, None for anything else."""
    if isinstance(value, list) and all(type(item) is int and 0 <= item <= _MAX_EXTENT for item in value):
        return value
    return None


def _clean(text: str) -> str:
    """Text without the lone surrogates that JSON can smuggle in and that no encoder takes."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _note(problems: list[Problem], what: str, kind: str, offset: int | None = None) -> None:
    if len(problems) < _MAX_PROBLEMS:
        problems.append(Problem(what, offset, kind=kind))
