"""Faults that ports really have, planted in a copy of a network."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from regraft.runtime.torch_module import TorchModel

_NORMS = (nn.LayerNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.RMSNorm)


def faulty_copies(model: TorchModel) -> Iterator[tuple[str, TorchModel]]:
    """Name of the fault, and a copy that has it; faults that the network has no place for are left out."""
    for name, plant in FAULTS.items():
        clone = copy.copy(model)
        clone.module = copy.deepcopy(model.module)
        with torch.no_grad():
            if plant(clone.module):
                yield name, clone


def _epsilon(new: Callable[[float], float]) -> Callable[[nn.Module], bool]:
    def plant(network: nn.Module) -> bool:
        found = [m for m in network.modules() if isinstance(m, _NORMS)]
        for module in found:
            module.eps = new(module.eps or 1e-6)
        return bool(found)

    return plant


def _tanh_gelu(network: nn.Module) -> bool:
    found = False
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if type(child).__name__ in ("GELU", "GELUActivation"):
                setattr(module, name, nn.GELU(approximate="tanh"))
                found = True
        if type(getattr(module, "intermediate_act_fn", None)).__name__ == "GELUActivation":
            module.intermediate_act_fn = nn.GELU(approximate="tanh")
            found = True
    return found


class _SamePadded(nn.Module):
    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv
        self.pad = 2 * conv.padding[0]
        conv.padding = (0, 0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        before = self.pad // 2 - 1 if self.pad % 4 == 2 else self.pad // 2
        after = self.pad - before
        return self.conv(nn.functional.pad(x, (before, after, before, after)))


def _same_padding(network: nn.Module) -> bool:
    """TensorFlow's SAME pads a strided convolution at the end, PyTorch's padding=1 on both sides."""
    found = False
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Conv2d and child.stride == (2, 2) and child.padding == (1, 1):
                setattr(module, name, _SamePadded(child))
                found = True
    return found


def _swapped_query_key(network: nn.Module) -> bool:
    found = False
    for module in network.modules():
        query, key = getattr(module, "query", None), getattr(module, "key", None)
        if isinstance(query, nn.Linear) and isinstance(key, nn.Linear):
            module.query, module.key = key, query
            found = True
    return found


def _bgr(network: nn.Module) -> bool:
    first = next((m for m in network.modules() if isinstance(m, nn.Conv2d)), None)
    if first is None or first.in_channels != 3:
        return False
    first.weight.copy_(first.weight.flip(1))
    return True


def _transposed(network: nn.Module) -> bool:
    for module in network.modules():
        if isinstance(module, nn.Linear) and module.in_features == module.out_features:
            module.weight.copy_(module.weight.t().clone())
            return True
    return False


def _wrong_axis(network: nn.Module) -> bool:
    found = [m for m in network.modules() if hasattr(m, "axis")]
    for module in found:
        module.axis = -2
    return bool(found)


def _missing_mask(network: nn.Module) -> bool:
    found = [m for m in network.modules() if hasattr(m, "is_causal") and hasattr(m, "gate")]
    for module in found:
        module.is_causal = False
    if found:
        return True
    if not hasattr(network, "embeddings") or not hasattr(network, "encoder"):
        return False
    forward: Any = network.forward

    def unmasked(input_ids: torch.Tensor, attention_mask: torch.Tensor, **rest: Any) -> Any:
        return forward(input_ids=input_ids, attention_mask=torch.ones_like(attention_mask), **rest)

    network.forward = unmasked
    return True


def _gate_order(network: nn.Module) -> bool:
    found = False
    for module in network.modules():
        gates = {nn.LSTM: 4, nn.GRU: 3}.get(type(module))
        if gates:
            for parameter in module.parameters():
                parts = list(parameter.chunk(gates))
                parts[0], parts[1] = parts[1].clone(), parts[0].clone()
                parameter.copy_(torch.cat(parts))
            found = True
    return found


def _bfloat16_weights(network: nn.Module) -> bool:
    for parameter in network.parameters():
        parameter.copy_(parameter.to(torch.bfloat16).to(parameter.dtype))
    return True


FAULTS: dict[str, Callable[[nn.Module], bool]] = {
    "epsilon / 10": _epsilon(lambda old: old / 10),
    "epsilon 1e-5 for 1e-12 or 1e-6": _epsilon(lambda old: 1e-5 if old < 5e-6 else 1e-6),
    "epsilon 1e-3": _epsilon(lambda old: 1e-2 if old == 1e-3 else 1e-3),
    "tanh GELU": _tanh_gelu,
    "SAME padding": _same_padding,
    "query and key swapped": _swapped_query_key,
    "BGR": _bgr,
    "one weight transposed": _transposed,
    "softmax over the wrong axis": _wrong_axis,
    "mask missing": _missing_mask,
    "gates in another order": _gate_order,
    "weights rounded to bfloat16": _bfloat16_weights,
}
"""Fault → puts it into a network; False where the network has no place for it."""
