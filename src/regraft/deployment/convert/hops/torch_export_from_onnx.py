"""An exported program of torch from ONNX, by a table of operators; symbolic sizes are proven by running them."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from regraft.deployment.convert.interface import Hop, Source
from regraft.deployment.convert.obstacles import missing
from regraft.deployment.convert.proving import prove
from regraft.errors import BadFeeds, Unsupported
from regraft.package.formats import Port

if TYPE_CHECKING:
    import onnx
    import torch
    from torch.export import ExportedProgram

    from regraft.deployment.convert.operators.network import OnnxNetwork
    from regraft.runtime.interface import Feeds, Model
    from regraft.runtime.torch_export import TorchExportModel

_COPIES = ("aten.lift_fresh_copy.default", "aten.lift_fresh.default", "aten.detach_.default", "aten.detach.default")
"""What torch.export writes around a constant: copies against changes in place, of which there are none."""
_ROOMY = 64
"""Elements along an axis from which on what is halved five times is still more than one."""
_MOST_ELEMENTS = 1 << 19
"""Of an example that was made larger."""


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

        model = source.loaded()
        if not isinstance(model, OnnxRuntimeModel):
            raise Unsupported("only ONNX graphs are converted by this", where=source.where)
        network = network_from_onnx(model.proto, where=model.where)
        feeds, notes = _walked(network, model, source.feeds)
        content, product = _program(network, model, feeds)
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
    """The examples that the network runs on, the most general first, and a note about those that it refuses.

    Raises:
        Unsupported: it runs on none of them; as for the first.
    """
    if not examples:
        raise Unsupported("there are no inputs that it accepts", where=model.where, hint="give some: --feeds FILE")
    refusals = [_refusal(network, model, example) for example in examples]
    feeds = [example for example, error in zip(examples, refusals, strict=True) if error is None]
    refused = [(example, error) for example, error in zip(examples, refusals, strict=True) if error is not None]
    if not feeds:
        raise refused[0][1]
    feeds.sort(key=lambda example: not _is_general(model, example))
    return feeds, [f"torch does not run it at {_shapes(example)}: {error.what}" for example, error in refused[:1]]


def _larger(network: OnnxNetwork, model: Model, example: Feeds) -> list[Feeds]:
    """The example grown, where that is worth while and source and network take it."""
    for keeps_batch in (True, False):
        grown = _grown(model, example, keeps_batch=keeps_batch)
        if grown is None:
            return []
        if _refusal(network, model, grown) is None:
            return [grown]
    return []


def _program(network: OnnxNetwork, model: Model, feeds: Sequence[Feeds]) -> tuple[bytes, TorchExportModel]:
    """Export at a larger example, else at the first of the others, else at one that those programs refuse.

    Sizes decide branches of some graphs, so that one example can be another network than the next. The program that
    runs at most of them is kept.

    Raises:
        Unsupported: as the first export that failed.
    """
    best: tuple[int, bytes, TorchExportModel] | None = None
    error: Unsupported | None = None
    waiting = _both_ways([*_larger(network, model, feeds[0]), feeds[0]])
    others = list(feeds[1:])
    while waiting:
        example, sees_ones = waiting.pop(0)
        try:
            program = _exported(network, model.signature.inputs, example, sees_ones=sees_ones)
            content, product = _written(program, model.where)
        except Unsupported as refused:
            error = error or refused
            continue
        missed = [one for one in feeds if not _runs(product, network, one)]
        if best is None or len(missed) < best[0]:
            best = len(missed), content, product
        if not missed:
            break
        if not waiting:
            waiting, others = _both_ways([one for one in others if any(one is other for other in missed)][:1]), []
    if best is None:
        assert error is not None
        raise error
    return best[1:]


def _both_ways(examples: Sequence[Feeds]) -> list[tuple[Feeds, bool]]:
    """Each example exported as usual, then without limits that only an inner size of 1 would set."""
    return [(example, sees_ones) for example in examples for sees_ones in (True, False)]


def _written(program: ExportedProgram, where: str) -> tuple[bytes, TorchExportModel]:
    """The program's file, and what is read from it.

    Raises:
        Unsupported: torch cannot write it down.
    """
    import torch
    from torch._export.serde.serialize import SerializeError

    from regraft.runtime.torch_export import TorchExportModel
    from regraft.runtime.torch_program import program_bytes

    try:
        content = program_bytes(program)
    except SerializeError as error:
        said = str(error).strip().splitlines()[-1][:300]
        raise Unsupported(f"torch cannot write the program down: {said}", where=where) from error
    return content, TorchExportModel.from_program(torch.export.load(io.BytesIO(content)), where=where)


def _runs(product: TorchExportModel, network: OnnxNetwork, feeds: Feeds) -> bool:
    try:
        product({argument: feeds[name] for argument, name in network.arguments.items()})
    except (Unsupported, BadFeeds):
        return False
    return True


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


def _grown(model: Model, feeds: Feeds, *, keeps_batch: bool) -> Feeds | None:
    """The same values repeated along the axes without a fixed size, all as often.

    torch.export also learns from inner sizes: one that is 1 in the example limits the inputs to those where it is.

    Args:
        model: whose signature names the axes.
        feeds: an example.
        keeps_batch: leave first axes, and those that are called like one, as they are where that is more than 1.
    Returns:
        None where the axes are long enough, or what comes out is too much.
    """
    import numpy as np

    extents = {port.name: port.shape or () for port in model.signature.inputs}
    batch = {shape[0] for shape in extents.values() if shape and isinstance(shape[0], str)}

    def grows(name: str, axis: int) -> bool:
        is_batch = axis == 0 or extents[name][axis : axis + 1] in {(one,) for one in batch}
        return not (keeps_batch and is_batch and feeds[name].shape[axis] > 1)

    axes = {name: [i for i in found if grows(name, i)] for name, found in _symbolic(model, feeds).items()}
    sizes = [feeds[name].shape[i] for name, found in axes.items() for i in found if feeds[name].shape[i]]
    factor = 1
    while sizes and min(sizes) * factor < _ROOMY:
        factor *= 2
    repeats = {name: [factor if i in axes[name] else 1 for i in range(value.ndim)] for name, value in feeds.items()}
    total = sum(value.size * int(np.prod(repeats[name])) for name, value in feeds.items())
    if factor == 1 or total > _MOST_ELEMENTS:
        return None
    return {name: np.tile(value, repeats[name]) for name, value in feeds.items()}


def _shapes(feeds: Feeds) -> str:
    return ", ".join(f"{name} {value.shape}" for name, value in feeds.items())


def _tensors(network: OnnxNetwork, ports: Sequence[Port], feeds: Feeds) -> dict[str, torch.Tensor]:
    from regraft.runtime.torch_tensors import tensor_from_array

    declared = {port.name: port.dtype for port in ports}
    return {argument: tensor_from_array(feeds[name], declared[name]) for argument, name in network.arguments.items()}


def _exported(network: OnnxNetwork, ports: Sequence[Port], feeds: Feeds, *, sees_ones: bool) -> ExportedProgram:
    """The walk as a program.

    torch.export limits the inputs to sizes at which no inner size is 1 where it is more in the example, so that it can
    tell how tensors lie in memory. With `sees_ones=False` it is told not to ask (torch 2.13, an experimental option);
    what comes out is proven by running it.
    """
    import torch
    from torch.fx.experimental import _config

    from regraft.runtime.torch_recurrent import symbolic_steps

    declared = {port.name: port.shape for port in ports}
    tensors = _tensors(network, ports, feeds)
    shapes = {}
    for argument, name in network.arguments.items():
        extents = declared[name]
        if extents is None:
            extents = (None,) * tensors[argument].ndim
        shapes[argument] = {i: torch.export.Dim.AUTO for i, extent in enumerate(extents) if not isinstance(extent, int)}
    settings: Any = _config
    with contextlib.ExitStack() as stack:
        for one in (warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad(), symbolic_steps()):
            stack.enter_context(one)
        stack.enter_context(settings.patch(backed_size_oblivious=not sees_ones))
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
