"""The index of a TensorFlow checkpoint: names, dtypes and shapes of the tensors in its data files.

Source: tensorflow/core/lib/io/table (LevelDB's table format) and core/protobuf/tensor_bundle of TensorFlow 2.21.
"""

from __future__ import annotations

from collections.abc import Iterator

from regraft.errors import Damaged, LimitExceeded
from regraft.package.formats.interface import Description, Loading, Probe, Role, Tensor
from regraft.package.formats.tf_graph import dtype_of, shape_of
from regraft.package.formats.wire import Message, fields, signed
from regraft.package.limits import MAX_HEADER_BYTES, MAX_TENSORS
from regraft.package.reader import BytesReader, Reader

_MAGIC = bytes.fromhex("57fb808b247547db")
_FOOTER_BYTES = 48
_OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_OPTIMIZER = ("/Adam", "/Adam_1", "/Momentum", "/RMSProp", "/RMSProp_1", "/Adagrad")
_COUNTERS = ("beta1_power", "beta2_power", "global_step", "save_counter/.ATTRIBUTES/VARIABLE_VALUE")
_MAX_NAME_BYTES = 4096
_MAX_ELEMENTS = (1 << 58) - 1


class TfCheckpointIndex:
    """Format `tf-checkpoint`."""

    name = "tf-checkpoint"
    title = "TensorFlow checkpoint index"
    role = Role.WEIGHTS
    loading = Loading.INERT
    suffixes = (".index",)

    def matches(self, probe: Probe) -> bool:
        """A table's footer whose first entry, with the empty key, is a bundle header."""
        size = probe.reader.size
        if size < _FOOTER_BYTES + 8 or probe.head[:2] != b"\x00\x00" or probe.head[3:4] != b"\x08":
            return False
        return probe.reader.read_at(size - len(_MAGIC), len(_MAGIC)) == _MAGIC

    def describe(self, probe: Probe) -> Description:
        """All tensors; `parameters` leaves out what optimisers keep beside the weights.

        Raises:
            Damaged: blocks or entries contradict the format, or are compressed.
            LimitExceeded: too many tensors or bytes.
        """
        tensors: list[Tensor] = []
        metadata: dict[str, str] = {}
        for key, value in _entries(probe.reader):
            if not key:
                shards = next((v for n, _, v in _fields(value, probe) if n == 1 and isinstance(v, int)), 1)
                metadata["shards"] = str(shards)
                continue
            tensor = _tensor(key.decode("utf-8", "replace"), value, probe)
            if tensor.name == _OBJECT_GRAPH:
                metadata["object_graph_bytes"] = str(tensor.size_bytes)
                continue
            tensors.append(tensor)
        trained = [tensor for tensor in tensors if _is_trained(tensor)]
        return Description(
            version="2",
            tensors=tuple(tensors),
            parameters=sum(tensor.elements for tensor in trained) if len(trained) < len(tensors) else None,
            metadata=metadata,
        )


def _is_trained(tensor: Tensor) -> bool:
    kept_beside = tensor.name.endswith(_OPTIMIZER) or ".OPTIMIZER_SLOT/" in tensor.name or tensor.name in _COUNTERS
    return not kept_beside and tensor.dtype.startswith(("float", "bfloat", "complex"))


def _fields(value: bytes, probe: Probe) -> Iterator[tuple[int, int, int | Message]]:
    return fields(BytesReader(value, where=probe.reader.where))


def _tensor(name: str, value: bytes, probe: Probe) -> Tensor:
    """A `BundleEntryProto`."""
    dtype, size = "unknown", 0
    shape: tuple[int | None, ...] | None = ()
    for number, _, found in _fields(value, probe):
        if number == 1 and isinstance(found, int):
            dtype = dtype_of(found)
        elif number == 2 and isinstance(found, Message):
            shape = shape_of(found)
        elif number == 5 and isinstance(found, int):
            size = signed(found)
    extents = tuple(extent for extent in shape or () if extent is not None)
    tensor = Tensor(name, dtype, extents, size)
    if shape is None or len(extents) < len(shape) or size < 0 or tensor.elements > _MAX_ELEMENTS:
        raise Damaged(f"tensor {name[:200]!r} has no possible shape or size", where=probe.reader.where)
    return tensor


def _entries(reader: Reader) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of the whole table: the index block names the data blocks."""
    footer = reader.read_exactly(reader.size - _FOOTER_BYTES, _FOOTER_BYTES)
    position = 0
    for _ in range(2):  # the meta index, which is empty
        _, position = _varint(footer, position, reader.where)
    budget, count = MAX_HEADER_BYTES, 0
    for _, handle in _block(reader, footer, position):
        budget -= _varint(handle, _varint(handle, 0, reader.where)[1], reader.where)[0]
        if budget < 0:
            raise LimitExceeded(f"more than {MAX_HEADER_BYTES} bytes of blocks", where=reader.where)
        for entry in _block(reader, handle, 0):
            count += 1
            if count > MAX_TENSORS:
                raise LimitExceeded(f"more than {MAX_TENSORS} entries", where=reader.where)
            yield entry


def _block(reader: Reader, handle: bytes, position: int) -> Iterator[tuple[bytes, bytes]]:
    """Entries of a block; each key leaves out what it shares with the one before."""
    offset, position = _varint(handle, position, reader.where)
    size, _ = _varint(handle, position, reader.where)
    if size > MAX_HEADER_BYTES:
        raise LimitExceeded(f"a block of {size} bytes", where=reader.where)
    data = reader.read_exactly(offset, size + 1)
    if data[-1]:
        raise Damaged(f"the block at offset {offset} is compressed, which checkpoints are not", where=reader.where)
    end = size - 4 - 4 * int.from_bytes(data[size - 4 : size], "little")
    position, key = 0, b""
    while position < end:
        shared, position = _varint(data, position, reader.where)
        added, position = _varint(data, position, reader.where)
        length, position = _varint(data, position, reader.where)
        if shared > len(key) or added > _MAX_NAME_BYTES or position + added + length > end:
            raise Damaged(f"an entry beyond its block, at offset {offset + position}", where=reader.where)
        key = key[:shared] + data[position : position + added]
        position += added + length
        yield key, data[position - length : position]


def _varint(data: bytes, position: int, where: str) -> tuple[int, int]:
    value = 0
    for shift in range(10):
        if position >= len(data):
            break
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            return value, position
    raise Damaged("an integer without end in the table", where=where)
