"""Held-out rows as feeds: what conversions are compared on is what the model will see."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regraft.adaptation.data import DataSpec, load_data
from regraft.adaptation.splits import split

if TYPE_CHECKING:
    from regraft.record.store import Store


def held_out_texts(
    data: DataSpec, *, count: int, seed: int = 0, store: Store | None = None, offline: bool = False
) -> list[str] | None:
    """Texts of held-out rows, spread over all of them; None where there are none (too few rows, or images).

    Args:
        count: of texts, at most.
        seed: of the split; the one of `select` and `adapt` gives rows that nothing was learnt from.
    Raises:
        As `load_data`.
    """
    labelled = load_data(data, store=store, offline=offline)
    rows = split(labelled, seed=seed).held_out
    if not labelled.texts or not len(rows):
        return None
    some = rows[:: -(-len(rows) // count)]
    return [labelled.texts[i] for i in some]
