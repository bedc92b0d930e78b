"""torch: exported programs as files that hold no pickle, and as parts of other networks."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

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
    content = io.BytesIO()
    torch.export.save(program, content)
    return content.getvalue()
