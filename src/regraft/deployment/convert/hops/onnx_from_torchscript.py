"""ONNX from TorchScript, by torch's older exporter: the newer one follows eager networks alone."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from regraft.deployment.convert.interface import Hop, Source
from regraft.deployment.convert.obstacles import missing
from regraft.deployment.convert.proving import prove_graph
from regraft.errors import Unsupported

if TYPE_CHECKING:
    from regraft.runtime.interface import Feeds
    from regraft.runtime.torch_script import TorchScriptModel

_OPSET = 18


class OnnxFromTorchScript:
    """Converts programs whose operators the older exporter knows; branches and loops stay."""

    name = "onnx_from_torchscript"
    source = "torchscript"
    target = "onnx"
    cost = 4

    def obstacle(self) -> str:
        """PyTorch and onnx must be installed."""
        return missing("torch", extra="torch") or missing("onnx", extra="onnx")

    def convert(self, source: Source) -> Hop:
        """Export the program; a dimension in which the examples differ stays free, which is proven by running them.

        Raises:
            Unsupported: torch cannot export it, its message names the operator; or the graph does not run at the
                sizes of the examples.
        """
        import torch

        from regraft.runtime.torch_script import TorchScriptModel

        model = source.loaded()
        if not isinstance(model, TorchScriptModel):
            raise Unsupported(f"a {type(model).__name__} is no TorchScript", where=source.where)
        content = _exported(model, source.feeds)
        prove_graph(content, model, source.feeds)
        return Hop({"model.onnx": content}, "onnxruntime", (f"opset {_OPSET}",), {"torch": str(torch.__version__)})


def _exported(model: TorchScriptModel, examples: Sequence[Feeds]) -> bytes:
    import torch

    from regraft.runtime.torch_tensors import tensor_from_array

    ports = model.signature.inputs
    feeds = examples[0]
    arguments = [
        feeds[port.name].item() if port.shape == () else tensor_from_array(feeds[port.name], port.dtype)
        for port in ports
    ]
    exporter: Any = torch.onnx.export
    content = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch advises its newer exporter
            exporter(
                model.module,
                tuple(arguments),
                content,
                dynamo=False,
                opset_version=_OPSET,
                input_names=[port.name for port in ports],
                output_names=[name.replace(".", "_") for name in model(feeds)],
                dynamic_axes={port.name: _free_axes(port.name, examples) for port in ports if port.shape != ()},
            )
    except Exception as error:
        said = " ".join(str(error).split())[:300]
        raise Unsupported(f"torch cannot export the program: {said}", where=model.where) from error
    return content.getvalue()


def _free_axes(name: str, examples: Sequence[Feeds]) -> dict[int, str]:
    """A program does not say its shapes: what differs between the examples is free."""
    shapes = [feeds[name].shape for feeds in examples]
    return {axis: f"{name}_{axis}" for axis in range(len(shapes[0])) if len({shape[axis] for shape in shapes}) > 1}
