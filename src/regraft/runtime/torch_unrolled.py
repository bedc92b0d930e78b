"""torch: what a TorchScript program does with given inputs, as a graph of operators without control flow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from regraft.errors import Unsupported
from regraft.runtime.torch_export import TorchExportModel
from regraft.runtime.torch_tensors import named_tensors

if TYPE_CHECKING:
    import torch

    from regraft.runtime.interface import Feeds
    from regraft.runtime.torch_script import TorchScriptModel


def unrolled(model: TorchScriptModel, feeds: Feeds) -> TorchExportModel:
    """The operators that torch dispatches in one pass; branches and loops are gone through as these feeds do it.

    Args:
        model: started anew, as for every pass.
        feeds: inputs that it accepts. Lone numbers are settings: the graph has no input for them.
    Returns:
        the graph, for inputs of these shapes; weights have the names that the program gives them.
    Raises:
        Unsupported: torch cannot follow the program.
    """
    import numpy as np
    import torch
    from torch.fx.experimental.proxy_tensor import make_fx

    arguments = model.arguments(feeds)
    names = [name for name, value in arguments.items() if hasattr(value, "dtype")]

    def passed(*tensors: torch.Tensor) -> list[torch.Tensor]:
        given = {**arguments, **dict(zip(names, tensors, strict=True))}
        return [tensor for _, tensor in named_tensors(model.started(list(given.values())))]

    expected = model(feeds)
    try:
        optimised: Any = torch.jit.optimized_execution  # type: ignore[attr-defined]
        with optimised(False):
            passed(*(arguments[name] for name in names))  # the interpreter compares constants when it starts
            graph = make_fx(passed)(*(arguments[name] for name in names))
    except Exception as error:  # a program raises what it likes
        raise Unsupported(f"torch cannot follow the program: {str(error).strip()[:300]}", where=model.where) from error
    _write_out(graph)
    _name(graph, model.module, names)
    ports = [port for port in model.signature.inputs if port.name in names]
    made = TorchExportModel(graph, inputs=ports, threads=model.threads, where=model.where)
    found = made({name: feeds[name] for name in names})
    if not all(np.allclose(a, b, equal_nan=True) for a, b in zip(found.values(), expected.values(), strict=True)):
        raise Unsupported("the program changes tensors in place that it uses again", where=model.where)
    return made


def _write_out(graph: torch.fx.GraphModule) -> None:
    """Operators that make a new tensor in place of those that change one; what nothing uses is dropped."""
    import torch

    for node in graph.graph.nodes:
        schema = getattr(node.target, "_schema", None)
        if schema is not None and schema.is_mutable and schema.name.endswith("_"):
            plain = getattr(torch.ops.aten, schema.name.removeprefix("aten::").removesuffix("_"))
            node.target = getattr(plain, schema.overload_name or "default")
    graph.graph.eliminate_dead_code()


def _name(graph: torch.fx.GraphModule, module: torch.nn.Module, names: Sequence[str]) -> None:
    """Inputs and weights by the program's names in place of the tracer's numbers."""
    named = [*module.named_parameters(), *module.named_buffers()]
    paths = {value.data_ptr(): name for name, value in reversed(named) if value.numel()}
    waiting = iter(names)
    for node in graph.graph.nodes:
        if node.op == "placeholder":
            node.target = next(waiting)
        elif node.op == "get_attr":
            value = getattr(graph, str(node.target))
            path = paths.get(value.data_ptr()) if value.numel() else None
            if path is not None:
                _put(graph, path, value)
                node.target = path
    graph.recompile()


def _put(root: torch.nn.Module, path: str, value: Any) -> None:
    import torch

    *parents, name = path.split(".")
    for part in parents:
        if not hasattr(root, part):
            root.add_module(part, torch.nn.Module())
        root = getattr(root, part)
    if not hasattr(root, name):
        root.register_parameter(name, torch.nn.Parameter(value.detach(), requires_grad=False))
