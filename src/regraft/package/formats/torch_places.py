"""Where in a torch checkpoint the elements of its tensors lie: zip, legacy and tar files alike.

Nothing is unpickled: the machine follows the pickle, and says which bytes of the file each tensor is a view of.
Source: torch 2.13, torch/serialization.py (`_load`, `_legacy_load`, `legacy_load` of tars).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

import msgspec

from regraft.errors import Damaged, LimitExceeded, Unsupported
from regraft.package.archive import Archive, open_tar
from regraft.package.formats.array_types import item_bytes, storage_dtype
from regraft.package.formats.interface import Probe
from regraft.package.formats.pickle_machine import read_pickle
from regraft.package.formats.pickle_streams import follow_torch_legacy
from regraft.package.formats.pickle_tensors import Array, Storage, array_of
from regraft.package.formats.pickle_values import Call, Dict, Global, PersistentId, Value, argument_pairs, named_values
from regraft.package.formats.torch_zip import read_member_pickle, root_of, small_text
from regraft.package.limits import MAX_TENSORS
from regraft.package.reader import Reader

WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "net", "params_ema", "params", "generator")
"""Under which name a checkpoint keeps its state dict, the most telling first."""
_MAX_DIMENSIONS = 64


class View(msgspec.Struct, frozen=True):
    """A tensor as a view of bytes in the file.

    Attributes:
        name: of the state dict, dotted.
        storage: content that it is a view of; None where its bytes are not in the file as a torch storage.
        start: element of the storage at which it begins.
        stride: in elements, one an axis.
        is_big_endian: numbers are stored with their highest byte first.
        identity: equal for two views of exactly the same elements.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    storage: Reader | None
    start: int = 0
    stride: tuple[int, ...] = ()
    is_big_endian: bool = False
    identity: tuple[object, ...] = ()


class Checkpoint(msgspec.Struct, frozen=True):
    """The tensors of a checkpoint's model, and the names of those beside it (an optimizer's, a scheduler's)."""

    views: tuple[View, ...]
    beside: tuple[str, ...] = ()


def torch_views(probe: Probe, kind: str) -> Checkpoint:
    """The tensors of a checkpoint's state dict and where they lie.

    Of a checkpoint that keeps its state dict under a name, only that is taken; of a pickled module or of any other
    object every tensor, under the name of its place.

    Args:
        kind: `torch-zip`, `torchscript`, `torch-legacy` or `torch-tar`.
    Raises:
        Damaged: the file is cut off, or contradicts itself.
        LimitExceeded: beyond a bound of `package.limits`.
        Unsupported: no such kind.
    """
    if kind in ("torch-zip", "torchscript"):
        return _of_zip(probe)
    if kind == "torch-legacy":
        return _of_legacy(probe.reader)
    if kind == "torch-tar":
        return _of_tar(probe.reader)
    raise Unsupported(f"no torch checkpoint: the format is {kind or 'unknown'}", where=probe.reader.where)


def _of_zip(probe: Probe) -> Checkpoint:
    found = root_of(probe)
    if found is None:
        raise Damaged("not a torch zip", where=probe.reader.where)
    archive, root = found
    stream = read_member_pickle(archive, root + "data.pkl")
    if not stream.complete:
        raise Damaged(f"data.pkl: {stream.problem.what if stream.problem else 'no end'}", where=probe.reader.where)
    opened: dict[str, Reader] = {}

    def storage(of: Storage) -> Reader:
        if of.key not in opened:
            name = f"{root}data/{of.key}"
            if name not in archive.by_name:
                raise Damaged(f"the archive has no member {name!r}", where=probe.reader.where)
            opened[of.key] = archive.open(archive.by_name[name])
        return opened[of.key]

    is_big = small_text(archive, root + "byteorder") == "big"
    chosen, beside = _model(stream.root)
    views = [_view(name, value, storage, is_big) for name, value in named_values(chosen)]
    return Checkpoint(tuple(view for view in views if view is not None), beside)


def _of_legacy(reader: Reader) -> Checkpoint:
    """Numbers are little-endian whatever the file says of the machine that wrote it: torch swaps when it writes."""
    streams = list(follow_torch_legacy(reader))
    if len(streams) < 5 or not all(stream.complete for stream in streams[:5]):
        raise Damaged("ends before the list of its storages", where=reader.where)
    content, keys = streams[3].root, streams[4]
    chosen, beside = _model(content)
    widths: dict[str, int] = {}
    for _, value in named_values(content):
        array = array_of(value)
        if array is not None and array.storage is not None:
            widths[array.storage.key] = item_bytes(array.storage.dtype) or 0
    readers: dict[str, Reader] = {}
    offset = keys.end_offset
    for key in keys.root if isinstance(keys.root, list) else ():
        if not isinstance(key, str) or not widths.get(key):
            raise Damaged(f"a storage {str(key)[:80]!r} of unknown length", where=reader.where)
        size = int.from_bytes(reader.read_exactly(offset, 8), "little") * widths[key]
        readers[key] = reader.section(offset + 8, size)
        offset += 8 + size

    def storage(of: Storage) -> Reader:
        if of.key not in readers:
            raise Damaged(f"the file has no storage {of.key[:80]!r}", where=reader.where)
        return readers[of.key]

    views = [_view(name, value, storage) for name, value in named_values(chosen)]
    return Checkpoint(tuple(view for view in views if view is not None), beside)


def _of_tar(reader: Reader) -> Checkpoint:
    archive = open_tar(reader)
    tensors = dict(_tar_tensors(_part(archive, "tensors"), dict(_tar_storages(_part(archive, "storages")))))
    content = read_pickle(_part(archive, "pickle"))
    if not content.complete:
        raise Damaged("the pickle has no end", where=reader.where)
    chosen, beside = _model(content.root, is_tensor=lambda value: _tar_key(value) in tensors)
    views = [
        msgspec.structs.replace(tensors[key], name=name)
        for name, value in named_values(chosen)
        if (key := _tar_key(value)) in tensors
    ]
    return Checkpoint(tuple(views), beside)


def _is_tensor(value: Value) -> bool:
    return array_of(value) is not None


def _model(root: Value, *, is_tensor: object = None) -> tuple[Value, tuple[str, ...]]:
    """What of a checkpoint is the model, and the first names of tensors beside it."""
    check = is_tensor if callable(is_tensor) else _is_tensor
    chosen = root
    for _ in WRAPPERS:
        entries = _entries(chosen)
        if entries is None or all(check(value) for value in entries.values()):
            break
        inner = next((entries[key] for key in WRAPPERS if _entries(entries.get(key)) is not None), None)
        if inner is None:
            break
        chosen = inner
    inside = {id(value) for _, value in named_values(chosen)}
    beside = [name for name, value in named_values(root) if id(value) not in inside and check(value)]
    return chosen, tuple(beside)


def _entries(value: Value) -> Mapping[str, Value] | None:
    """A dict of a pickle, by its text keys; None for anything else."""
    if isinstance(value, Dict):
        pairs = value.pairs
    elif isinstance(value, Call) and value.path in ("collections.OrderedDict", "builtins.dict"):
        pairs = [*argument_pairs(value), *value.pairs]
    else:
        return None
    return {key: item for key, item in pairs if isinstance(key, str)}


def _view(name: str, value: Value, storage: object, is_big: bool = False) -> View | None:
    array = array_of(value)
    if array is None:
        return None
    if array.storage is None or array.stride is None or len(array.stride) != len(array.shape):
        return View(name, array.dtype, array.shape, None, identity=array.identity)
    assert callable(storage)
    content: Reader = storage(array.storage)
    start = array.storage.start + array.start
    _require_inside(name, array, content, start)
    return View(name, array.dtype, array.shape, content, start, array.stride, is_big, array.identity)


def _require_inside(name: str, array: Array, content: Reader, start: int) -> None:
    width = item_bytes(array.dtype) or 1
    reach = 0 if 0 in array.shape else array.least_elements - array.start + start
    if start < 0 or reach * width > content.size:
        what = f"{name[:200]} needs {reach * width} bytes of a storage with {content.size}"
        raise Damaged(what, where=content.where)


def _part(archive: Archive, name: str) -> Reader:
    if name not in archive.by_name:
        raise Damaged(f"the archive has no member {name!r}", where=archive.reader.where)
    return archive.open(archive.by_name[name])


def _tar_key(value: Value) -> int | None:
    key = value.id if isinstance(value, PersistentId) else None
    if isinstance(key, str) and key.isdecimal() and len(key) < 20:
        return int(key)
    return key if type(key) is int else None


def _counted(reader: Reader) -> tuple[int, int]:
    """(number of entries, offset of the first) of a part of a tar."""
    count, offset = _next(reader, 0)
    if type(count) is not int or count < 0:
        raise Damaged("a count that is no number", where=reader.where)
    if count > MAX_TENSORS:
        raise LimitExceeded(f"{count} entries, more than {MAX_TENSORS}", where=reader.where)
    return count, offset


def _next(reader: Reader, offset: int) -> tuple[Value, int]:
    stream = read_pickle(reader, offset)
    if not stream.stopped:
        raise Damaged("a pickle has no end", where=reader.where)
    return stream.root, stream.end_offset


def _tar_storages(reader: Reader) -> Iterator[tuple[int, tuple[str, Reader]]]:
    """Storage key → element type and content; views of other storages come last."""
    found: dict[int, tuple[str, Reader]] = {}
    count, offset = _counted(reader)
    for _ in range(count):
        entry, offset = _next(reader, offset)
        key, _, cls = entry if isinstance(entry, tuple) and len(entry) == 3 else (None, None, None)
        dtype = storage_dtype((cls.name or "").rpartition(".")[2]) if isinstance(cls, Global) else None
        width = item_bytes(dtype or "")
        if type(key) is not int or dtype is None or width is None:
            raise Damaged("a storage without key or element type", where=reader.where)
        size = int.from_bytes(reader.read_exactly(offset, 8), "little") * width
        found[key] = (dtype, reader.section(offset + 8, size))
        offset += 8 + size
    views, _ = _next(reader, offset)
    for view in views if isinstance(views, list) else ():
        if isinstance(view, tuple) and len(view) == 4 and all(type(part) is int for part in view):
            key, parent, start, length = view
            if parent not in found:
                raise Damaged(f"a view of the storage {parent}, which is not there", where=reader.where)
            dtype, content = found[parent]
            width = item_bytes(dtype) or 1
            found[key] = (dtype, content.section(start * width, length * width))
    yield from found.items()


def _tar_tensors(reader: Reader, storages: Mapping[int, tuple[str, Reader]]) -> Iterator[tuple[int, View]]:
    """Tensor key → view, still without a name."""
    count, offset = _counted(reader)
    for _ in range(count):
        entry, offset = _next(reader, offset)
        key, storage, _ = entry if isinstance(entry, tuple) and len(entry) == 3 else (None, None, None)
        (rank,) = struct.unpack("<i", reader.read_exactly(offset, 4))
        if not 0 <= rank <= _MAX_DIMENSIONS:
            raise Damaged(f"a tensor of {rank} dimensions", where=reader.where)
        numbers = struct.unpack(f"<{2 * rank + 1}q", reader.read_exactly(offset + 8, 16 * rank + 8))
        offset += 16 + 16 * rank
        shape, stride, start = numbers[:rank], numbers[rank : 2 * rank], numbers[-1]
        if type(key) is not int or type(storage) is not int or storage not in storages or min((0, *numbers)) < 0:
            raise Damaged("a tensor of a storage that is not there", where=reader.where)
        dtype, content = storages[storage]
        least = 0 if 0 in shape else 1 + sum((extent - 1) * step for extent, step in zip(shape, stride, strict=True))
        array = Array(dtype, shape, None, (), None, start, stride, start + least)
        _require_inside(str(key), array, content, start)
        yield key, View("", dtype, shape, content, start, stride, identity=(storage, start, shape, stride))
