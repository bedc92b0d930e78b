"""Where a network loses time, and by which operators; nothing here depends on how fast the machine is."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  as torch's own code calls it

from regraft.conceptual.performance import Comparison, compare_speed
from regraft.errors import Unsupported


class Attention(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.kind == "fused":
            return F.scaled_dot_product_attention(x, x, x)
        if self.kind == "float64":
            wide = x.double()
            return F.scaled_dot_product_attention(wide, wide, wide).float()
        scores = (x @ x.transpose(-1, -2) / x.shape[-1] ** 0.5).softmax(-1)
        if self.kind == "twice":
            return scores @ x + 0 * (scores @ x)
        return scores @ x


class Steps(nn.Module):
    def __init__(self, is_loop: bool) -> None:
        super().__init__()
        self.linear, self.is_loop = nn.Linear(8, 8), is_loop

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.is_loop:
            weight, bias = self.linear.weight, self.linear.bias
            return torch.stack([F.linear(x[..., step, :], weight, bias) for step in range(x.shape[-2])], -2)
        return F.linear(x, self.linear.weight, self.linear.bias)


def network(kind: str = "fused", is_loop: bool = False) -> nn.Sequential:
    return nn.Sequential(Attention(kind), Steps(is_loop), nn.ReLU()).eval()


def compared(candidate: nn.Module) -> Comparison:
    return compare_speed(network(), candidate, [torch.ones(2, 1, 16, 8)], rounds=3, traced=2)


def causes(found: Comparison, name: str) -> tuple[str, ...]:
    return next(block.causes for block in found.blocks if block.name == name)


def test_the_same_network_shows_no_cause() -> None:
    found = compared(network())

    assert all(not block.causes for block in found.blocks)
    assert {block.name for block in found.blocks} == {"0", "1", "2"}


@pytest.mark.parametrize(
    ("candidate", "block", "cause"),
    [
        (network("plain"), "0", "attention that is not fused"),
        (network("float64"), "0", "float64 in"),
        (network(is_loop=True), "1", "a loop: "),
        (network("twice"), "0", "computed before"),
    ],
)
def test_a_cause_is_named_in_its_module(candidate: nn.Module, block: str, cause: str) -> None:
    found = compared(candidate)

    assert any(cause in one for one in causes(found, block))
    assert all(not one.causes for one in found.blocks if one.name != block)


def test_shares_are_of_what_is_lost() -> None:
    found = compared(network("plain", is_loop=True))

    assert sum(block.share for block in found.blocks) == pytest.approx(1.0)
    assert found.blocks[0].share == max(block.share for block in found.blocks)
    assert found.summary.startswith("the candidate takes ")


def test_a_pass_that_fails_is_told() -> None:
    with pytest.raises(Unsupported, match="candidate: a pass fails"):
        compare_speed(network(), nn.Linear(3, 3), [torch.ones(2, 1, 16, 8)], rounds=1, traced=1)
