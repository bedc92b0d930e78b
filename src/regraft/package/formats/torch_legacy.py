"""Torch before its zip format: a run of pickles followed by raw storages, and the older tar with the same parts.

Source: torch 2.13, torch/serialization.py, `_legacy_save` and `_legacy_load`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from regraft.errors import Damaged, LimitExceeded
from regraft.package.archive import Archive, is_tar_head, open_tar
from regraft.package.formats.array_types import item_bytes, storage_dtype
from regraft.package.formats.interface import Description, Loading, Probe, Problem, Role, Tensor
from regraft.package.formats.pickle_machine import read_pickle
from regraft.package.formats.pickle_streams import follow_torch_legacy
from regraft.package.formats.pickle_tensors import Arrays, arrays_of, top_level
from regraft.package.formats.pickle_values import Dict, Global, PersistentId, PickleStream, Value, named_values
from regraft.package.formats.torch_zip import parameters_of
from regraft.package.limits import MAX_TENSORS
from regraft.package.reader import Reader

MAGIC = 0x1950A86A20F9469CFC6C
_MAGIC_BYTES = MAGIC.to_bytes(10, "little")
_MAGIC_LINE = f"L{MAGIC}L\n.".encode()
_TAR_PARTS = frozenset({"sys_info", "pickle", "storages", "tensors"})
_MAX_DIMENSIONS = 64


class TorchLegacy:
    """What `torch.save` wrote before 1.6, and still writes when told so: magic, version, machine, object, storages."""

    name = "torch-legacy"
    title = "PyTorch checkpoint (legacy pickle)"
    role = Role.WEIGHTS
    loading = Loading.CODE
    suffixes = (".pt", ".pth", ".bin", ".ckpt", ".t7", ".pkl", ".pt.tar", ".pth.tar")

    def matches(self, probe: Probe) -> bool:
        """See `Format.matches`: the first pickle is torch's magic number, in whatever protocol."""
        head = probe.head[:64]
        if _MAGIC_BYTES not in head and _MAGIC_LINE not in head:
            return False
        root = read_pickle(head).root
        return type(root) is int and root == MAGIC

    def describe(self, probe: Probe) -> Description:
        """See `Format.describe`."""
        streams = list(follow_torch_legacy(probe.reader))
        problems = [s.problem for s in streams if s.problem is not None]
        if len(streams) < 4:
            raise Damaged("ends before the pickled object", where=probe.name)
        machine, content = streams[2], streams[3]
        arrays = arrays_of(content.root)
        problems += arrays.problems
        if len(streams) > 4 and streams[4].stopped:
            problems += _storage_problems(probe.reader, streams[4], arrays)
        version = streams[1].root
        return Description(
            version=str(version) if type(version) is int and version < 1 << 32 else None,
            tensors=arrays.tensors,
            parameters=parameters_of(arrays),
            metadata={**_machine_facts(machine.root), **_locations(arrays), **top_level(content.root)},
            problems=tuple(problems),
        )


class TorchTar:
    """What torch wrote before 0.1.10: a tar with the members sys_info, pickle, storages and tensors."""

    name = "torch-tar"
    title = "PyTorch checkpoint (legacy tar)"
    role = Role.WEIGHTS
    loading = Loading.CODE
    suffixes = (".pt", ".pth", ".tar", ".pt.tar", ".pth.tar")

    def matches(self, probe: Probe) -> bool:
        """See `Format.matches`."""
        if not is_tar_head(probe.head[:512]):
            return False
        try:
            return set(open_tar(probe.reader).by_name) >= _TAR_PARTS
        except Damaged:
            return False

    def describe(self, probe: Probe) -> Description:
        """See `Format.describe`."""
        archive = open_tar(probe.reader)
        problems = list(archive.problems)
        types = _storage_types(_part(archive, "storages"), problems)
        shapes = _tensor_shapes(_part(archive, "tensors"), types, problems)
        content = read_pickle(_part(archive, "pickle"))
        if content.problem is not None:
            problems.append(Problem(content.problem.what, content.problem.offset, "pickle", "pickle"))
        tensors = []
        for name, value in named_values(content.root):
            key = value.id if isinstance(value, PersistentId) else None
            key = int(key) if isinstance(key, str) and key.isdecimal() and len(key) < 20 else key
            if type(key) is int and key in shapes:
                dtype, shape = shapes[key]
                bare = Tensor(name, dtype, shape)
                width = item_bytes(dtype)
                tensors.append(Tensor(name, dtype, shape, bare.elements * width if width else None))
        machine = read_pickle(_part(archive, "sys_info"))
        return Description(
            tensors=tuple(tensors),
            metadata={**_machine_facts(machine.root), **top_level(content.root)},
            problems=tuple(problems),
        )


def _storage_problems(reader: Reader, keys: PickleStream, arrays: Arrays) -> Iterator[Problem]:
    """After the list of keys follow, for each, 8 bytes with the number of elements, and the elements."""
    offset = keys.end_offset
    for key in keys.root if isinstance(keys.root, list) else ():
        storage = arrays.storages.get(key) if isinstance(key, str) else None
        if storage is None:
            return  # of unknown length, so that nothing can be said about what follows
        head = reader.read_at(offset, 8)
        width = item_bytes(storage.dtype)
        if len(head) < 8 or width is None:
            if len(head) < 8:
                yield Problem("the file ends before its storages do", offset, None, "truncated")
            return
        elements = int.from_bytes(head, "little")
        if storage.elements is not None and elements < storage.elements:
            yield Problem(f"storage {key!r} has {elements} elements, not {storage.elements}", offset, None, "damaged")
            return
        offset += 8 + elements * width
        if offset > reader.size:
            yield Problem("the file ends before its storages do", reader.size, None, "truncated")
            return
    if offset < reader.size:
        yield Problem(f"{reader.size - offset} bytes follow the last storage", offset, None, "trailing-data")


def _machine_facts(value: Value) -> dict[str, str]:
    facts: dict[str, str] = {}
    if isinstance(value, Dict):
        for key, item in value.pairs:
            if key in ("protocol_version", "little_endian") and isinstance(item, (bool, int)):
                facts[str(key)] = str(item)[:100]
    return facts


def _locations(arrays: Arrays) -> dict[str, str]:
    places = sorted({storage.location for storage in arrays.storages.values()} - {""})
    return {"devices": ", ".join(places)[:500]} if places else {}


def _part(archive: Archive, name: str) -> Reader:
    return archive.open(archive.by_name[name])


def _next_pickle(reader: Reader, offset: int) -> tuple[Value, int]:
    stream = read_pickle(reader, offset)
    if not stream.stopped:
        raise Damaged("a pickle has no end", where=reader.where)
    return stream.root, stream.end_offset


def _counted(value: Value, where: str) -> int:
    if type(value) is not int or value < 0:
        raise Damaged("a count that is no number", where=where)
    if value > MAX_TENSORS:
        raise LimitExceeded(f"{value} entries, more than {MAX_TENSORS}", where=where)
    return value


def _storage_types(reader: Reader, problems: list[Problem]) -> dict[int, str]:
    """Storage key → element type."""
    types: dict[int, str] = {}
    try:
        count, offset = _next_pickle(reader, 0)
        for _ in range(_counted(count, reader.where)):
            entry, offset = _next_pickle(reader, offset)
            key, _, cls = entry if isinstance(entry, tuple) and len(entry) == 3 else (None, None, None)
            dtype = storage_dtype((cls.name or "").rpartition(".")[2]) if isinstance(cls, Global) else None
            elements = int.from_bytes(reader.read_exactly(offset, 8), "little")
            offset += 8 + elements * (item_bytes(dtype or "") or 1)
            if type(key) is int:
                types[key] = dtype or "unknown"
        views, _ = _next_pickle(reader, offset)
        for view in views if isinstance(views, list) else ():
            if isinstance(view, tuple) and len(view) == 4 and type(view[0]) is int and type(view[1]) is int:
                types[view[0]] = types.get(view[1], "unknown")
    except Damaged as error:
        problems.append(Problem(error.what, None, "storages", "damaged"))
    return types


def _tensor_shapes(
    reader: Reader, types: dict[int, str], problems: list[Problem]
) -> dict[int, tuple[str, tuple[int, ...]]]:
    """Tensor key → (element type, shape)."""
    shapes: dict[int, tuple[str, tuple[int, ...]]] = {}
    try:
        count, offset = _next_pickle(reader, 0)
        for _ in range(_counted(count, reader.where)):
            entry, offset = _next_pickle(reader, offset)
            key, storage, _ = entry if isinstance(entry, tuple) and len(entry) == 3 else (None, None, None)
            (dimensions,) = struct.unpack("<i", reader.read_exactly(offset, 4))
            if not 0 <= dimensions <= _MAX_DIMENSIONS:
                raise Damaged(f"a tensor of {dimensions} dimensions", where=reader.where)
            shape = struct.unpack(f"<{dimensions}q", reader.read_exactly(offset + 8, 8 * dimensions))
            offset += 16 + 16 * dimensions
            if type(key) is int and all(extent >= 0 for extent in shape):
                shapes[key] = (types.get(storage, "unknown") if type(storage) is int else "unknown", shape)
    except Damaged as error:
        problems.append(Problem(error.what, None, "tensors", "damaged"))
    return shapes
