"""ONNX from torch, through torch.export: batch and length stay symbolic, which is proven by running them."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.compare.recall import recalled
from regraft.deployment.convert.interface import Hop, Source
from regraft.deployment.convert.obstacles import missing
from regraft.deployment.convert.proving import prove_graph
from regraft.errors import MissingExtra, Unsupported

if TYPE_CHECKING:
    import onnx
    from torch.export import ExportedProgram

    from regraft.runtime.interface import Feeds, Model

_REVEALING = ("pkg.torch.onnx.stack_trace", "pkg.torch.onnx.fx_node", "pkg.torch.onnx.original_node_name")
"""Metadata of the exporter that holds paths of this machine, or repeats what the names say."""
_MAX_BYTES = (1 << 31) - 1


class OnnxFromTorch:
    """Exports through torch.export, with every dimension that has a name left dynamic."""

    name = "onnx_from_torch"
    source = "torch"
    target = "onnx"
    cost = 3

    def obstacle(self) -> str:
        """PyTorch, onnx and onnxscript must be installed."""
        return missing("torch", extra="torch") or missing("onnx", "onnxscript", extra="onnx")

    def convert(self, source: Source) -> Hop:
        """Export with every symbolic dimension of the signature dynamic, and check that they are.

        Raises:
            Unsupported: torch cannot export the network, or the graph does not run at other sizes.
            MissingExtra: onnx or onnxscript is not installed.
        """
        import torch

        model = source.loaded()
        onnx = _import_onnx(model.where)
        outputs = list(recalled(model, source.feeds[0]))
        program = _program(model, source.feeds[0])
        proto = _exported(program, outputs, model.where)
        _name_dimensions(proto, model)
        for node in _nodes(proto.graph):
            _drop_metadata(node)
        if proto.ByteSize() > _MAX_BYTES:
            raise Unsupported(f"the graph has {proto.ByteSize()} bytes; 2 GiB is the most", where=model.where)
        content = proto.SerializeToString()
        prove_graph(content, model, source.feeds)
        opset = max((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), default=0)
        return Hop(
            {"model.onnx": content},
            "onnxruntime",
            (f"opset {opset}",),
            {"torch": str(torch.__version__), "onnx": str(onnx.__version__)},
        )


def _import_onnx(where: str) -> Any:
    try:
        import onnx
        import onnxscript  # noqa: F401  the exporter needs it
    except ImportError as error:
        raise MissingExtra(str(error.name or "onnx"), extra="onnx", where=where) from error
    return onnx


def _program(model: Model, feeds: Feeds) -> ExportedProgram:
    from regraft.runtime.torch_export import TorchExportModel, exported
    from regraft.runtime.torch_module import TorchModel

    if not isinstance(model, TorchModel | TorchExportModel):
        raise Unsupported(
            f"torch.export cannot follow a {type(model).__name__}: it is no eager module",
            where=model.where,
            hint="start from the network's weights and code: factory='module:function'",
        )
    with _quiet():
        return exported(model, feeds)


def _exported(program: ExportedProgram, outputs: Sequence[str], where: str) -> onnx.ModelProto:
    """The ModelProto; weights pass through a file in a folder that is gone afterwards."""
    import onnx
    import torch

    names = [name.replace(".", "_") for name in outputs]
    try:
        with _quiet():
            made = torch.onnx.export(program, dynamo=True, verbose=False, output_names=names)
    except Exception as error:  # the exporter wraps whatever went wrong inside of it
        raise Unsupported(f"torch.onnx cannot export the network: {_first_lines(error)}", where=where) from error
    assert made is not None
    with tempfile.TemporaryDirectory(prefix="regraft-") as folder:
        path = Path(folder) / "model.onnx"
        made.save(path)
        return onnx.load(str(path))


def _name_dimensions(proto: onnx.ModelProto, model: Model) -> None:
    """Symbols of the exporter (`s18`) become the names that the signature gives (`batch`)."""
    names: dict[str, str] = {}
    declared = {port.name: port.shape for port in model.signature.inputs}
    for value in proto.graph.input:
        shape = declared.get(value.name) or ()
        for dimension, extent in zip(value.type.tensor_type.shape.dim, shape, strict=False):
            if dimension.dim_param and isinstance(extent, str):
                names.setdefault(dimension.dim_param, extent)
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param in names:
                dimension.dim_param = names[dimension.dim_param]


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g)


def _drop_metadata(node: onnx.NodeProto) -> None:
    kept = [(entry.key, entry.value) for entry in node.metadata_props if entry.key not in _REVEALING]
    del node.metadata_props[:]
    for key, value in kept:
        node.metadata_props.add(key=key, value=value)
    node.doc_string = ""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No chatter of the exporter on stderr or stdout, which are ours."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    registration = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registration.level
    registration.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
        registration.setLevel(level)


def _first_lines(error: Exception) -> str:
    cause = error.__cause__ or error
    return " ".join(str(cause).split())[:500]
