"""Faults that ordinary inputs of the usual sizes, with trained weights, hardly show. Each overrides one method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from benchmarks.fuzzed.networks import Image, Signal, Text, V, image, signal, text
from torch import nn
from torch.nn import functional as F  # noqa: N812


class Fault(NamedTuple):
    """One wrong re-implementation.

    Attributes:
        name: what is wrong.
        reference, candidate: factories: network and example inputs.
    """

    name: str
    reference: Callable[[], tuple[Any, dict[str, Any]]]
    candidate: Callable[[], tuple[Any, dict[str, Any]]]


class LastToken(Text):
    """the last token of the vocabulary is clipped"""

    def tokens(self, ids: torch.Tensor) -> torch.Tensor:
        return ids.clamp(max=V - 2)


class PaddingToken(Text):
    """token 0 is taken for padding"""

    def counted(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        kept = mask * (ids != 0)
        return torch.where(kept.any(1, keepdim=True), kept, mask)


class FirstRowsMask(Text):
    """the mask of the first row is used for all"""

    def counted(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return mask[:1].expand_as(mask)


class PaddedRight(Text):
    """a mask is taken for a length: padding on the left, holes"""

    def counted(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return (torch.arange(mask.shape[1]) < mask.sum(1, keepdim=True)).long()


class WeakMask(Text):
    """masked scores are lowered by 20 in place of infinity"""

    def hidden(self, scores: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        return scores - 20.0 * where


class Positions(Text):
    """positions stop at 12"""

    def positions(self, count: int) -> torch.Tensor:
        return torch.arange(count).clamp(max=12)


class FixedLength(Text):
    """the mean is over at most 11 tokens"""

    def length(self, mask: torch.Tensor) -> torch.Tensor:
        return mask.sum(1).clamp(max=11)


class Relu6(Image):
    """relu6 for relu"""

    def active(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu6(x)


class SameAtOddSizes(Image):
    """padding as SAME computes it, which is another at odd sizes"""

    def entry(self, x: torch.Tensor) -> torch.Tensor:
        odd = [size % 2 for size in x.shape[2:]]
        x = F.pad(x, (1 - odd[1], 1 + odd[1], 1 - odd[0], 1 + odd[0])) if any(odd) else F.pad(x, (1, 1, 1, 1))
        return F.conv2d(x, self.stem.weight, self.stem.bias, 2)


class Dilation(Image):
    """the dilation is forgotten beyond 8 places"""

    def spread(self, x: torch.Tensor) -> torch.Tensor:
        if min(x.shape[2:]) <= 8:
            return self.wide(x)
        return F.conv2d(x, self.wide.weight, self.wide.bias, padding=1)


class Softplus(Image):
    """softplus overflows in float32"""

    def soft(self, x: torch.Tensor) -> torch.Tensor:
        return (1 + x.exp()).log()


class FixedArea(Image):
    """the mean is over a fixed area"""

    def pooled(self, x: torch.Tensor) -> torch.Tensor:
        return x.sum((2, 3)) / 24


class OneRow(Image):
    """one row is squeezed and pooled over the wrong axes"""

    def pooled(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3)) if x.shape[0] > 1 else x.squeeze(0).amax((1, 2))[None]


class Epsilon(Signal):
    """epsilon 1e-3 for 1e-5 beside a large variance"""

    def __init__(self) -> None:
        super().__init__()
        self.norm.eps = 1e-3


class Clipped(Signal):
    """normed numbers are clipped at 3.6, which few numbers in sixteen reach"""

    def bounded(self, x: torch.Tensor) -> torch.Tensor:
        return x.clamp(-3.6, 3.6)


class HardGate(Signal):
    """a gate is cut off at 9"""

    def gated(self, x: torch.Tensor) -> torch.Tensor:
        return torch.where(x.abs() < 9, x.sigmoid(), (x > 0).to(x.dtype))


class UnusedBranch(Signal):
    """gelu by tanh in a branch whose scale is still zero"""

    def curved(self, x: torch.Tensor) -> torch.Tensor:
        return F.gelu(x, approximate="tanh")


class ShortMemory(Signal):
    """only the last 8 steps are seen"""

    def seen(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, -8:]


def _fault(kind: type[nn.Module]) -> Fault:
    factory: Callable[..., Any] = {Text: text, Image: image, Signal: signal}[kind.__mro__[1]]  # type: ignore[index]
    return Fault(str(kind.__doc__), factory, lambda: factory(kind))


FAULTS: dict[str, Fault] = {
    kind.__name__: _fault(kind)
    for kind in (
        LastToken, PaddingToken, FirstRowsMask, PaddedRight, WeakMask, Positions, FixedLength, Relu6, SameAtOddSizes,
        Dilation, Softplus, FixedArea, OneRow, Epsilon, Clipped, HardGate, UnusedBranch, ShortMemory,
    )
}  # fmt: skip
"""Class → fault."""
