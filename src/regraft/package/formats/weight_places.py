"""Where the numbers of a file lie: one reader over the bytes of each stored array, for those who must read them.

Only arrays that lie in one piece and as they are: what is compressed or quantised in blocks is not listed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from regraft.errors import Damaged, MissingExtra, Unsupported
from regraft.package.archive import Archive
from regraft.package.formats import gguf, safetensors
from regraft.package.formats.flatbuffer import Buffer
from regraft.package.formats.hdf5 import tree_or_none
from regraft.package.formats.interface import Probe
from regraft.package.formats.numpy import read_header
from regraft.package.formats.onnx_tensors import dtype_of
from regraft.package.formats.pickle_tensors import arrays_of
from regraft.package.formats.tflite import element_type
from regraft.package.formats.torch_places import torch_views
from regraft.package.formats.torch_zip import read_member_pickle, root_of
from regraft.package.formats.wire import Message, message_of
from regraft.package.limits import MAX_NESTING
from regraft.package.reader import Reader

_TORCH_PICKLES = (("data.pkl", "data/"), ("constants.pkl", "constants/"))


class WeightPlace(msgspec.Struct, frozen=True):
    """The elements of one array.

    Attributes:
        name: of the tensor, or of the archive member that holds several.
        dtype: as `Tensor.dtype`.
        reader: its bytes, little-endian.
    """

    name: str
    dtype: str
    reader: Reader


def weight_places(probe: Probe, kind: str) -> Iterator[WeightPlace]:
    """The arrays of a file of the format `kind`; nothing where the format is none of those that are read.

    Raises:
        Damaged, LimitExceeded, Unsupported: as the format's `describe`.
    """
    read = _READERS.get(kind)
    if read is not None:
        yield from read(probe)


def _of_safetensors(probe: Probe) -> Iterator[WeightPlace]:
    for name, (tensor, offset) in safetensors.tensor_places(probe.reader).items():
        yield WeightPlace(name, tensor.dtype, probe.reader.section(offset, tensor.size_bytes or 0))


def _of_gguf(probe: Probe) -> Iterator[WeightPlace]:
    for name, (tensor, offset) in gguf.tensor_places(probe.reader).items():
        yield WeightPlace(name, tensor.dtype, probe.reader.section(offset, tensor.size_bytes or 0))


def _of_numpy(probe: Probe) -> Iterator[WeightPlace]:
    header = read_header(probe.reader)
    left = probe.reader.size - header.data_offset
    if header.size_bytes is not None and not header.is_big_endian and header.size_bytes <= left:
        yield WeightPlace("", header.dtype, probe.reader.section(header.data_offset, header.size_bytes))


def _of_torch(probe: Probe) -> Iterator[WeightPlace]:
    """Storages rather than tensors: several tensors may be views of one."""
    found = root_of(probe)
    if found is None:
        return
    archive, root = found
    for pickle, folder in _TORCH_PICKLES:
        if root + pickle not in archive.by_name:
            continue
        for storage in arrays_of(read_member_pickle(archive, root + pickle).root).storages.values():
            reader = _member(archive, root + folder + storage.key)
            if reader is not None:
                yield WeightPlace(f"{folder}{storage.key}", storage.dtype, reader)


def _of_legacy_torch(probe: Probe) -> Iterator[WeightPlace]:
    seen: set[int] = set()
    for view in torch_views(probe, "torch-legacy").views:
        if view.storage is not None and id(view.storage) not in seen and not view.is_big_endian:
            seen.add(id(view.storage))
            yield WeightPlace(view.name, view.dtype, view.storage)


def _member(archive: Archive, name: str) -> Reader | None:
    member = archive.by_name.get(name)
    try:
        return None if member is None else archive.open(member)
    except (Damaged, MissingExtra, Unsupported):
        return None


def _of_onnx(probe: Probe) -> Iterator[WeightPlace]:
    for graph in message_of(probe).spans(7):
        yield from _of_graph(graph, probe.reader, 0)


def _of_graph(graph: Message, reader: Reader, depth: int) -> Iterator[WeightPlace]:
    """Initializers (field 5), and tensors and graphs in the attributes (5: 5, 6) of nodes (1)."""
    if depth > MAX_NESTING // 4:
        return
    for number, _, value in graph.fields():
        if not isinstance(value, Message):
            continue
        if number == 5:
            yield from _of_tensor(value, reader)
        elif number == 1:
            for attribute in value.spans(5):
                for part, _, inner in attribute.fields():
                    if part == 5 and isinstance(inner, Message):
                        yield from _of_tensor(inner, reader)
                    elif part == 6 and isinstance(inner, Message):
                        yield from _of_graph(inner, reader, depth + 1)


def _of_tensor(tensor: Message, reader: Reader) -> Iterator[WeightPlace]:
    name, dtype, place = "", 0, None
    for number, _, value in tensor.fields():
        if number == 2 and isinstance(value, int):
            dtype = value
        elif number == 8 and isinstance(value, Message):
            name = value.text(limit=200)
        elif number in (4, 9) and isinstance(value, Message):  # float_data, raw_data
            place = value
    if place is not None:
        yield WeightPlace(name, dtype_of(dtype), reader.section(place.start, place.size))


def _of_tflite(probe: Probe) -> Iterator[WeightPlace]:
    model = Buffer(probe.reader).root()
    buffers = list(model.tables(4))
    seen: set[int] = set()
    for graph in model.tables(2):
        for tensor in graph.tables(0):
            index = tensor.uint(2, 4)
            if not 0 < index < len(buffers) or index in seen:
                continue
            seen.add(index)
            place = buffers[index].place(0) or (buffers[index].uint(1, 8), buffers[index].uint(2, 8))
            if place[0] > 1 and place[1] and sum(place) <= probe.reader.size:
                yield WeightPlace(tensor.text(3) or "", element_type(tensor), probe.reader.section(*place))


def _of_hdf5(probe: Probe) -> Iterator[WeightPlace]:
    tree = tree_or_none(probe)
    for node in tree.datasets if tree is not None else ():
        start, size = node.data_offset, node.size_bytes
        if start is not None and size and node.dtype is not None and start + size <= probe.reader.size:
            yield WeightPlace(node.path, node.dtype, probe.reader.section(start, size))


_READERS: dict[str, Callable[[Probe], Iterator[WeightPlace]]] = {
    "safetensors": _of_safetensors,
    "gguf": _of_gguf,
    "numpy": _of_numpy,
    "torch-zip": _of_torch,
    "torchscript": _of_torch,
    "torch-legacy": _of_legacy_torch,
    "onnx": _of_onnx,
    "tflite": _of_tflite,
    "hdf5": _of_hdf5,
    "keras-h5": _of_hdf5,
}
