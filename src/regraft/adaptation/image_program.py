"""An image network of anybody's code as a program that runs without that code, up to the features of a tap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from regraft.errors import Unsupported
from regraft.package.formats import Port
from regraft.runtime.pipeline import PIXELS
from regraft.runtime.torch_module import TorchModel

if TYPE_CHECKING:
    import torch
    from torch import nn

    from regraft.runtime.image import ImagePreprocessing
    from regraft.runtime.interface import Model

_EXAMPLES = 2
"""Rows of the pass that is followed; torch takes a batch of one for a constant."""


def image_program(model: Model, preprocessing: ImagePreprocessing, *, tap: str | None) -> bytes:
    """Export a network from pixels to features (B, D), with any batch; what only later outputs need is left out.

    Args:
        model: an eager torch network; its first input takes the pixels.
        preprocessing: gives the size of the pictures.
        tap: which intermediate tensor is the feature; None for the first output.
    Returns:
        a `.pt2` archive; the same network gives the same bytes.
    Raises:
        Unsupported: it is no torch network, has other inputs, or torch.export cannot follow it.
    """
    from regraft.runtime.torch_export import TorchExportModel, exported
    from regraft.runtime.torch_program import plain_module, program_bytes

    if not isinstance(model, TorchModel):
        raise Unsupported(
            f"a network in {model.runtime} is not written again; only its features can be compared",
            where=model.where,
            hint="adapt the package of the torch weights",
        )
    if len(model.signature.inputs) != 1:
        raise Unsupported(f"a network of {len(model.signature.inputs)} inputs is not adapted", where=model.where)
    pixels = preprocessing(_pictures(preprocessing))
    port = Port(PIXELS, model.signature.inputs[0].dtype, ("batch", *pixels.shape[1:]))
    featured = TorchModel(_featured()(model.module, tap), inputs=[port], where=model.where)
    program = exported(featured, {PIXELS: pixels})
    graph = TorchExportModel.from_program(program, where=model.where)
    lean = _without_unused(plain_module(graph))
    if len(lean.state_dict()) < len(program.state_dict):
        program = exported(TorchModel(lean, inputs=[port], where=model.where), {PIXELS: pixels})
    return program_bytes(program)


def _pictures(preprocessing: ImagePreprocessing) -> list[Any]:
    import numpy as np

    return list(np.zeros((_EXAMPLES, preprocessing.height, preprocessing.width, 3), dtype=np.uint8))


def _featured() -> type[nn.Module]:
    """The class around a network whose output are the features alone; it exists once torch does."""
    from torch import nn

    class Featured(nn.Module):
        """What a network puts out first, or what one of its modules returns, flattened to (B, D)."""

        def __init__(self, network: nn.Module, tap: str | None) -> None:
            super().__init__()
            self.network = network
            self._tap = tap

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return _features(self.network, self._tap, pixels).flatten(1)  # (B, D)

    return Featured


def _features(network: nn.Module, tap: str | None, pixels: torch.Tensor) -> torch.Tensor:
    """As `ImageEncoder` finds them, so that both see the same tensor."""
    from regraft.runtime.torch_tensors import named_tensors

    if tap is None:
        return next(named_tensors(network(pixels)))[1]
    scope, _, count = tap.partition(":")
    modules = dict(network.named_modules())
    if scope not in modules:
        raise Unsupported(f"only what a module returns is exported, and {tap!r} names no module", where="tap")
    seen: list[Any] = []
    handle = modules[scope].register_forward_hook(lambda _, __, result: seen.append(result))
    try:
        network(pixels)
    finally:
        handle.remove()
    return next(named_tensors(seen[int(count or 0)]))[1]


def _without_unused(module: torch.fx.GraphModule) -> nn.Module:
    """The same graph without operators and weights that its output does not need."""
    import torch

    module.graph.eliminate_dead_code()
    return torch.fx.GraphModule(module, module.graph)  # copies what the graph names, and nothing else
