"""Torch files read without torch.load: the values of their pickle, tensors over their storages, objects as records."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from regraft.errors import Damaged, Unsupported
from regraft.package.formats import Probe
from regraft.package.formats.array_types import item_bytes
from regraft.package.formats.loading_policies import loading_policies, policy_for
from regraft.package.formats.pickle_machine import read_pickle
from regraft.package.formats.pickle_streams import follow_torch_legacy
from regraft.package.formats.pickle_tensors import Array, Storage, array_of, dtype_of, storage_of
from regraft.package.formats.pickle_values import Blob, Call, PickleStream, Value, bytes_of
from regraft.package.formats.torch_zip import root_of, small_text
from regraft.package.formats.unpickle import Record, Unresolved, restricted_values
from regraft.package.reader import BytesReader, Reader
from regraft.runtime.torch_tensors import torch_dtype

if TYPE_CHECKING:
    import numpy as np
    import torch

_ORDERS = {"<": "<", ">": ">", "|": "=", "=": "="}
_LEGACY_STREAMS = 5


def values_of_torch_file(content: bytes, kind: str, where: str, *, is_reviewed: bool) -> Any:
    """What `torch.load` would return on the CPU, with a record in the place of every object that is no tensor.

    Args:
        content: the whole file.
        kind: its format, `torch-zip` or `torch-legacy`.
        where: how errors name it.
        is_reviewed: every name in it was reviewed; otherwise a loading policy must have them all.
    Raises:
        RefusedGlobal: it names something that no policy has.
        Unsupported: another format, byte order or kind of tensor.
        Damaged: the pickle or its storages are not what they should be.
    """
    reader = BytesReader(content, where=where)
    if kind == "torch-zip":
        stream, source, storages = _of_zip(reader, where)
    elif kind == "torch-legacy":
        stream, source, storages = _of_legacy(reader, where)
    else:
        raise Unsupported(f"objects of the format {kind} are not read", where=where)
    allow = None if is_reviewed else _policy_names(stream)
    return restricted_values(stream, source, allow=allow, resolve=_Tensors(storages, source).resolve)


def _policy_names(stream: PickleStream) -> Collection[str]:
    """What the first policy has that has all names of the stream; nothing when there is none."""
    library = policy_for({name.path for name in stream.globals})
    return loading_policies()[library].names if library is not None else ()


def state_dict_of(module: Record) -> dict[str, torch.Tensor]:
    """The state dict of a pickled `torch.nn.Module`; empty for any other record.

    Source: torch 2.13, Module.state_dict: parameters and persistent buffers, then those of the modules inside.
    """
    import torch

    found: dict[str, torch.Tensor] = {}
    pending: list[tuple[str, Record]] = [("", module)]
    met: set[tuple[str, int]] = set()
    while pending:
        prefix, record = pending.pop(0)
        if (prefix, id(record)) in met or prefix.count(".") > 100:
            continue
        met.add((prefix, id(record)))
        attributes = record.attributes
        hidden = attributes.get("_non_persistent_buffers_set")
        for table in ("_parameters", "_buffers"):
            for name, tensor in _table(attributes, table).items():
                is_kept = not (table == "_buffers" and isinstance(hidden, set) and name in hidden)
                if isinstance(tensor, torch.Tensor) and is_kept:
                    found[f"{prefix}{name}"] = tensor
        inside = [(f"{prefix}{name}.", part) for name, part in _table(attributes, "_modules").items()]
        pending = [(name, part) for name, part in inside if isinstance(part, Record)] + pending
    return found


def _table(attributes: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = attributes.get(name)
    return found if isinstance(found, Mapping) else {}


def _of_zip(reader: Reader, where: str) -> tuple[PickleStream, Reader, Callable[[Storage], bytes]]:
    found = root_of(Probe(reader, where))
    if found is None or found[1] + "data.pkl" not in found[0].by_name:
        raise Damaged("not a torch zip", where=where)
    archive, root = found
    order = small_text(archive, root + "byteorder")
    if order not in (None, "little"):
        raise Unsupported(f"its numbers are stored in the byte order {str(order)[:20]!r}", where=where)

    def content(storage: Storage) -> bytes:
        member = archive.by_name.get(f"{root}data/{storage.key}")
        if member is None:
            raise Damaged(f"no member for the storage {storage.key[:100]!r}", where=where)
        return archive.open(member).read_all(limit=reader.size)

    pickled = archive.open(archive.by_name[root + "data.pkl"])
    return read_pickle(pickled), pickled, content


def _of_legacy(reader: Reader, where: str) -> tuple[PickleStream, Reader, Callable[[Storage], bytes]]:
    streams = list(follow_torch_legacy(reader))
    keys = streams[-1].root if streams else None
    if len(streams) < _LEGACY_STREAMS or not isinstance(keys, list):
        raise Damaged("ends before its storages", where=where)
    offset = streams[-1].end_offset
    offsets: dict[str, int] = {}

    def content(storage: Storage) -> bytes:
        """Storages follow each other, each behind its number of elements: their sizes are known from the pickle."""
        if not offsets:
            offsets.update(_storage_offsets(reader, keys, offset, widths))
        if storage.key not in offsets:
            raise Damaged(f"no bytes for the storage {storage.key[:100]!r}", where=where)
        count = int.from_bytes(reader.read_exactly(offsets[storage.key], 8), "little")
        return reader.read_exactly(offsets[storage.key] + 8, count * widths[storage.key])

    widths = {storage.key: item_bytes(storage.dtype) or 0 for storage in _storages(streams[3])}
    return streams[3], reader, content


def _storages(stream: PickleStream) -> list[Storage]:
    return [found for value in stream.persistent_ids if (found := storage_of(value)) is not None]


def _storage_offsets(reader: Reader, keys: list[Value], offset: int, widths: Mapping[str, int]) -> dict[str, int]:
    offsets: dict[str, int] = {}
    for key in keys:
        width = widths.get(key) if isinstance(key, str) else None
        if not width:
            break  # of unknown length, so that nothing can be said about what follows
        offsets[str(key)] = offset
        offset += 8 + width * int.from_bytes(reader.read_exactly(offset, 8), "little")
    return offsets


class _Tensors:
    """Makes tensors and arrays of what the pickle says about them; each storage is read once, and shared."""

    def __init__(self, content: Callable[[Storage], bytes], reader: Reader) -> None:
        self._content = content
        self._reader = reader
        self._storages: dict[str, torch.Tensor] = {}

    def resolve(self, value: Value, _: Callable[[Value], Any]) -> Any:
        array = array_of(value)
        if array is not None and array.storage is not None and array.stride is not None:
            return self._tensor(array, array.storage, array.stride)
        if isinstance(value, Call) and value.path.startswith("numpy."):
            return self._numpy(value, array)
        storage = storage_of(value)
        if storage is not None:
            return self._flat(storage)
        raise Unresolved

    def _tensor(self, array: Array, storage: Storage, stride: tuple[int, ...]) -> torch.Tensor:
        import torch

        flat = self._flat(storage)
        if array.dtype != storage.dtype:
            flat = flat.view(torch_dtype(array.dtype))
        start = storage.start + array.start
        if min(start, storage.start, array.start, *stride, *array.shape) < 0:
            raise Damaged("a tensor with a negative offset, stride or extent", where=self._reader.where)
        if array.least_elements + storage.start > flat.numel() or len(stride) != len(array.shape):
            what = f"needs {array.least_elements} elements of a storage with {flat.numel()}"
            raise Damaged(f"a tensor {what}", where=self._reader.where)
        return torch.as_strided(flat, array.shape, stride, start)

    def _flat(self, storage: Storage) -> torch.Tensor:
        """All elements of a storage, (N,)."""
        import torch

        if storage.key not in self._storages:
            dtype, content = torch_dtype(storage.dtype), bytearray(self._content(storage))
            width = item_bytes(storage.dtype)
            if not width or len(content) % width:
                raise Damaged(f"{len(content)} bytes of {storage.dtype}", where=self._reader.where)
            flat = torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
            self._storages[storage.key] = flat
        return self._storages[storage.key]

    def _numpy(self, value: Call, array: Array | None) -> Any:
        """An array or scalar of numbers.

        Source: numpy 2.4, `ndarray.__reduce__`: BUILD with (version, shape, dtype, is_fortran, bytes).
        """
        import numpy as np

        state = value.state
        if array is not None and isinstance(state, tuple) and len(state) >= 5:
            dtype, content = _numpy_dtype(state[2]), self._bytes(state[4])
            if dtype is not None and content is not None and len(content) == array.size_bytes:
                order: Any = "F" if state[3] is True else "C"
                return np.frombuffer(bytearray(content), dtype=dtype).reshape(array.shape, order=order)
        if value.path.endswith(".scalar") and len(value.arguments) == 2:
            dtype, content = _numpy_dtype(value.arguments[0]), self._bytes(value.arguments[1])
            if dtype is not None and content is not None and len(content) == dtype.itemsize:
                return np.frombuffer(content, dtype=dtype)[0]
        raise Unresolved

    def _bytes(self, value: Value) -> bytes | None:
        if isinstance(value, Blob) and value.kind in ("bytes", "bytearray"):
            return self._reader.read_exactly(value.offset, value.length)
        if isinstance(value, Call) and value.path == "_codecs.encode" and value.arguments:
            text = value.arguments[0]
            if isinstance(text, Blob) and text.kind == "str":
                content = self._reader.read_exactly(text.offset, text.length)
                return content.decode("utf-8", "surrogatepass").encode("latin-1", "replace")
        return bytes_of(value)


def _numpy_dtype(value: Value) -> np.dtype[Any] | None:
    """A dtype of plain numbers; None for any other."""
    import numpy as np

    found = dtype_of(value)
    state = value.state if isinstance(value, Call) else None
    order = state[1] if isinstance(state, tuple) and len(state) > 1 else "<"
    if found is None or found[0] not in _NUMBERS or not isinstance(order, str) or order not in _ORDERS:
        return None
    return np.dtype(found[0]).newbyteorder(_ORDERS[order])  # type: ignore[arg-type]


_NUMBERS = frozenset(
    "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 complex64 complex128".split()
)
