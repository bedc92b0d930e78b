"""Does a product do all that its source does: the same outputs, at every size?"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import msgspec

from regraft.compare.pairing import pair_inputs
from regraft.compare.recall import recalled
from regraft.errors import BadFeeds, Unsupported

if TYPE_CHECKING:
    from regraft.runtime.interface import Feeds, Model


class Shortfall(msgspec.Struct, frozen=True):
    """What a product lacks beside its source.

    Attributes:
        message: in words; empty for nothing.
        is_loss: an output is missing; otherwise only sizes are.
    """

    message: str = ""
    is_loss: bool = False


def shortfall(source: Model, product: Model, examples: Sequence[Feeds]) -> Shortfall:
    """Run the product at every size of the examples, which the source takes, and count its outputs.

    `verify` compares what both have in common; of a conversion more is expected.
    """
    try:
        inputs = pair_inputs(source.signature.inputs, product.signature.inputs, product.where).names
    except Unsupported as error:
        return Shortfall(error.what, is_loss=True)
    refused: list[str] = []
    returned: Collection[str] = ()
    ran: Feeds | None = None
    for feeds in examples:
        theirs = {inputs[name]: value for name, value in feeds.items() if name in inputs}
        try:
            returned, ran = recalled(product, theirs), feeds
        except (Unsupported, BadFeeds):
            refused.append(" ".join(f"{name} {tuple(value.shape)}" for name, value in feeds.items()))
    if ran is not None and (lost := _lost(list(recalled(source, ran)), list(returned))):
        return Shortfall(f"it returns {len(returned)} of the source's outputs; {lost}", is_loss=True)
    if refused:
        return Shortfall(f"it does not run at every size that the source takes: not at {'; '.join(refused)}")
    return Shortfall()


def _lost(ours: Sequence[str], theirs: Sequence[str]) -> str:
    if len(theirs) >= len(ours):
        return ""
    missing = [name for name in ours if name not in theirs and name.replace(".", "_") not in theirs]
    return f"without {', '.join(missing)}" if missing else "some are missing"
