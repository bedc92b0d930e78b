"""Held-out rows as feeds: what conversions are compared on is what the model will see."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regraft.adaptation.data import DataSpec, LabelledData, load_data
from regraft.adaptation.extraction import pictures_of
from regraft.adaptation.splits import split
from regraft.package.package import open_package
from regraft.runtime import model_path
from regraft.runtime.image import preprocessing_of
from regraft.runtime.pipeline import PIXELS
from regraft.runtime.verified import VerifiedFiles

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

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
    some = _spread(labelled, count, seed)
    return [labelled.texts[i] for i in some] if labelled.texts and len(some) else None


def held_out_pictures(
    data: DataSpec, package: str, *, count: int, seed: int = 0, store: Store | None = None, offline: bool = False
) -> list[dict[str, NDArray[np.float32]]] | None:
    """Pictures of held-out rows, prepared for a network; None where there are none (too few rows, or texts).

    Args:
        package: an image package that `adapt` made: it says how pictures are prepared.
        count, seed: as for texts.
    Returns:
        one set of feeds, `pixels` (B, C, H, W).
    Raises:
        As `load_data`, and as opening the package.
    """
    labelled = load_data(data, store=store, offline=offline)
    some = _spread(labelled, count, seed)
    with open_package(package) as opened:
        preprocessing = preprocessing_of(VerifiedFiles(opened), model_path(opened))
    if labelled.images is None or preprocessing is None or not len(some):
        return None
    return [{PIXELS: preprocessing(pictures_of(labelled.images[some]))}]


def _spread(labelled: LabelledData, count: int, seed: int) -> NDArray[np.int64]:
    """At most `count` of the held-out rows, spread over all of them."""
    rows = split(labelled, seed=seed).held_out
    return rows[:: max(1, -(-len(rows) // count))]
