"""Decisions: does the candidate choose the class that the reference chooses?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from regraft.compare.deviation import Deviation

if TYPE_CHECKING:
    from regraft.runtime.interface import Array


class Decisions(msgspec.Struct, frozen=True):
    """Argmax of one output on one set of feeds.

    Attributes:
        n: decisions compared.
        flips: decisions that differ.
        excused: those of them that the floor explains: the reference's margin between the two classes lies
            within twice the peak of its own error.
    """

    n: int
    flips: int
    excused: int


def decisions(candidate: Array, reference: Array, *, own: Sequence[Deviation]) -> Decisions | None:
    """Compare the argmax along the last axis of scores.

    Args:
        candidate: (B, K) scores.
        reference: (B, K) scores of the most exact run.
        own: deviations of the reference's own runs at this output; the largest counts.
    Returns:
        None where the output is no table of scores: not floating, not two axes, or fewer than two classes.
    """
    import numpy as np

    if reference.dtype.kind != "f" or reference.ndim != 2 or reference.shape[1] < 2 or not reference.size:
        return None
    ours, theirs = reference.argmax(axis=1), candidate.argmax(axis=1)  # (B,)
    rows = np.flatnonzero(ours != theirs)
    margins = reference[rows, ours[rows]] - reference[rows, theirs[rows]]
    floor = 2 * max((one.peak for one in own), default=0.0)
    return Decisions(len(ours), len(rows), int((margins <= floor).sum()))
