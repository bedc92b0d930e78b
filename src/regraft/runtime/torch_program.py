"""torch: exported programs as files that hold no pickle, and as parts of other networks."""

from __future__ import annotations

import io
import operator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram

    from regraft.runtime.torch_export import TorchExportModel

_REVEALING = ("stack_trace", "from_node", "torch_fn", "source_fn_stack")
"""Metadata of a node that holds paths of this machine, or that nobody reads again."""


def plain_module(model: TorchExportModel) -> torch.fx.GraphModule:
    """The graph as a module that can be a part of another one, and copied: tensors in, a sequence of tensors out.

    What `ExportedProgram.module()` returns refuses `eval` and warns of itself when it is copied. What its graph does
    not name is left out.
    """
    import torch

    graph = torch.fx.Graph()
    graph.output(graph.graph_copy(model.graph.graph, {}))
    return torch.fx.GraphModule(model.graph, graph)


def program_bytes(program: ExportedProgram) -> bytes:
    """A program as a `.pt2` archive without example inputs, which are a pickle, and without traces of the machine.

    The same program gives the same bytes.
    """
    import torch

    program._example_inputs = None  # there is no public way to leave them out
    for node in program.graph.nodes:
        for key in _REVEALING:
            node.meta.pop(key, None)
    _spell_sums(program.graph_module)
    content = io.BytesIO()
    torch.export.save(program, content)
    return content.getvalue()


def _spell_sums(module: torch.fx.GraphModule) -> None:
    """Sums of sizes as additions: torch 2.13 has them as `sym_sum` here and there, which it cannot write down."""
    import torch

    def value(item: Any) -> Any:
        return item.meta["val"] if isinstance(item, torch.fx.Node) else item

    for part in module.modules():  # with the branches of the program
        if not isinstance(part, torch.fx.GraphModule):
            continue
        for node in [one for one in part.graph.nodes if one.target is torch.sym_sum]:
            total, *rest = node.args[0]
            with part.graph.inserting_before(node):
                for item in rest:
                    added = part.graph.call_function(operator.add, (total, item))
                    added.meta["val"] = value(total) + value(item)
                    total = added
            node.replace_all_uses_with(total)
            part.graph.erase_node(node)
        part.recompile()
