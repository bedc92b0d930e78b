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
STATISTICS = ("running_mean", "running_var")
"""Buffers that training fills, as weights are; the others belong to the architecture: frequencies, masks."""
TABLE_ROUNDING = 2.0**-14
"""What another library of sines and powers may change in a table: one bit of a frequency, times 1,000 positions."""


def fill(block: torch.nn.Module) -> None:
    """Give a block weights and statistics that depend on their names alone.

    `RandomState` is frozen: it draws the same numbers in every version of numpy.
    """
    statistics = [(name, buffer) for name, buffer in block.named_buffers() if name.endswith(STATISTICS)]
    with torch.no_grad():
        for name, tensor in sorted([*block.named_parameters(), *statistics], key=lambda entry: entry[0]):
            if not tensor.is_floating_point():
                continue
            random = _random(name)
            values = random.standard_normal(tuple(tensor.shape)) * _scale(tensor)
            if tensor.ndim < 2 and name.endswith(("weight", "running_var")):
                values = 1 + 0.1 * np.abs(values)  # scales of norms, variances
            tensor.copy_(torch.as_tensor(values))


def constants(block: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Buffers of real numbers that are part of the architecture, by name."""
    return {
        name: buffer.detach()
        for name, buffer in block.named_buffers()
        if buffer.is_floating_point() and not name.endswith(STATISTICS)
    }


def digest(value: torch.Tensor) -> str:
    """SHA-256 of a tensor's numbers in float32, little-endian."""
    return hashlib.sha256(value.float().cpu().numpy().astype("<f4").tobytes()).hexdigest()


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
    block = block.float().eval()
    said = _other_constants(constants(block), kept["constants"])
    if said:
        return said
    fill(block)
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


def _other_constants(found: dict[str, torch.Tensor], kept: dict[str, Any]) -> str:
    if found.keys() != kept.keys():
        return f"it has the buffers {sorted(found)}, and had {sorted(kept)}"
    for name, expected in kept.items():
        value = found[name]
        if list(value.shape) != expected["shape"]:
            return f"buffer {name} has the shape {list(value.shape)}, and had {expected['shape']}"
        if digest(value) == expected["digest"]:
            continue
        ours, wanted = sampled(value), torch.tensor(expected["values"], dtype=torch.float64)
        finite = wanted[wanted.isfinite()]
        allowed = TABLE_ROUNDING * float(finite.square().mean().sqrt()) if finite.numel() else 0.0
        is_close = torch.isclose(ours, wanted, rtol=TABLE_ROUNDING, atol=allowed, equal_nan=True)
        if not bool(is_close.all()):
            return f"buffer {name} has other numbers: {int((~is_close).sum())} of {is_close.numel()} that were kept"
    return ""
