"""An exported program of torch from ONNX, by a table of operators; symbolic sizes are proven by running them."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from regraft.deployment.convert.interface import Hop, Source
from regraft.deployment.convert.obstacles import missing
from regraft.deployment.convert.proving import prove
from regraft.errors import Unsupported
from regraft.package.formats import Port

if TYPE_CHECKING:
    import onnx
    import torch
    from torch.export import ExportedProgram

    from regraft.deployment.convert.operators.network import OnnxNetwork
    from regraft.runtime.interface import Feeds, Model

_COPIES = ("aten.lift_fresh_copy.default", "aten.lift_fresh.default", "aten.detach_.default", "aten.detach.default")
"""What torch.export writes around a constant: copies against changes in place, of which there are none."""
_FACTORS = (2, 4, 16)
"""By which an example grows when torch refuses it as too small."""


class TorchExportFromOnnx:
    """Converts ONNX graphs whose operators have a mapping."""

    name = "torch_export_from_onnx"
    source = "onnx"
    target = "torch-export"
    cost = 2

    def obstacle(self) -> str:
        """PyTorch and onnx must be installed."""
        return missing("torch", extra="torch") or missing("onnx", extra="onnx")

    def convert(self, source: Source) -> Hop:
        """Walk the graph on torch tensors, export the walk, and run the program at every size of the examples.

        Raises:
            Unsupported: operators without a mapping, all named with where they stand; control flow that data decides;
                a size that the program fixes.
        """
        import torch

        from regraft.runtime.onnxruntime_model import OnnxRuntimeModel
        from regraft.runtime.torch_export import TorchExportModel
        from regraft.runtime.torch_program import program_bytes

        model = source.loaded()
        if not isinstance(model, OnnxRuntimeModel):
            raise Unsupported("only ONNX graphs are converted by this", where=source.where)
        network = network_from_onnx(model.proto, where=model.where)
        feeds, notes = _walked(network, model, source.feeds)
        program = _exported(network, model.signature.inputs, feeds[0])
        content = program_bytes(program)
        product = TorchExportModel.from_program(torch.export.load(io.BytesIO(content)), where=model.where)
        names = {original: argument for argument, original in network.arguments.items()}
        prove(product, model, feeds, names)
        notes += [f"input {old} is called {new}" for old, new in names.items() if old != new]
        return Hop({"model.pt2": content}, "torch", tuple(notes), {"torch": str(torch.__version__)}, precision=None)


def network_from_onnx(proto: onnx.ModelProto, *, where: str) -> OnnxNetwork:
    """The graph as a module. Functions are inlined, also those by which ONNX itself defines an operator.

    Raises:
        Unsupported: operators have no mapping; all are named.
    """
    from onnx import inliner

    from regraft.deployment.convert.operators import rows
    from regraft.deployment.convert.operators.network import OnnxNetwork

    table = rows()
    plain = inliner.inline_local_functions(proto) if proto.functions else proto
    defined = _defined_by_functions(plain, table)
    if defined:
        plain = inliner.inline_selected_functions(plain, defined, inline_schema_functions=True)
    return OnnxNetwork(plain, table, where=where).eval()


def _defined_by_functions(proto: onnx.ModelProto, table: Any) -> list[tuple[str, str]]:
    """Operators without a row that ONNX defines by others."""
    from onnx import defs

    from regraft.deployment.convert.operators.network import graphs_of

    opsets = {entry.domain: entry.version for entry in proto.opset_import}
    found = set()
    for graph in graphs_of(proto.graph):
        for node in graph.node:
            key = node.domain, node.op_type
            version = opsets.get(node.domain, 1)
            if key not in table and defs.has(node.op_type, version, node.domain):
                schema: Any = defs.get_schema(node.op_type, version, node.domain)
                if schema.has_function or schema.has_context_dependent_function:
                    found.add(key)
    return sorted(found)


def _walked(network: OnnxNetwork, model: Model, examples: Sequence[Feeds]) -> tuple[list[Feeds], list[str]]:
    """The examples that the network runs on, one with every symbolic size above 1 first, and a note about the others.

    ONNX runtimes compute with windows that are larger than the image, which gives nothing; torch refuses them.

    Raises:
        Unsupported: it runs on none of them; as for the first.
    """
    feeds: list[Feeds] = []
    refused: list[tuple[Feeds, Unsupported]] = []
    for example in examples:
        error = _refusal(network, model, example)
        if error is None:
            feeds.append(example)
        else:
            refused.append((example, error))
    feeds.sort(key=lambda example: not _is_general(model, example))
    if examples and not (feeds and _is_general(model, feeds[0])):
        grown = (_grown(model, examples[0], factor) for factor in _FACTORS)
        feeds[:0] = next(([example] for example in grown if _refusal(network, model, example) is None), [])
    if not feeds:
        raise refused[0][1] if refused else Unsupported("there are no inputs that it accepts", where=model.where)
    return feeds, [f"torch does not run it at {_shapes(example)}: {error.what}" for example, error in refused[:1]]


def _refusal(network: OnnxNetwork, model: Model, feeds: Feeds) -> Unsupported | None:
    import torch

    try:
        model(feeds)
        with torch.inference_mode():
            network(**_tensors(network, model.signature.inputs, feeds))
    except Unsupported as error:
        return error
    return None


def _symbolic(model: Model, feeds: Feeds) -> dict[str, list[int]]:
    """Input → its axes without a fixed size."""
    found = {}
    for port in model.signature.inputs:
        extents = port.shape if port.shape is not None else (None,) * feeds[port.name].ndim
        found[port.name] = [axis for axis, extent in enumerate(extents) if not isinstance(extent, int)]
    return found


def _is_general(model: Model, feeds: Feeds) -> bool:
    """torch.export fixes sizes that are 0 or 1 in the example."""
    return all(feeds[name].shape[axis] > 1 for name, axes in _symbolic(model, feeds).items() for axis in axes)


def _grown(model: Model, feeds: Feeds, factor: int) -> Feeds:
    """The same values repeated along every axis without a fixed size."""
    import numpy as np

    grown = {}
    for name, axes in _symbolic(model, feeds).items():
        grown[name] = np.tile(feeds[name], [factor if axis in axes else 1 for axis in range(feeds[name].ndim)])
    return grown


def _shapes(feeds: Feeds) -> str:
    return ", ".join(f"{name} {value.shape}" for name, value in feeds.items())


def _tensors(network: OnnxNetwork, ports: Sequence[Port], feeds: Feeds) -> dict[str, torch.Tensor]:
    from regraft.runtime.torch_tensors import tensor_from_array

    declared = {port.name: port.dtype for port in ports}
    return {argument: tensor_from_array(feeds[name], declared[name]) for argument, name in network.arguments.items()}


def _exported(network: OnnxNetwork, ports: Sequence[Port], feeds: Feeds) -> ExportedProgram:
    """The walk as a program."""
    import torch

    from regraft.runtime.torch_recurrent import symbolic_steps

    declared = {port.name: port.shape for port in ports}
    tensors = _tensors(network, ports, feeds)
    shapes = {}
    for argument, name in network.arguments.items():
        extents = declared[name]
        if extents is None:
            extents = (None,) * tensors[argument].ndim
        shapes[argument] = {i: torch.export.Dim.AUTO for i, extent in enumerate(extents) if not isinstance(extent, int)}
    with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad(), symbolic_steps():
        warnings.simplefilter("ignore")
        try:
            program: ExportedProgram = torch.export.export(network, (), tensors, dynamic_shapes=shapes)
        except Unsupported:
            raise
        except Exception as error:
            text = " ".join(str(error).split())[:500]
            raise Unsupported(f"torch.export cannot follow the graph: {text}", where=network.where) from error
    _drop_copies(program)
    return program


def _drop_copies(program: ExportedProgram) -> None:
    graph = program.graph_module.graph
    for node in list(graph.nodes):
        if node.op == "call_function" and str(node.target) in _COPIES:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
    program.graph_module.recompile()
