"""Weights of a large ONNX model beside its graph, in a file that is mapped, so that they are in memory only once."""

from __future__ import annotations

import itertools
import posixpath
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from regraft.errors import Damaged
from regraft.runtime.spill import Spill

if TYPE_CHECKING:
    import onnx

    from regraft.runtime.interface import Array
    from regraft.runtime.verified import VerifiedFiles

LARGE_BYTES = 128 << 20
"""Models with more bytes of external data than this are loaded with their weights beside them."""


class OnnxWeights(Mapping[str, "Array"]):
    """Weight → its value, a view of a mapped file.

    Args:
        spill: that the values lie in.
        values: weight → view.
        change: what is done to a value when it is read, as rounding; None for nothing.
    """

    def __init__(
        self, spill: Spill, values: Mapping[str, Array], change: Callable[[str, Array], Array] | None = None
    ) -> None:
        self.spill = spill
        self._values = values
        self._change = change

    def __getitem__(self, name: str) -> Array:
        value = self._values[name]
        return value if self._change is None else self._change(name, value)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def changed(self, change: Callable[[str, Array], Array]) -> OnnxWeights:
        """The same weights, changed when they are read."""
        return OnnxWeights(self.spill, self._values, change)

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
    spill = Spill()
    contents = {name: spill.put_bytes(memoryview(files.read_opaque(file))) for name, file in found.items()}
    values = {
        tensor.name: _view(tensor, places[tensor.name], contents[places[tensor.name].get("location", "")], path)
        for tensor in tensors
    }
    spill.release()
    return OnnxWeights(spill, values)


def _beside(files: VerifiedFiles, path: str, name: str) -> str:
    found = files.beside(path, name) if name and not posixpath.isabs(name) else None
    if found is None:
        raise Damaged(f"a tensor lies in {name[:200]!r}, which is no file of the package", where=path)
    return found


def _inner(outline: onnx.ModelProto) -> bool:
    """Do attributes of operators hold external tensors, too?"""
    from regraft.runtime.onnx_proto import tensors_of

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


__all__ = ["LARGE_BYTES", "OnnxWeights", "weights_beside"]
