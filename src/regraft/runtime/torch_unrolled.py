"""torch: what a TorchScript program does with given inputs, as a graph of operators without control flow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from regraft.errors import Unsupported
from regraft.runtime.torch_export import TorchExportModel
from regraft.runtime.torch_graph import WEIGHT_PATH
from regraft.runtime.torch_tensors import named_tensors

if TYPE_CHECKING:
    import torch

    from regraft.runtime.interface import Array, Feeds
    from regraft.runtime.torch_script import TorchScriptModel

_UNITS = 100.0
"""Units in the last place of the largest number by which graph and program may differ.

The kernels are the same, but may sum in another order: n terms then differ by about √n units, and n is some thousands.
Source: Higham, Accuracy and Stability of Numerical Algorithms, section 2.8.
"""


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
    _write_out(graph, model.where)
    _name(graph, model.module, names)
    ports = [model.as_given(port, feeds[port.name]) for port in model.signature.inputs if port.name in names]
    made = TorchExportModel(graph, inputs=ports, threads=model.threads, where=model.where)
    found = made({name: feeds[name] for name in names})
    if not _agree(list(found.values()), list(expected.values())):
        raise Unsupported("the program changes tensors in place that it uses again", where=model.where)
    return made


def _agree(found: Sequence[Array], expected: Sequence[Array]) -> bool:
    import numpy as np

    if [value.shape for value in found] != [value.shape for value in expected]:
        return False
    for ours, theirs in zip(found, expected, strict=True):
        finite = np.abs(theirs[np.isfinite(theirs)]) if theirs.dtype.kind in "fc" else np.zeros(0)
        limit = _UNITS * _unit(theirs) * float(finite.max()) if finite.size else 0.0
        if not np.allclose(ours, theirs, rtol=0.0, atol=limit, equal_nan=True):
            return False
    return True


def _unit(value: Array) -> float:
    import numpy as np

    kind: Any = value.dtype
    return float(np.finfo(kind).eps)


def _write_out(graph: torch.fx.GraphModule, where: str) -> None:
    """Operators that make a new tensor in place of those that change one; what nothing uses is dropped."""
    import torch

    for node in graph.graph.nodes:
        schema = getattr(node.target, "_schema", None)
        if schema is not None and schema.is_mutable and schema.name.endswith("_"):
            library, name = schema.name.split("::")
            try:
                plain = getattr(getattr(torch.ops, library), name.removesuffix("_"))
                node.target = getattr(plain, schema.overload_name or "default")
            except AttributeError as error:
                raise Unsupported(f"{schema.name} has no counterpart that makes a new tensor", where=where) from error
    graph.graph.eliminate_dead_code()


def _name(graph: torch.fx.GraphModule, module: torch.nn.Module, names: Sequence[str]) -> None:
    """Inputs by the program's names; for weights, these stand beside the tracer's, as a graph has no room for all.

    A graph is a module with attributes of its own, such as `code`, that a part of a program may be called like.
    """
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
                node.meta[WEIGHT_PATH] = path
    graph.requires_grad_(False)
    graph.recompile()
