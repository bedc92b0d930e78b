"""Rows to learn from and rows to judge by, drawn once by seed with the class shares of the data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from regraft.record.evidence import Finding, Severity

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from regraft.adaptation.data import LabelledData

SMALLER = "RGA-DATA-009"


class Split(msgspec.Struct, frozen=True):
    """Row numbers. `pool` holds everything that is not held out, `learn` is a part of it.

    Attributes:
        learn, held_out, pool: (n,) int64, sorted.
        seed: of the draw.
        findings: where the data is smaller than what was asked for.
    """

    learn: NDArray[np.int64]
    held_out: NDArray[np.int64]
    pool: NDArray[np.int64]
    seed: int
    findings: tuple[Finding, ...] = ()


def split(data: LabelledData, *, seed: int = 0) -> Split:
    """Draw held-out and learning rows, each with the class shares of the data.

    Where there are too few, a third of the rows is held out and the rest is learnt from.
    """
    import numpy as np

    held, learn, total = data.spec.held_out, data.spec.learn, len(data)
    findings: tuple[Finding, ...] = ()
    if held + learn > total:
        held = min(held, total // 3)
        learn = min(learn, total - held)
        message = f"asked for {data.spec.learn} rows to learn from and {data.spec.held_out} held out, there are {total}"
        findings = (Finding(SMALLER, Severity.LOW, f"{message}: {learn} and {held} are used"),)
    held_out = draw_rows(data.labels, np.arange(total), held, seed=seed, draw=0)
    pool = np.setdiff1d(np.arange(total), held_out)
    return Split(draw_rows(data.labels, pool, learn, seed=seed, draw=1), held_out, pool, seed, findings)


def draw_rows(
    labels: NDArray[np.int64], among: NDArray[np.int64], count: int, *, seed: int, draw: int
) -> NDArray[np.int64]:
    """`count` rows out of `among` without replacement, with their class shares (largest remainders), sorted."""
    import numpy as np

    rng = np.random.default_rng([seed, draw, count])
    classes, sizes = np.unique(labels[among], return_counts=True)
    exact = sizes * (count / max(1, len(among)))
    shares = np.floor(exact).astype(int)
    for position in np.argsort(shares - exact, kind="stable")[: count - int(shares.sum())]:
        shares[position] += 1
    drawn = [rng.choice(among[labels[among] == c], n, replace=False) for c, n in zip(classes, shares, strict=True)]
    return np.sort(np.concatenate(drawn)) if drawn else among[:0]
