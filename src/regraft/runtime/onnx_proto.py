"""An ONNX graph as bytes: external data taken in, outputs added, subgraphs cut, what it computes in."""

from __future__ import annotations

import math
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from regraft.errors import Damaged, MissingExtra, Unsupported

if TYPE_CHECKING:
    import onnx

    from regraft.runtime.verified import VerifiedFiles

FLOAT_NAMES = {1: "float32", 10: "float16", 11: "float64", 16: "bfloat16"}
_QUANTISED = ("QLinear", "QuantizeLinear", "DynamicQuantize", "MatMulInteger", "ConvInteger")
_MAX_PROTO_BYTES = (1 << 31) - 1
BROKEN_FILE = "the file is cut short or damaged: fetch it again, or see what can be read of it: regraft inspect FILE"
_PASSED_THROUGH = ("Cast", "Identity", "Unsqueeze", "Squeeze", "Reshape")


def import_onnx(where: str = "") -> Any:
    """The onnx package.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingExtra("onnx", extra="onnx", where=where) from error
    return onnx


def proto_from_bytes(content: bytes, where: str = "") -> onnx.ModelProto:
    """Parse a ModelProto.

    Raises:
        Damaged: it is none.
        MissingExtra: onnx is not installed.
    """
    import_onnx(where)
    import onnx
    from google.protobuf.message import DecodeError

    try:
        return onnx.load_from_string(content)
    except (DecodeError, ValueError) as error:
        raise Damaged(f"not an ONNX model: {error}", where=where, hint=BROKEN_FILE) from error


def self_contained(files: VerifiedFiles, path: str) -> bytes:
    """The model's bytes with the data of external tensors taken in; every file is one of the package.

    Raises:
        Damaged: an external tensor names a file outside of the package, or a place outside of the file.
        Unsupported: more than 2 GiB, which protobuf cannot hold.
    """
    content = files.read(path)
    if b"location" not in content:
        return content
    model = proto_from_bytes(content, path)
    contents: dict[str, bytes] = {}
    for tensor in tensors_of(model.graph):
        if tensor.data_location == tensor.EXTERNAL:
            _take_in(tensor, files, path, contents)
    if not contents:
        return content
    if model.ByteSize() > _MAX_PROTO_BYTES:
        raise Unsupported(f"{model.ByteSize()} bytes with its external data; 2 GiB is the most", where=path)
    result: bytes = model.SerializeToString()
    return result


def with_outputs(model: onnx.ModelProto, names: Sequence[str]) -> bytes:
    """A serialised copy whose graph returns these tensors too."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    have = {value.name for value in copy.graph.output}
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in have)
    content: bytes = copy.SerializeToString()
    return content


def cut(model: onnx.ModelProto, inputs: Sequence[str], outputs: Sequence[str], where: str) -> bytes:
    """The subgraph that computes `outputs` from `inputs`, serialised.

    Raises:
        Unsupported: a name is no tensor of the graph, or the outputs need more than the inputs.
    """
    import_onnx(where)
    import onnx.shape_inference
    import onnx.utils

    inferred = onnx.shape_inference.infer_shapes(model)
    known = {value.name for value in (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output)}
    for name in (*inputs, *outputs):
        if name not in known:
            made = any(name in node.output for node in model.graph.node)
            reason = "its type cannot be inferred" if made else "there is no such tensor"
            raise Unsupported(f"the graph cannot be cut at {name!r}: {reason}", where=where)
    try:
        part = onnx.utils.Extractor(inferred).extract_model(list(inputs), list(outputs))
    except (ValueError, RuntimeError, KeyError) as error:
        raise Unsupported(f"the graph cannot be cut there: {error}", where=where) from error
    _require_closed(part.graph, where)
    content: bytes = part.SerializeToString()
    return content


def precision_of_graph(model: onnx.ModelProto) -> str:
    """The floating-point dtype that most tensors between nodes have; `int8` where quantised operators compute."""
    import onnx.shape_inference

    graph = model.graph
    if any(node.op_type.startswith(_QUANTISED) for node in graph.node):
        return "int8"
    try:
        inferred = onnx.shape_inference.infer_shapes(model).graph
    except (RuntimeError, ValueError):  # it refuses some graphs that runtimes accept, and those over 2 GiB
        inferred = graph
    counts: dict[str, int] = {}
    for value in (*inferred.value_info, *inferred.output):
        name = FLOAT_NAMES.get(value.type.tensor_type.elem_type)
        if name:
            counts[name] = counts.get(name, 0) + 1
    if not counts:
        for weight in graph.initializer:
            name = FLOAT_NAMES.get(weight.data_type)
            if name:
                counts[name] = counts.get(name, 0) + math.prod(weight.dims)
    return max(counts, key=lambda name: counts[name]) if counts else "float32"


def index_ranges(model: onnx.ModelProto) -> dict[str, tuple[int, int]]:
    """Integer input → legal range, for inputs that index a table of weights: the size of a vocabulary."""
    sizes = {weight.name: weight.dims[0] for weight in model.graph.initializer if len(weight.dims) == 2}
    origin = {value.name: value.name for value in model.graph.input}
    ranges: dict[str, tuple[int, int]] = {}
    for node in model.graph.node:
        if node.op_type in _PASSED_THROUGH and node.input and node.input[0] in origin:
            origin[node.output[0]] = origin[node.input[0]]
        elif node.op_type == "Gather" and node.input[0] in sizes and node.input[1] in origin:
            name, rows = origin[node.input[1]], sizes[node.input[0]]
            ranges[name] = (0, min(rows - 1, ranges.get(name, (0, rows))[1]))
    return ranges


def estimated_bytes(model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """Tensor name → bytes for inputs of these shapes; what cannot be inferred is not in it."""
    import onnx
    import onnx.shape_inference

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for value in copy.graph.input:
        if value.name in shapes:
            del value.type.tensor_type.shape.dim[:]
            value.type.tensor_type.shape.dim.extend(
                onnx.TensorShapeProto.Dimension(dim_value=size) for size in shapes[value.name]
            )
    del copy.graph.value_info[:]
    try:
        graph = onnx.shape_inference.infer_shapes(copy, data_prop=True).graph
    except (RuntimeError, ValueError):
        return {}
    sizes: dict[str, int] = {}
    for value in (*graph.value_info, *graph.output):
        dims = value.type.tensor_type.shape.dim
        if all(dim.HasField("dim_value") for dim in dims):
            width = 8 if value.type.tensor_type.elem_type in (7, 11) else 4
            sizes[value.name] = width * math.prod(dim.dim_value for dim in dims)
    return sizes


def tensors_of(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """All tensors that a graph and the graphs inside its operators hold."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from attribute.tensors
            if attribute.HasField("t"):
                yield attribute.t
            if attribute.HasField("g"):
                yield from tensors_of(attribute.g)
            for subgraph in attribute.graphs:
                yield from tensors_of(subgraph)


def _take_in(tensor: onnx.TensorProto, files: VerifiedFiles, path: str, contents: dict[str, bytes]) -> None:
    place = {entry.key: entry.value for entry in tensor.external_data}
    name = place.get("location", "")
    beside = files.beside(path, name) if name and not posixpath.isabs(name) else None
    if beside is None:
        raise Damaged(f"tensor {tensor.name!r} lies in {name[:200]!r}, which is no file of the package", where=path)
    if beside not in contents:
        contents[beside] = files.read_opaque(beside)
    content = contents[beside]
    try:
        offset = int(place.get("offset") or 0)
        length = int(place.get("length") or len(content) - offset)
    except ValueError:
        raise Damaged(f"tensor {tensor.name!r} has no number as its place", where=path) from None
    if offset < 0 or length < 0 or offset + length > len(content):
        raise Damaged(f"tensor {tensor.name!r} lies outside of {beside}", where=path)
    tensor.raw_data = content[offset : offset + length]
    tensor.data_location = tensor.DEFAULT
    del tensor.external_data[:]


def _require_closed(graph: onnx.GraphProto, where: str) -> None:
    """Every tensor that a node takes must be made in the graph: what the cut lost is named."""
    known = {value.name for value in graph.input} | {weight.name for weight in graph.initializer} | {""}
    known |= {weight.values.name for weight in graph.sparse_initializer}
    for node in graph.node:
        lost = [name for name in node.input if name not in known]
        if lost:
            raise Unsupported(f"the outputs also need {lost[0]!r}, which is not among the inputs", where=where)
        known |= set(node.output)
