"""GGUF: typed metadata and a table of quantised tensors, as llama.cpp and others read them.

Source: ggml, docs/gguf.md (versions 1 to 3, either byte order), and `ggml_type` with its block sizes in ggml.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import msgspec

from regraft.errors import Damaged, Implausible, LimitExceeded, Unsupported
from regraft.package.formats.interface import Description, Loading, Probe, Problem, Role, Tensor
from regraft.package.limits import MAX_HEADER_BYTES, MAX_TENSORS
from regraft.package.reader import Reader

GGML_TYPES: dict[int, tuple[str, int, int]] = {
    0: ("float32", 1, 4), 1: ("float16", 1, 2), 2: ("q4_0", 32, 18), 3: ("q4_1", 32, 20), 4: ("q4_2", 16, 10),
    5: ("q4_3", 16, 12), 6: ("q5_0", 32, 22), 7: ("q5_1", 32, 24), 8: ("q8_0", 32, 34), 9: ("q8_1", 32, 36),
    10: ("q2_k", 256, 84), 11: ("q3_k", 256, 110), 12: ("q4_k", 256, 144), 13: ("q5_k", 256, 176),
    14: ("q6_k", 256, 210), 15: ("q8_k", 256, 292), 16: ("iq2_xxs", 256, 66), 17: ("iq2_xs", 256, 74),
    18: ("iq3_xxs", 256, 98), 19: ("iq1_s", 256, 50), 20: ("iq4_nl", 32, 18), 21: ("iq3_s", 256, 110),
    22: ("iq2_s", 256, 82), 23: ("iq4_xs", 256, 136), 24: ("int8", 1, 1), 25: ("int16", 1, 2), 26: ("int32", 1, 4),
    27: ("int64", 1, 8), 28: ("float64", 1, 8), 29: ("iq1_m", 256, 56), 30: ("bfloat16", 1, 2),
    31: ("q4_0_4_4", 32, 18), 32: ("q4_0_4_8", 32, 18), 33: ("q4_0_8_8", 32, 18), 34: ("tq1_0", 256, 54),
    35: ("tq2_0", 256, 66), 39: ("mxfp4", 32, 17), 40: ("nvfp4", 64, 36), 41: ("q1_0", 128, 18),
}  # fmt: skip
"""Number → (name, elements of one block, bytes of one block)."""

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TYPE_NAMES = "uint8 int8 uint16 int16 uint32 int32 float32 bool string array uint64 int64 float64".split()
_STRING, _ARRAY = 8, 9
_TEMPLATE = "tokenizer.chat_template"
_MAX_TEMPLATE_BYTES = 64 << 10
_MAX_FACT_BYTES = 4000
_MAX_NAME_BYTES = 4096
_MAX_RANK = 8
_MAX_ELEMENTS = (1 << 58) - 1
_IMPLAUSIBLE = 1 << 40
"""Counts and sizes from here on overflow the products of parsers; a file that is merely cut off does not have them."""
_MAX_ARRAY_DEPTH = 4
_MAX_SHOWN_ITEMS = 8
_MAX_PROBLEMS = 1000
_READ_BYTES = 64 << 10


class Gguf:
    """Format `gguf`."""

    name = "gguf"
    title = "GGUF model"
    role = Role.WEIGHTS
    loading = Loading.INERT
    suffixes = (".gguf",)

    def matches(self, probe: Probe) -> bool:
        """The signature `GGUF` and a plausible version."""
        head = probe.head
        return head[:4] == b"GGUF" and len(head) >= 8 and 0 < min(_versions(head)) < 1 << 16

    def describe(self, probe: Probe) -> Description:
        """Metadata (arrays by type and length, short ones of numbers in full) and the table of tensors.

        Raises:
            Damaged: the header is cut off or contradicts itself.
            LimitExceeded: it is larger than headers are read.
        """
        header = _read(probe.reader, probe.head)
        return Description(
            version=str(header.version),
            tensors=tuple(tensor for tensor, _ in header.table),
            metadata=header.metadata,
            problems=tuple(header.problems),
        )


class _Header(msgspec.Struct, frozen=True):
    version: int
    metadata: dict[str, str]
    table: list[tuple[Tensor, int]]
    data_start: int
    problems: list[Problem]


def tensor_places(reader: Reader) -> dict[str, tuple[Tensor, int]]:
    """Name → tensor and the offset of its first byte in the file, of a file without any problem.

    Raises:
        Damaged, LimitExceeded: as `Gguf.describe`, and for every problem that it would list.
        Unsupported: a file of big-endian machines.
    """
    header = _read(reader, reader.read_at(0, 8))
    if header.problems:
        raise Damaged(header.problems[0].what, where=reader.where)
    if header.metadata.get("byte_order") == "big":
        raise Unsupported("its numbers are big-endian", where=reader.where)
    return {tensor.name: (tensor, header.data_start + offset) for tensor, offset in header.table}


def _read(reader: Reader, head: bytes) -> _Header:
    little, big = _versions(head)
    version, order = (little, "<") if little < 1 << 16 else (big, ">")
    if not 1 <= version <= 3:
        raise Damaged(f"GGUF version {version}, which is not known", where=reader.where)
    stream = _Stream(reader, order, "I" if version == 1 else "Q")
    problems: list[Problem] = []
    tensor_count, fact_count = stream.size(), stream.size()
    if tensor_count > MAX_TENSORS or 24 * tensor_count + 9 * fact_count > reader.size:
        counts = f"{tensor_count} tensors and {fact_count} facts"
        kind = Implausible if max(tensor_count, fact_count) >= _IMPLAUSIBLE else Damaged
        raise kind(f"{counts} do not fit into {reader.size} bytes", where=reader.where)
    metadata = dict(_facts(stream, fact_count, problems))
    table = []
    for _ in range(tensor_count):
        table.append(_tensor(stream, problems))
        del problems[_MAX_PROBLEMS:]
    alignment = _alignment(metadata.get("general.alignment", "32"), problems)
    data_start = -(-stream.position // alignment) * alignment
    _check_places(table, reader.size - data_start, alignment, problems)
    if order == ">":
        metadata.setdefault("byte_order", "big")
    return _Header(version, metadata, table, data_start, problems)


class _Stream:
    """Reads forward in pieces, so that long arrays are passed without holding them."""

    def __init__(self, reader: Reader, order: str, size_code: str) -> None:
        self._reader = reader
        self._order = order
        self._size_code = size_code
        self._data = b""
        self._base = 8
        self._fetched = 0
        self.position = 8

    @property
    def where(self) -> str:
        return self._reader.where

    def take(self, count: int) -> bytes:
        index = self.position - self._base
        if index < 0 or index + count > len(self._data):
            wanted = max(count, _READ_BYTES)
            self._fetched += wanted
            if self._fetched > MAX_HEADER_BYTES:
                raise LimitExceeded(f"a header of more than {MAX_HEADER_BYTES} bytes", where=self.where)
            if count >= _IMPLAUSIBLE:
                raise Implausible(f"a value of {count} bytes at offset {self.position}", where=self.where)
            if count > self._reader.size - self.position:
                raise Damaged(f"the header ends at offset {self._reader.size}, within a value", where=self.where)
            self._data, self._base, index = self._reader.read_at(self.position, wanted), self.position, 0
        self.position += count
        return self._data[index : index + count]

    def skip(self, count: int) -> None:
        if count > self._reader.size - self.position:
            kind = Implausible if count >= _IMPLAUSIBLE else Damaged
            raise kind(f"{count} bytes at offset {self.position} lie beyond the end", where=self.where)
        self.position += count

    def scalar(self, code: str) -> int | float | bool:
        (value,) = struct.unpack(self._order + code, self.take(struct.calcsize("<" + code)))
        return value  # type: ignore[no-any-return]

    def uint32(self) -> int:
        return int(self.scalar("I"))

    def size(self) -> int:
        """A length or count: 4 bytes in version 1, 8 since."""
        return int(self.scalar(self._size_code))

    def skip_strings(self, count: int) -> None:
        """Pass a vocabulary: one step a string, over as much as was read at once."""
        length = struct.Struct(self._order + self._size_code)
        while count:
            self.take(length.size)
            data, index = self._data, self.position - self._base - length.size
            while count and index + length.size <= len(data):
                index += length.size + length.unpack_from(data, index)[0]
                count -= 1
            self.position = self._base + index
            self.skip(0)

    def text(self, *, limit: int) -> tuple[str, bool]:
        """A string, and whether it was cut off after `limit` bytes."""
        length = self.size()
        if length >= _IMPLAUSIBLE:
            raise Implausible(f"a text of {length} bytes at offset {self.position}", where=self.where)
        kept = self.take(min(length, limit))
        self.skip(length - len(kept))
        return kept.decode("utf-8", "replace"), length > limit


def _versions(head: bytes) -> tuple[int, int]:
    return int.from_bytes(head[4:8], "little"), int.from_bytes(head[4:8], "big")


def _facts(stream: _Stream, count: int, problems: list[Problem]) -> Iterator[tuple[str, str]]:
    seen = set()
    for _ in range(count):
        at = stream.position
        key, cut = stream.text(limit=_MAX_NAME_BYTES)
        if cut or key in seen:
            what = f"the key {key[:200]!r} " + ("is too long" if cut else "occurs more than once")
            problems.append(Problem(what, at, kind="duplicate-name"))
        seen.add(key)
        kind = stream.uint32()
        if kind == _STRING:
            is_template = key.startswith(_TEMPLATE)
            value, cut = stream.text(limit=_MAX_TEMPLATE_BYTES if is_template else _MAX_FACT_BYTES)
            if cut and is_template:
                what = f"{key[:200]} is longer than the {_MAX_TEMPLATE_BYTES} bytes that are read"
                problems.append(Problem(what, at, kind="text-cut"))
            yield key, value
        elif kind == _ARRAY:
            yield key, _array(stream, 1)
        elif kind in _SCALARS:
            yield key, str(stream.scalar(_SCALARS[kind]))
        else:
            raise Damaged(f"the key {key[:200]!r} at offset {at} has the value type {kind}", where=stream.where)


def _array(stream: _Stream, depth: int) -> str:
    """An array as text: `string × 49152`; up to 8 numbers in full."""
    kind, count = stream.uint32(), stream.size()
    if kind in _SCALARS:
        if count <= _MAX_SHOWN_ITEMS:
            return "[" + ", ".join(str(stream.scalar(_SCALARS[kind])) for _ in range(count)) + "]"
        stream.skip(count * struct.calcsize("<" + _SCALARS[kind]))
    elif kind == _STRING:
        stream.skip_strings(count)
    elif kind == _ARRAY and depth < _MAX_ARRAY_DEPTH:
        for _ in range(count):
            _array(stream, depth + 1)
    else:
        raise Damaged(f"an array of value type {kind}, {depth} deep, at offset {stream.position}", where=stream.where)
    return f"{_TYPE_NAMES[kind]} × {count}"


def _tensor(stream: _Stream, problems: list[Problem]) -> tuple[Tensor, int]:
    """One row of the table, and the offset of its data. GGUF counts extents from the innermost; here the last is."""
    at = stream.position
    name, cut = stream.text(limit=_MAX_NAME_BYTES)
    rank = stream.uint32()
    if cut or rank > _MAX_RANK:
        raise Damaged(f"tensor {name[:80]!r} at offset {at} has rank {rank} or an endless name", where=stream.where)
    shape = tuple(stream.size() for _ in range(rank))[::-1]
    number, offset = stream.uint32(), int(stream.scalar("Q"))
    word, block, block_bytes = GGML_TYPES.get(number, (f"ggml_type_{number}", 0, 0))
    tensor = Tensor(name, word, shape)
    if tensor.elements > _MAX_ELEMENTS:
        raise Implausible(f"tensor {name[:80]!r} at offset {at} has the shape {shape}", where=stream.where)
    if not block:
        problems.append(
            Problem(f"tensor {name[:200]!r} has the type {number}, which is not known", at, kind="unknown-dtype")
        )
        return tensor, offset
    if (shape[-1] if shape else 1) % block:
        what = f"rows of tensor {name[:200]!r} are not a multiple of {block}, as {word} needs"
        problems.append(Problem(what, at, kind="size-mismatch"))
    return Tensor(name, word, shape, tensor.elements // block * block_bytes), offset


def _alignment(text: str, problems: list[Problem]) -> int:
    value = int(text) if len(text) < 20 and text.isascii() and text.isdigit() else 0
    if value == 0 or value & (value - 1):
        problems.append(Problem(f"general.alignment {text[:40]} is not a power of two", kind="bad-alignment"))
        return 32
    return value


def _check_places(table: list[tuple[Tensor, int]], available: int, alignment: int, problems: list[Problem]) -> None:
    names: set[str] = set()
    position = 0
    for tensor, offset in sorted(table, key=lambda row: row[1]):
        if tensor.name in names:
            problems.append(Problem(f"tensor {tensor.name[:200]!r} occurs more than once", kind="duplicate-name"))
        names.add(tensor.name)
        if offset % alignment:
            problems.append(
                Problem(f"tensor {tensor.name[:200]!r} is not aligned to {alignment}", kind="bad-alignment")
            )
        if offset < position:
            problems.append(Problem(f"the data of tensor {tensor.name[:200]!r} overlap those before", kind="overlap"))
        position = max(position, offset + (tensor.size_bytes or 0))
        del problems[_MAX_PROBLEMS:]
    if position > max(available, 0):
        what = f"truncated: {position - max(available, 0)} of {position} bytes of tensor data are missing"
        problems.append(Problem(what, kind="truncated"))
