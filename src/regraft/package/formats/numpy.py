"""NumPy's files: `.npy`, one array behind a literal header, and `.npz`, a zip of them.

Source: numpy 2.4, numpy/lib/_format_impl.py (format versions 1.0, 2.0 and 3.0).
"""

from __future__ import annotations

import ast
import warnings
from typing import Any

import msgspec

from regraft.errors import Bomb, Damaged, LimitExceeded, MissingExtra, Unsupported
from regraft.package.formats.array_types import numpy_dtype
from regraft.package.formats.interface import Description, Loading, Probe, Problem, Role, Tensor
from regraft.package.limits import MAX_TENSORS
from regraft.package.reader import Reader

MAGIC = b"\x93NUMPY"
_MAX_HEADER_BYTES = 64 << 10
_MAX_DIMENSIONS = 64
_MAX_FIELDS = 1000


class ArrayHeader(msgspec.Struct, frozen=True):
    """What a `.npy` header says.

    Attributes:
        dtype: element type; `object` where elements are pickled, `struct` for named fields.
        data_offset: where the elements, or their pickle, begin.
        size_bytes: of the elements; None for objects.
        is_big_endian: elements are stored with their highest byte first.
    """

    version: str
    dtype: str
    shape: tuple[int, ...]
    is_fortran: bool
    data_offset: int
    size_bytes: int | None
    is_big_endian: bool = False

    @property
    def has_objects(self) -> bool:
        """Are the elements a pickle, so that loading them runs code?"""
        return self.dtype == "object"


class Npy:
    """One array. Loading is inert unless its elements are Python objects, which are pickled."""

    name = "numpy"
    title = "NumPy array"
    role = Role.DATA
    loading = Loading.INERT
    suffixes = (".npy",)

    def matches(self, probe: Probe) -> bool:
        """See `Format.matches`."""
        return probe.head.startswith(MAGIC)

    def describe(self, probe: Probe) -> Description:
        """See `Format.describe`."""
        header = read_header(probe.reader)
        tensor = Tensor("", header.dtype, header.shape, header.size_bytes)
        return Description(
            version=header.version,
            tensors=(tensor,),
            loading=Loading.CODE if header.has_objects else None,
            metadata={"object_dtype": "yes" if header.has_objects else "no"},
            problems=_size_problems(header, probe.reader, None),
        )


class Npz:
    """Several arrays in a zip."""

    name = "npz"
    title = "NumPy archive"
    role = Role.DATA
    loading = Loading.INERT
    suffixes = (".npz",)

    def matches(self, probe: Probe) -> bool:
        """See `Format.matches`: nothing but `.npy` members, the first of which is one."""
        if not probe.head.startswith(b"PK\x03\x04") or probe.zip is None or not probe.zip.members:
            return False
        archive = probe.zip
        if not all(member.name.endswith(".npy") for member in archive.members):
            return False
        try:
            return archive.open(archive.members[0]).read_at(0, len(MAGIC)) == MAGIC
        except Bomb:
            return True  # zeros pack that well; the names say what it is
        except (Damaged, MissingExtra, Unsupported):
            return False

    def describe(self, probe: Probe) -> Description:
        """See `Format.describe`."""
        archive = probe.zip
        if archive is None:
            raise Damaged("not a zip archive", where=probe.name)
        tensors: list[Tensor] = []
        problems: list[Problem] = []
        objects: list[str] = []
        for member in archive.members:
            try:
                reader = archive.open(member)
                header = read_header(reader)
            except (Damaged, MissingExtra, Unsupported) as error:
                problems.append(Problem(error.what, None, member.name, "damaged"))
                continue
            name = member.name.removesuffix(".npy")
            tensors.append(Tensor(name, header.dtype, header.shape, header.size_bytes))
            problems += _size_problems(header, reader, member.name)
            if header.has_objects:
                objects.append(name)
        if len(tensors) > MAX_TENSORS:
            raise LimitExceeded(f"more than {MAX_TENSORS} arrays", where=probe.name)
        return Description(
            tensors=tuple(tensors),
            loading=Loading.CODE if objects else None,
            metadata={"object_dtype": ", ".join(objects)[:2000] or "no"},
            problems=(*archive.problems, *problems),
        )


def read_header(reader: Reader, offset: int = 0) -> ArrayHeader:
    """Parse the header of a `.npy` content; its literal is parsed, never evaluated.

    Raises:
        Damaged: not such a header, or not whole.
        LimitExceeded: a header of more than 64 KiB.
    """
    start = reader.read_exactly(offset, 12 if reader.size >= offset + 12 else 10)
    if not start.startswith(MAGIC) or start[6] not in (1, 2, 3):
        raise Damaged("not a NumPy array", where=reader.where)
    width = 2 if start[6] == 1 else 4
    length = int.from_bytes(start[8 : 8 + width], "little")
    if length > _MAX_HEADER_BYTES:
        raise LimitExceeded(f"an array header of {length} bytes, more than {_MAX_HEADER_BYTES}", where=reader.where)
    text = reader.read_exactly(offset + 8 + width, length).decode("latin-1" if start[6] < 3 else "utf-8", "replace")
    fields = _literal(text, reader.where)
    dtype, item_size = _element(fields["descr"], reader.where)
    shape = fields["shape"]
    if not isinstance(shape, tuple) or len(shape) > _MAX_DIMENSIONS:
        raise Damaged("the shape of the array is no tuple", where=reader.where)
    if not all(type(extent) is int and 0 <= extent < 1 << 62 for extent in shape):
        raise Damaged("the shape of the array has no valid extents", where=reader.where)
    size = None if dtype == "object" else Tensor("", dtype, shape).elements * item_size
    data_offset = offset + 8 + width + length
    is_big = isinstance(fields["descr"], str) and fields["descr"].startswith(">")
    return ArrayHeader(f"{start[6]}.{start[7]}", dtype, shape, bool(fields["fortran_order"]), data_offset, size, is_big)


def _literal(text: str, where: str) -> dict[str, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # SyntaxWarning about what a hostile header says
            value = ast.literal_eval(text.strip().replace("L,", ",").replace("L)", ")"))
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise Damaged("the array header is no literal", where=where) from error
    if not isinstance(value, dict) or not {"descr", "fortran_order", "shape"} <= value.keys():
        raise Damaged("the array header lacks descr, fortran_order or shape", where=where)
    return value


def _element(descriptor: Any, where: str) -> tuple[str, int]:
    """(name, bytes) of an element; a list of (name, type[, shape]) makes a struct."""
    if isinstance(descriptor, str):
        found = numpy_dtype(descriptor)
        if found is None:
            raise Damaged(f"{descriptor[:40]!r} is no element type", where=where)
        return found
    total, has_objects, pending = 0, False, [(descriptor, 1)]
    for _ in range(_MAX_FIELDS):
        if not pending:
            return ("object" if has_objects else "struct"), total
        fields, times = pending.pop()
        if isinstance(fields, str):
            name, size = _element(fields, where)
            has_objects = has_objects or name == "object"
            total += times * size
        elif isinstance(fields, list):
            pending += [(field[1], times * _repeats(field, where)) for field in fields if _is_field(field, where)]
        elif isinstance(fields, tuple) and len(fields) == 2:
            pending.append((fields[0], times * _repeats((None, *fields), where)))
        else:
            break
    raise Damaged("the element type of the array cannot be read", where=where)


def _is_field(field: Any, where: str) -> bool:
    if not isinstance(field, tuple) or not 2 <= len(field) <= 3:
        raise Damaged("a field of the element type is malformed", where=where)
    return True


def _repeats(field: tuple[Any, ...], where: str) -> int:
    shape = field[2] if len(field) > 2 else ()
    shape = (shape,) if isinstance(shape, int) else shape
    if not isinstance(shape, tuple) or not all(type(n) is int and 0 <= n < 1 << 40 for n in shape) or len(shape) > 32:
        raise Damaged("a field of the element type has no valid shape", where=where)
    return Tensor("", "", shape).elements


def _size_problems(header: ArrayHeader, reader: Reader, member: str | None) -> tuple[Problem, ...]:
    if header.size_bytes is None or reader.size == header.data_offset + header.size_bytes:
        return ()
    there = reader.size - header.data_offset
    kind = "truncated" if there < header.size_bytes else "trailing-data"
    what = f"the header declares {header.size_bytes} bytes of elements, there are {there}"
    end = header.data_offset + header.size_bytes
    return (Problem(what, min(end, reader.size), member, kind),)
