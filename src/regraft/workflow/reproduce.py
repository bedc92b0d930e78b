"""reproduce with the scan before it: what could execute code is scanned, then evaluated."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from regraft.conceptual.claim import Claim
from regraft.conceptual.reproduce import reproduce as evaluate
from regraft.record.evidence import Evidence
from regraft.workflow.bench import permit_by_scan

if TYPE_CHECKING:
    from regraft.record.store import Store


def reproduce(
    claim: str | os.PathLike[str] | Claim,
    *,
    store: Store | None = None,
    offline: bool = False,
    seed: int = 0,
    repeats: int = 2,
    threads: Sequence[int] | None = None,
    margin: float | None = None,
) -> Evidence:
    """Measure what a claim says, and judge it by a margin whose rule stands before the measuring.

    Args:
        claim, store, offline, seed, repeats, threads, margin: as `regraft.conceptual.reproduce.reproduce`, which
            says what they mean.
    Returns:
        evidence of kind `reproduce`: reproduced and better pass, not_reproduced fails, undecided is inconclusive.
    Raises:
        As there.
    """
    return evaluate(
        claim,
        store=store,
        offline=offline,
        seed=seed,
        repeats=repeats,
        threads=threads,
        margin=margin,
        permit=permit_by_scan(store),
    )
