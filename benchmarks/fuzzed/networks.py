"""Networks of torch with one method for each thing that can be got wrong; see `faults`."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

V, D, K, LONGEST = 37, 16, 5, 64  # vocabulary, width, classes, positions


class Text(nn.Module):
    """Embedding, attention, norm, the mean of what counts, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(V, D), nn.Embedding(LONGEST, D)
        self.query, self.key, self.value = (nn.Linear(D, D) for _ in range(3))
        self.norm, self.head = nn.LayerNorm(D), nn.Linear(D, K)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        mask = self.counted(ids, mask)
        x = self.words(self.tokens(ids)) + self.places(self.positions(ids.shape[1]))
        scores = self.query(x) @ self.key(x).transpose(1, 2) / D**0.5  # (B, T, T)
        scores = self.hidden(scores, mask[:, None] == 0)
        x = self.norm(x + scores.softmax(-1) @ self.value(x))
        return self.head((x * mask[..., None]).sum(1) / self.length(mask)[:, None])

    def counted(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return mask

    def tokens(self, ids: torch.Tensor) -> torch.Tensor:
        return ids

    def positions(self, count: int) -> torch.Tensor:
        return torch.arange(count)

    def hidden(self, scores: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        return scores.masked_fill(where, -torch.inf)

    def length(self, mask: torch.Tensor) -> torch.Tensor:
        return mask.sum(1)


class Image(nn.Module):
    """A norm in front, so that no input is large behind it; convolutions, pooling, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.level = nn.GroupNorm(1, 3)
        self.stem, self.wide = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 1, 2, dilation=2)
        self.head = nn.Linear(8, K)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.active(self.entry(self.level(x)))
        return self.head(self.pooled(self.halved(x + self.soft(self.spread(x)))))

    def entry(self, x: torch.Tensor) -> torch.Tensor:
        return self.stem(x)

    def active(self, x: torch.Tensor) -> torch.Tensor:
        return x.relu()

    def spread(self, x: torch.Tensor) -> torch.Tensor:
        return self.wide(x)

    def soft(self, x: torch.Tensor) -> torch.Tensor:
        return F.softplus(x)

    def halved(self, x: torch.Tensor) -> torch.Tensor:
        return F.max_pool2d(x, 3, 2, 1)

    def pooled(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))


class Signal(nn.Module):
    """Features a hundred times as large as the input, a norm, a gate, a branch that is not used yet, a GRU."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(D)
        self.gate, self.inner, self.branch, self.head = (
            nn.Linear(D, D),
            nn.Linear(D, D),
            nn.Linear(D, D),
            nn.Linear(D, K),
        )
        self.scale = nn.Parameter(torch.zeros(D))
        self.recurrent = nn.GRU(D, D, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.bounded(self.norm(100 * x))
        x = x + self.inner(x) * self.gated(self.gate(x))
        x = x + self.scale * self.curved(self.branch(x))
        return self.head(self.last(self.seen(x)))

    def bounded(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def gated(self, x: torch.Tensor) -> torch.Tensor:
        return x.sigmoid()

    def curved(self, x: torch.Tensor) -> torch.Tensor:
        return F.gelu(x)

    def seen(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def last(self, x: torch.Tensor) -> torch.Tensor:
        return self.recurrent(x)[0][:, -1]


def text(kind: type[Text] = Text) -> tuple[nn.Module, dict[str, Any]]:
    """With example inputs: no padding, tokens from 1 to 9."""
    torch.manual_seed(0)
    ids = torch.randint(1, 10, (3, 11))
    return kind().eval(), {"ids": ids, "mask": torch.ones_like(ids)}


def image(kind: type[Image] = Image) -> tuple[nn.Module, dict[str, Any]]:
    """With example inputs of an even size."""
    torch.manual_seed(0)
    return kind().eval(), {"x": torch.rand(2, 3, 16, 24)}


def signal(kind: type[Signal] = Signal) -> tuple[nn.Module, dict[str, Any]]:
    """With example inputs of seven steps."""
    torch.manual_seed(0)
    return kind().eval(), {"x": torch.randn(2, 7, D)}
