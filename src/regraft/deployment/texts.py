"""Where one of two models takes strings and the other tokens, the other's own tokenizer is put in front of it."""

from __future__ import annotations

import msgspec

from regraft.deployment.loading import Opened
from regraft.runtime.text import encoder_around
from regraft.runtime.text_model import TextModel, takes_texts
from regraft.runtime.verified import VerifiedFiles


def both_from_texts(ours: Opened, theirs: Opened) -> tuple[Opened, Opened]:
    """The same two; where one of them is a model of strings, both are.

    Args:
        ours, theirs: opened; a model that is no part of a package has no tokenizer, and stays as it is.
    Raises:
        Unsupported, Damaged: the tokenizer or the pooling of a package cannot be had.
    """
    if ours.model is None or theirs.model is None or takes_texts(ours.model) == takes_texts(theirs.model):
        return ours, theirs
    return (ours, _from_texts(theirs)) if takes_texts(ours.model) else (_from_texts(ours), theirs)


def _from_texts(one: Opened) -> Opened:
    if one.package is None or one.model is None:
        return one
    encoder = encoder_around(one.model, VerifiedFiles(one.package, one.permit), one.path)
    return msgspec.structs.replace(one, model=TextModel(encoder))
