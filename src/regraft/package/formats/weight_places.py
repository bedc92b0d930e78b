"""Where the numbers of a file lie: one reader over the bytes of each stored array, for those who must read them.

Arrays that lie in one piece and as they are. One that does not is listed without a reader, and with the reason.
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
from regraft.package.formats.torch_places import Checkpoint, torch_views
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
        reader: its bytes, little-endian; None where they are not read here.
        why: why there is no reader.
    """

    name: str
    dtype: str
    reader: Reader | None
    why: str = ""


def has_places(kind: str) -> bool:
    """Does `weight_places` know the format?"""
    return kind in _READERS


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
    else:
        yield WeightPlace("", header.dtype, None, "big-endian, cut off, or no plain numbers")


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
            yield _of_member(archive, f"{folder}{storage.key}", storage.dtype, root)


def _of_legacy_torch(probe: Probe) -> Iterator[WeightPlace]:
    yield from _of_views(torch_views(probe, "torch-legacy"))


def _of_tar_torch(probe: Probe) -> Iterator[WeightPlace]:
    yield from _of_views(torch_views(probe, "torch-tar"))


def _of_views(checkpoint: Checkpoint) -> Iterator[WeightPlace]:
    seen: set[int] = set()
    for view in checkpoint.views:
        if view.storage is None:
            yield WeightPlace(view.name, view.dtype, None, "not a dense tensor over a storage")
        elif id(view.storage) not in seen:
            seen.add(id(view.storage))
            yield WeightPlace(view.name, view.dtype, view.storage)
    for name in checkpoint.beside:
        yield WeightPlace(name, "unknown", None, "beside the model's state dict")


def _of_member(archive: Archive, name: str, dtype: str, root: str) -> WeightPlace:
    member = archive.by_name.get(root + name)
    if member is None:
        return WeightPlace(name, dtype, None, "the archive has no such member")
    try:
        return WeightPlace(name, dtype, archive.open(member))
    except (Damaged, MissingExtra, Unsupported) as error:
        return WeightPlace(name, dtype, None, error.what)


def _of_onnx(probe: Probe) -> Iterator[WeightPlace]:
    for graph in message_of(probe).spans(7):
        yield from _of_graph(graph, probe.reader, 0)


def _of_graph(graph: Message, reader: Reader, depth: int) -> Iterator[WeightPlace]:
    """Initializers (fields 5 and 15), and tensors and graphs in the attributes (5: 5, 6) of nodes (1)."""
    if depth > MAX_NESTING // 4:
        return
    for number, _, value in graph.fields():
        if not isinstance(value, Message):
            continue
        if number == 5:
            yield from _of_tensor(value, reader)
        elif number == 15:
            for part in value.spans(1):
                yield from _of_tensor(part, reader)
        elif number == 1:
            for attribute in value.spans(5):
                for kind, _, inner in attribute.fields():
                    if kind == 5 and isinstance(inner, Message):
                        yield from _of_tensor(inner, reader)
                    elif kind == 6 and isinstance(inner, Message):
                        yield from _of_graph(inner, reader, depth + 1)


def _of_tensor(tensor: Message, reader: Reader) -> Iterator[WeightPlace]:
    name, dtype, place, why = "", 0, None, ""
    for number, _, value in tensor.fields():
        if number == 2 and isinstance(value, int):
            dtype = value
        elif number == 8 and isinstance(value, Message):
            name = value.text(limit=200)
        elif number in (4, 9, 10) and isinstance(value, Message):  # float_data, raw_data, double_data
            place = value
        elif number == 14 and value == 1:
            why = "its data lie in another file"
    element = dtype_of(dtype)
    if place is not None:
        yield WeightPlace(name, element, reader.section(place.start, place.size))
    elif why or element in ("float16", "bfloat16"):
        yield WeightPlace(name, element, None, why or "written as integers of varying length")


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
            elif place[0] > 1 and place[1]:
                yield WeightPlace(tensor.text(3) or "", element_type(tensor), None, "beyond the end of the file")


def _of_hdf5(probe: Probe) -> Iterator[WeightPlace]:
    tree = tree_or_none(probe)
    for node in tree.datasets if tree is not None else ():
        start, size = node.data_offset, node.size_bytes
        if start is not None and size and node.dtype is not None and start + size <= probe.reader.size:
            yield WeightPlace(node.path, node.dtype, probe.reader.section(start, size))
        elif node.size_bytes != 0 and node.shape is not None:
            yield WeightPlace(node.path, node.dtype or "unknown", None, "in chunks, compressed, or in another file")


_READERS: dict[str, Callable[[Probe], Iterator[WeightPlace]]] = {
    "safetensors": _of_safetensors,
    "gguf": _of_gguf,
    "numpy": _of_numpy,
    "torch-zip": _of_torch,
    "torchscript": _of_torch,
    "torch-legacy": _of_legacy_torch,
    "torch-tar": _of_tar_torch,
    "onnx": _of_onnx,
    "tflite": _of_tflite,
    "hdf5": _of_hdf5,
    "keras-h5": _of_hdf5,
}
