"""An exported program of torch from an eager network; symbolic sizes are proven by running them."""

from __future__ import annotations

import io
import warnings

from regraft.deployment.convert.interface import Hop, Source
from regraft.deployment.convert.obstacles import missing
from regraft.deployment.convert.proving import prove
from regraft.errors import Unsupported


class TorchExportFromTorch:
    """Exports eager networks."""

    name = "torch_export_from_torch"
    source = "torch"
    target = "torch-export"
    cost = 3

    def obstacle(self) -> str:
        """PyTorch must be installed."""
        return missing("torch", extra="torch")

    def convert(self, source: Source) -> Hop:
        """Export with every symbolic dimension of the signature dynamic, and check that they are.

        Raises:
            Unsupported: torch.export cannot follow the network, or the program does not run at other sizes.
        """
        import torch

        from regraft.runtime.torch_export import TorchExportModel, exported
        from regraft.runtime.torch_module import TorchModel
        from regraft.runtime.torch_program import program_bytes

        model = source.loaded()
        if not isinstance(model, TorchModel):
            raise Unsupported(
                f"torch.export cannot follow a {type(model).__name__}: it is no eager module",
                where=model.where,
                hint="start from the network's weights and code: factory='module:function'",
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = program_bytes(exported(model, source.feeds[0]))
            product = TorchExportModel.from_program(torch.export.load(io.BytesIO(content)), where=model.where)
        prove(product, model, source.feeds, {port.name: port.name for port in model.signature.inputs})
        return Hop({"model.pt2": content}, "torch", versions={"torch": str(torch.__version__)}, precision=None)
