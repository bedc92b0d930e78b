"""An exported program from TorchScript: what the program does with given inputs, at their sizes."""

from __future__ import annotations

import io
import warnings

from regraft.deployment.convert.interface import Hop, Source
from regraft.deployment.convert.obstacles import missing
from regraft.deployment.convert.proving import prove
from regraft.errors import Unsupported
from regraft.package.formats import Port


class TorchExportFromTorchScript:
    """Follows programs through one pass: branches and loops as sizes and lone numbers decide them, values must not."""

    name = "torch_export_from_torchscript"
    source = "torchscript"
    target = "torch-export"
    cost = 5

    def obstacle(self) -> str:
        """PyTorch must be installed."""
        return missing("torch", extra="torch")

    def convert(self, source: Source) -> Hop:
        """Follow the first example. Its sizes are fixed: nothing tells which numbers in a pass came from them.

        A lone number, such as a sampling rate, is a setting, and the product has no input for it.

        Raises:
            Unsupported: a value decides a branch, or torch cannot follow the program otherwise.
        """
        import torch

        from regraft.runtime.torch_export import TorchExportModel, exported
        from regraft.runtime.torch_program import program_bytes
        from regraft.runtime.torch_script import TorchScriptModel
        from regraft.runtime.torch_unrolled import unrolled

        model = source.loaded()
        if not isinstance(model, TorchScriptModel):
            raise Unsupported(f"a {type(model).__name__} is no TorchScript", where=source.where)
        feeds = source.feeds[0]
        followed = unrolled(model, feeds)
        ports = [Port(port.name, port.dtype, feeds[port.name].shape) for port in followed.signature.inputs]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fixed = TorchExportModel(followed.graph, inputs=ports, where=model.where)
            content = program_bytes(exported(fixed, feeds))
            product = TorchExportModel.from_program(torch.export.load(io.BytesIO(content)), where=model.where)
        prove(product, model, source.feeds, {port.name: port.name for port in model.signature.inputs})
        sizes = [f"{port.name} {tuple(feeds[port.name].shape)}" for port in ports]
        settings = [f"{port.name} = {feeds[port.name].item()}" for port in model.signature.inputs if port.shape == ()]
        note = f"what the program does when it starts, at {', '.join([*sizes, *settings])}"
        versions = {"torch": str(torch.__version__)}
        return Hop({"model.pt2": content}, "torch", (note,), versions, precision=None, is_one_size=True)
