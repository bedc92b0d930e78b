"""Inputs, weights and sampled outputs of a block: what its test was made with, and what the test makes again.

This file is copied beside the tests that `regraft replicate --emit-tests` writes; it needs numpy and torch alone.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch

SAMPLED = 1024
"""Numbers of an output that are compared."""


def fill(block: torch.nn.Module) -> None:
    """Give a block weights that depend on their names alone.

    `RandomState` is frozen: it draws the same numbers in every version of numpy.
    """
    with torch.no_grad():
        for name, tensor in sorted([*block.named_parameters(), *block.named_buffers()]):
            if not tensor.is_floating_point():
                continue
            random = _random(name)
            values = random.standard_normal(tuple(tensor.shape)) * _scale(tensor)
            if tensor.ndim < 2 and name.endswith(("weight", "running_var")):
                values = 1 + 0.1 * np.abs(values)  # scales of norms, variances
            tensor.copy_(torch.as_tensor(values))


def _scale(tensor: torch.Tensor) -> float:
    """Of weights that neither blow up nor vanish."""
    return 0.1 if tensor.ndim < 2 else float(np.prod(tensor.shape[1:])) ** -0.5


def _random(name: str) -> np.random.RandomState:
    return np.random.RandomState(int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little"))


def arguments(kept: dict[str, Any], dtype: torch.dtype) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a block's pass, real numbers in `dtype`."""
    positional = tuple(_read(value, f"args.{number}", dtype) for number, value in enumerate(kept["args"]))
    return positional, {name: _read(value, f"kwargs.{name}", dtype) for name, value in kept["kwargs"].items()}


def _read(kept: dict[str, Any], name: str, dtype: torch.dtype) -> Any:
    if "drawn" in kept:
        return torch.as_tensor(_random(name).standard_normal(kept["drawn"])).to(dtype)
    if "tensor" in kept:
        told = kept["tensor"]
        of = getattr(torch, told["dtype"])
        values = torch.tensor(told["values"], dtype=of).reshape(told["shape"])
        return values.to(dtype) if of.is_floating_point else values
    if "items" in kept:
        items = [_read(value, f"{name}.{number}", dtype) for number, value in enumerate(kept["items"])]
        return tuple(items) if kept["is_tuple"] else items
    return kept["plain"]


def outputs(block: torch.nn.Module, given: tuple[tuple[Any, ...], dict[str, Any]]) -> list[torch.Tensor]:
    """The tensors of real numbers that a block returns, in order."""
    with torch.no_grad():
        return list(_tensors(block(*given[0], **given[1])))


def _tensors(returned: Any) -> Any:
    if isinstance(returned, torch.Tensor):
        if returned.is_floating_point():
            yield returned
    elif isinstance(returned, dict):
        for value in returned.values():
            yield from _tensors(value)
    elif isinstance(returned, list | tuple):
        for value in returned:
            yield from _tensors(value)


def sampled(value: torch.Tensor) -> torch.Tensor:
    """Numbers at evenly spaced places, in float64."""
    flat = value.detach().double().flatten()
    places = torch.linspace(0, flat.numel() - 1, min(SAMPLED, flat.numel())).long()
    return flat[places]


def complaint(block: torch.nn.Module, kept: dict[str, Any]) -> str:
    """What a block does otherwise than it did when its fixture was made; empty when rounding explains it."""
    fill(block.float().eval())
    found = outputs(block, arguments(kept, torch.float32))
    if len(found) != len(kept["outputs"]):
        return f"it returns {len(found)} tensors, and returned {len(kept['outputs'])}"
    for number, (value, expected) in enumerate(zip(found, kept["outputs"], strict=True)):
        if list(value.shape) != expected["shape"]:
            return f"output {number} has the shape {list(value.shape)}, and had {expected['shape']}"
        wanted = torch.tensor(expected["values"], dtype=torch.float64)
        error = float((sampled(value) - wanted).square().mean().sqrt())
        if not error <= expected["allowed"]:
            return f"output {number} is {error:.3g} off (RMS); rounding explains {expected['allowed']:.3g}"
    return ""
