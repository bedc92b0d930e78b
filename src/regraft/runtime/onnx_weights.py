"""Weights of a large ONNX model beside its graph, in a file that is mapped, so that they are in memory only once."""

from __future__ import annotations

import itertools
import posixpath
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.errors import Damaged
from regraft.package.formats.wire import SPAN, Message, fields
from regraft.package.reader import BytesReader
from regraft.runtime.onnx_proto import proto_from_bytes, tensors_of
from regraft.runtime.spill import Spill

if TYPE_CHECKING:
    import onnx

    from regraft.runtime.interface import Array
    from regraft.runtime.verified import VerifiedFiles

LARGE_BYTES = 128 << 20
"""Models with more bytes of weights than this are loaded with their weights beside them."""
_LONG = 1 << 14
"""Weights with fewer bytes stay in the graph."""
_FELT = 1 << 20
"""Bytes of a weight from which it is worth a look at how much is resident. A few elements that are read can make all of
it so: the page cache keeps files in large pieces, which are mapped as a whole."""
_GRAPH, _INITIALIZER, _NAME, _RAW_DATA = 7, 5, 8, 9
_ELSEWHERE = b"\x6a\x15\x0a\x08location\x12\x09elsewhere\x70\x01"
"""Of a TensorProto: external_data with a location, and data_location EXTERNAL."""


class OnnxWeights(Mapping[str, "Array"]):
    """Weight → its value, a view of a mapped file.

    Args:
        spill: that the values lie in.
        values: weight → view.
        places: weight → where it lies in the spill's file; empty where nobody asks.
        change: what is done to a value when it is read, as rounding; None for nothing.
    """

    def __init__(
        self,
        spill: Spill,
        values: Mapping[str, Array],
        places: Mapping[str, int] | None = None,
        change: Callable[[str, Array], Array] | None = None,
    ) -> None:
        self.spill = spill
        self._values = values
        self._places = dict(places or {})
        self._change = change

    def __getitem__(self, name: str) -> Array:
        value = self._values[name]
        if value.nbytes >= _FELT:
            self.spill.breathe()
        return value if self._change is None else self._change(name, value)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def changed(self, change: Callable[[str, Array], Array]) -> OnnxWeights:
        """The same weights, changed when they are read."""
        return OnnxWeights(self.spill, self._values, change=change)

    def file_beside(self, outline: onnx.ModelProto) -> Path | None:
        """Write the graph next to the file of its weights, once: onnxruntime then maps one weight at a time.

        Returns:
            where; None when the file has no name any more.
        """
        import onnx

        path = self.spill.path
        if path is None or self._change is not None:
            return None
        copy = onnx.ModelProto()
        copy.CopyFrom(outline)
        for tensor in copy.graph.initializer:
            if tensor.name in self._values:
                place = {"location": path.name, "offset": self._places[tensor.name]}
                del tensor.external_data[:]
                tensor.data_location = tensor.EXTERNAL
                for key, value in {**place, "length": self._values[tensor.name].nbytes}.items():
                    tensor.external_data.add(key=key, value=str(value))
        written = path.with_name("outline.onnx")
        written.write_bytes(copy.SerializeToString())
        return written

    def give_to(self, options: Any, outline: onnx.ModelProto) -> list[Any]:
        """Name the weights of a graph to the options of a session that is about to be made of it.

        Args:
            options: of onnxruntime.
            outline: the graph; weights that it does not have are left out.
        Returns:
            what has to live as long as the session does.
        """
        import numpy as np
        import onnxruntime

        wanted = [tensor.name for tensor in outline.graph.initializer if tensor.name in self._values]
        held = [np.ascontiguousarray(self[name]) for name in wanted]
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(value) for value in held]
        options.add_external_initializers(wanted, values)
        return [held, values]

    def filled(self, outline: onnx.ModelProto) -> onnx.ModelProto:
        """A copy of the graph that holds the weights itself."""
        import onnx
        from onnx import numpy_helper

        copy = onnx.ModelProto()
        copy.CopyFrom(outline)
        for tensor in copy.graph.initializer:
            if tensor.name in self._values:
                tensor.CopyFrom(numpy_helper.from_array(self[tensor.name], tensor.name))
        return copy


def weights_beside(files: VerifiedFiles, path: str, outline: onnx.ModelProto) -> OnnxWeights | None:
    """The external weights of a graph, verified and mapped; None for graphs with few, or with some in subgraphs.

    Raises:
        Damaged: a tensor names a file outside of the package, or a place outside of the file.
    """
    tensors = [tensor for tensor in outline.graph.initializer if tensor.data_location == tensor.EXTERNAL]
    places = {tensor.name: {entry.key: entry.value for entry in tensor.external_data} for tensor in tensors}
    names = dict.fromkeys(place.get("location", "") for place in places.values())
    found = {name: _beside(files, path, name) for name in names}
    if sum(files.size_bytes(file) for file in found.values()) <= LARGE_BYTES or _inner(outline):
        return None
    spill = Spill(is_named=True)
    starts = {name: spill.write(memoryview(files.read_opaque(file))) for name, file in found.items()}
    contents = {name: spill.view(start, files.size_bytes(found[name])) for name, start in starts.items()}
    values, begins = {}, {}
    for tensor in tensors:
        place = places[tensor.name]
        file = place.get("location", "")
        values[tensor.name] = _view(tensor, place, contents[file], path)
        begins[tensor.name] = starts[file] + int(place.get("offset") or 0)
    spill.release()
    return OnnxWeights(spill, values, begins)


def weights_apart(content: bytes, path: str) -> tuple[bytes, OnnxWeights] | None:
    """A large graph without its long weights, and these; None where it is smaller, or written in an unusual way.

    Args:
        content: serialised ModelProto.
        path: how errors name it.
    Raises:
        Damaged: it is no ModelProto.
    Source: onnx/onnx.proto3 of ONNX 1.23 (`ModelProto`, `GraphProto`, `TensorProto`); protobuf.dev, Encoding.
    """
    if len(content) <= LARGE_BYTES:
        return None
    places: dict[str, Message] = {}
    outline = _without_weights(content, path, places)
    if outline is None or not places:
        return None
    spill = Spill(is_named=True)
    whole = memoryview(content)
    tensors = {tensor.name: tensor for tensor in proto_from_bytes(outline, path).graph.initializer}
    begins = {name: spill.write(whole[place.start : place.end]) for name, place in places.items()}
    values = {
        name: _view(tensors[name], {}, spill.view(begins[name], place.size), path) for name, place in places.items()
    }
    spill.release()
    return outline, OnnxWeights(spill, values, begins)


def _without_weights(content: bytes, path: str, places: dict[str, Message]) -> bytes | None:
    """The model with its long weights named as external data, and where these are."""
    model = fields(BytesReader(content, where=path))
    graphs = [value for number, _, value in model if number == _GRAPH and isinstance(value, Message)]
    if len(graphs) != 1:
        return None
    pieces, done = [], graphs[0].start
    for tensor in graphs[0].spans(_INITIALIZER):
        shorter = _shorter(content, tensor, places)
        if shorter is None:
            continue
        before = _header_start(content, tensor, _INITIALIZER)
        if before is None:
            return None
        pieces += [content[done:before], _field(_INITIALIZER, shorter)]
        done = tensor.end
    begin = _header_start(content, graphs[0], _GRAPH)
    if begin is None:
        return None
    graph = b"".join([*pieces, content[done : graphs[0].end]])
    return content[:begin] + _field(_GRAPH, graph) + content[graphs[0].end :]


def _shorter(content: bytes, tensor: Message, places: dict[str, Message]) -> bytes | None:
    """A TensorProto without its raw data; None where these are short, or something is unusual."""
    raw, name = None, ""
    for number, _, value in tensor.fields():
        if isinstance(value, Message):
            raw = value if number == _RAW_DATA else raw
            name = value.text() if number == _NAME else name
    begin = _header_start(content, raw, _RAW_DATA) if raw is not None and raw.size >= _LONG else None
    if raw is None or begin is None or not name or name in places:
        return None
    places[name] = raw
    return content[tensor.start : begin] + content[raw.end : tensor.end] + _ELSEWHERE


def _header_start(content: bytes, span: Message, number: int) -> int | None:
    """Where the key of a span stands; None where it is not written in the shortest way."""
    header = _header(number, span.size)
    begin = span.start - len(header)
    return begin if begin >= 0 and content[begin : span.start] == header else None


def _field(number: int, content: bytes) -> bytes:
    return _header(number, len(content)) + content


def _header(number: int, size: int) -> bytes:
    """Key and length of a length-delimited field."""
    found = bytearray([number << 3 | SPAN])
    while size >= 0x80:
        found.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([*found, size])


def _beside(files: VerifiedFiles, path: str, name: str) -> str:
    found = files.beside(path, name) if name and not posixpath.isabs(name) else None
    if found is None:
        raise Damaged(f"a tensor lies in {name[:200]!r}, which is no file of the package", where=path)
    return found


def _inner(outline: onnx.ModelProto) -> bool:
    """Do attributes of operators hold external tensors, too?"""
    inner = itertools.islice(tensors_of(outline.graph), len(outline.graph.initializer), None)
    return any(tensor.data_location == tensor.EXTERNAL for tensor in inner)


def _view(tensor: onnx.TensorProto, place: Mapping[str, str], content: memoryview, path: str) -> Array:
    import math

    import numpy as np
    from onnx import helper

    dtype: Any = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type))
    count = math.prod(tensor.dims)
    try:
        offset = int(place.get("offset") or 0)
        length = int(place.get("length") or count * dtype.itemsize)
    except ValueError:
        raise Damaged(f"tensor {tensor.name!r} has no number as its place", where=path) from None
    if offset < 0 or length != count * dtype.itemsize or offset + length > len(content):
        raise Damaged(f"tensor {tensor.name!r} lies outside of its file, or is of another size", where=path)
    found: Array = np.frombuffer(content[offset : offset + length], dtype=dtype).reshape(tuple(tensor.dims))
    return found


__all__ = ["LARGE_BYTES", "OnnxWeights", "weights_apart", "weights_beside"]
