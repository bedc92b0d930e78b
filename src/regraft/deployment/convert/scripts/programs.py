"""What the scripts that start from an exported program of torch share; runs in the environment `mobile`."""

import torch

from regraft.runtime.torch_tensors import named_tensors


def loaded(path):
    """The program of a `.pt2` that holds neither a pickle nor example inputs, and whose sizes are all fixed."""
    return torch.export.load(path)


def inputs_of(program):
    """Input → a tensor of zeros, which is a legal token, too."""
    found = {}
    for node in program.graph.nodes:
        if node.name in program.graph_signature.user_inputs:
            found[node.name] = torch.zeros(tuple(node.meta["val"].shape), dtype=node.meta["val"].dtype)
    return found


def outputs_of(program, inputs):
    """Output → tensor, under the names that Regraft gives whatever a network returns."""
    with torch.no_grad():
        return dict(named_tensors(program.module(check_guards=False)(**inputs)))


class Named(torch.nn.Module):
    """A program that returns its tensors by name, whatever structure they stand in."""

    def __init__(self, program):
        super().__init__()
        self.network = program.module(check_guards=False)

    def forward(self, **inputs):
        return dict(named_tensors(self.network(**inputs)))
