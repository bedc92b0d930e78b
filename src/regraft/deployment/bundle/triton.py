"""Triton Inference Server: a model repository with `config.pbtxt`.

Source: Triton's model configuration (max_batch_size, dims, reshape, dynamic_batching).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from regraft.deployment.bundle.escaping import pbtxt
from regraft.deployment.bundle.interface import Carried, Contents, comparison, place
from regraft.errors import Unsupported

if TYPE_CHECKING:
    from regraft.package.formats import Port

_TYPES = {
    "bool": "TYPE_BOOL", "uint8": "TYPE_UINT8", "uint16": "TYPE_UINT16", "uint32": "TYPE_UINT32",
    "uint64": "TYPE_UINT64", "int8": "TYPE_INT8", "int16": "TYPE_INT16", "int32": "TYPE_INT32", "int64": "TYPE_INT64",
    "float16": "TYPE_FP16", "float32": "TYPE_FP32", "float64": "TYPE_FP64", "bfloat16": "TYPE_BF16",
    "string": "TYPE_STRING",
}  # fmt: skip
_BATCH = 64


class Triton:
    """`--as triton`."""

    name = "triton"
    takes = ("onnxruntime", "openvino")

    def readme(self, contents: Contents) -> str:
        """The server's command."""
        lowers = contents.network.runtime == "openvino"
        note = (
            "\nTriton's OpenVINO backend takes bfloat16 where the processor has it: compare as above.\n"
            if lowers
            else ""
        )
        return (
            "    docker run --rm -p 8000:8000 -v $PWD/models:/models nvcr.io/nvidia/tritonserver:25.10-py3 \\\n"
            "        tritonserver --model-repository=/models\n"
            + comparison(contents, self.graph(contents), f"localhost:8000/{contents.name}")
            + note
        )

    def graph(self, contents: Contents) -> str:
        """In the first version, under the name that `config.pbtxt` tells."""
        return f"models/{contents.name}/1/{_file_name(contents)}"

    def write(self, contents: Contents, folder: Path) -> None:
        """`models/NAME/config.pbtxt`, `models/NAME/1/`, and what is no model beside them."""
        config = Carried.made("config.pbtxt", config_pbtxt(contents).encode(), "config")
        told = [(f"models/{contents.name}/{config.name}", config), *((one.name, one) for one in contents.extra)]
        place(contents, folder, [*versioned(contents, _file_name(contents)), *told])


def versioned(contents: Contents, file_name: str) -> list[tuple[str, Carried]]:
    """The graph as `file_name` with its weights in the first version; what else there is in `files/`."""
    graph, version = contents.network, f"models/{contents.name}/1"
    stem = Path(graph.file).stem
    placed = []
    for one in contents.files:
        if one.name == graph.file:
            placed.append((f"{version}/{file_name}", one))
        elif one.kind == "model":
            name = "model.bin" if graph.file.endswith(".xml") and one.name == f"{stem}.bin" else one.name
            placed.append((f"{version}/{name}", one))
        else:
            placed.append((f"files/{one.name}", one))
    return placed


def default_name(contents: Contents) -> str:
    """What servers look for when nobody tells them a name; OpenVINO reads ONNX, too."""
    return "model.xml" if contents.network.file.endswith(".xml") else "model.onnx"


def _file_name(contents: Contents) -> str:
    """The graph's own name where its weights have the usual one: the graph names them, so they cannot be renamed."""
    usual, own = default_name(contents), contents.network.file
    is_taken = any(one.kind == "model" and one.name == usual for one in contents.files)
    return own if is_taken else usual


def config_pbtxt(contents: Contents) -> str:
    """The configuration of a model, in protobuf's text form.

    With a batch as the first axis of everything, which was seen in a run, that axis is left out of `dims` and the
    server joins requests.

    Raises:
        Unsupported: an element type that Triton has not.
    """
    graph = contents.network
    lines = [
        f'name: "{contents.name}"',
        f'backend: "{graph.runtime}"',
        f"max_batch_size: {_BATCH if graph.is_batched else 0}",
        f"default_model_filename: {pbtxt(_file_name(contents))}",
    ]
    lines += [_tensor("input", port, is_batched=graph.is_batched, where=contents.reference) for port in graph.inputs]
    lines += [_tensor("output", port, is_batched=graph.is_batched, where=contents.reference) for port in graph.outputs]
    lines.append("instance_group [ { kind: KIND_CPU count: 1 } ]")
    if graph.is_batched:
        lines.append("dynamic_batching { }")
    return "\n".join(lines) + "\n"


def _tensor(kind: str, port: Port, *, is_batched: bool, where: str) -> str:
    if port.dtype not in _TYPES:
        raise Unsupported(
            f"Triton has no tensors of {port.dtype}, as {kind} {port.name!r} is", where=where, hint="--as plain"
        )
    shape = [extent if isinstance(extent, int) else -1 for extent in port.shape or ()]
    dims = shape[1:] if is_batched else shape
    # an element a row, or one number: Triton wants a dimension, and takes it away again
    reshape = "" if dims else " reshape { shape: [ ] }"
    told = ", ".join(map(str, dims or [1]))
    return f"{kind} [ {{ name: {pbtxt(port.name)} data_type: {_TYPES[port.dtype]} dims: [ {told} ]{reshape} }} ]"
