"""TensorFloat-32 on a processor: what a GPU makes of float32 in convolutions and products of matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from regraft.runtime.rounding import round_to
from regraft.runtime.torch_module import TorchModel

if TYPE_CHECKING:
    from regraft.runtime.interface import Feeds

_FACTORS: dict[str, tuple[int, ...]] = {
    "aten.convolution": (0, 1), "aten.mm": (0, 1), "aten.bmm": (0, 1), "aten.addmm": (1, 2), "aten.baddbmm": (1, 2),
    "aten.mkldnn_rnn_layer": (0, 1, 2), "aten._scaled_dot_product_flash_attention_for_cpu": (0, 1, 2),
    "aten._scaled_dot_product_attention_math": (0, 1, 2),
}  # fmt: skip
"""Operator → positions of what is multiplied."""


class TensorFloatModel(TorchModel):
    """An eager model whose factors are rounded to ten bits of mantissa before they are multiplied.

    Source: NVIDIA A100 Tensor Core GPU Architecture, section TensorFloat-32: products of numbers with ten bits of
    mantissa, accumulated in float32.

    Args:
        model: in float32; its module is shared.
    """

    def __init__(self, model: TorchModel) -> None:
        own = model.signature
        super().__init__(model.module, inputs=own.inputs, ranges=own.ranges, where=model.where)
        self._threads = model._threads
        self._source = model

    @property
    def effective_precision(self) -> str:
        """Always `tensorfloat32`."""
        return "tensorfloat32"

    def cast(self, dtype: str) -> TorchModel:
        """The network in another precision."""
        return self._source.cast(dtype)

    def _forward(self, feeds: Feeds) -> Any:
        with _RoundedFactors():  # type: ignore[no-untyped-call]
            return super()._forward(feeds)


class _RoundedFactors(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with self:
            parts = function.decompose(*args, **(kwargs or {}))  # what is made of other operators
        if parts is not NotImplemented:
            return parts
        places = _FACTORS.get(str(function.overloadpacket), ())
        rounded = [_rounded(value) if place in places else value for place, value in enumerate(args)]
        return function(*rounded, **(kwargs or {}))


def _rounded(value: torch.Tensor) -> torch.Tensor:
    if value.dtype is not torch.float32:
        return value
    return torch.from_numpy(round_to(value.detach().numpy(), "tensorfloat32"))
