"""Single ONNX operators in torch, through the table of operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from regraft.errors import Unsupported

if TYPE_CHECKING:
    from regraft.runtime.interface import Array, Feeds


def in_torch(content: bytes, _: str) -> Callable[[Feeds], dict[str, Array]]:
    """An operator as torch computes it on one thread of the processor; for `runtime.operator_process`.

    Args:
        content: an ONNX model.
    Raises:
        Unsupported: the table has no row for it.
    """
    import torch

    from regraft.deployment.convert.hops.torch_export_from_onnx import network_from_onnx
    from regraft.runtime.onnx_proto import proto_from_bytes
    from regraft.runtime.torch_tensors import array_from_tensor, tensor_from_array

    network = network_from_onnx(proto_from_bytes(content), where="")
    torch.set_num_threads(1)

    def run(feeds: Feeds) -> dict[str, Array]:
        tensors = [tensor_from_array(feeds[name], str(feeds[name].dtype)) for name in network.arguments.values()]
        with torch.inference_mode():
            try:
                made = network(*tensors)
            except RuntimeError as error:
                raise Unsupported(f"torch stopped: {str(error).strip()[:300]}") from error
        return {name: array_from_tensor(tensor) for name, tensor in made.items()}

    return run
