"""A text package as a model of strings: what a graph that holds its tokenizer is compared with."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from regraft.errors import Damaged, Unsupported
from regraft.package.formats import Port
from regraft.runtime.feeding import checked_feeds
from regraft.runtime.interface import Signature, Tap
from regraft.runtime.text import POOLED

if TYPE_CHECKING:
    from regraft.package.package import Package
    from regraft.runtime.interface import Array, Feeds, Model, Reduce
    from regraft.runtime.text import TextEncoder

TEXTS = "texts"
"""What the input of such a model is called."""
_INPUTS = ("input_ids", "attention_mask")


def takes_texts(model: Model) -> bool:
    """Is its only input a list of strings?"""
    ports = model.signature.inputs
    return len(ports) == 1 and ports[0].dtype == "string" and len(ports[0].shape or ()) == 1


def takes_strings(package: Package, path: str) -> bool:
    """As `takes_texts`, of a file that is not loaded."""
    probe, recognised = package.probe(path)
    if recognised is None or recognised.name != "onnx":
        return False
    with contextlib.suppress(Damaged):
        return [port.dtype for port in recognised.describe(probe).inputs] == ["string"]
    return False


class TextModel:
    """Tokenizer, network and pooling of a package, from strings to what it returns; with the tokens, to compare them.

    Logits are returned as they are; token vectors become `sentence_embedding` (B, D), pooled as the package says.

    Args:
        encoder: of the package, around its network.
    """

    def __init__(self, encoder: TextEncoder) -> None:
        self.encoder = encoder
        self.runtime = encoder.model.runtime
        self.where = encoder.model.where
        self.allows_nan = False

    @property
    def signature(self) -> Signature:
        """One input; only a run can tell the outputs."""
        return Signature((Port(TEXTS, "string", ("batch",)),))

    @property
    def effective_precision(self) -> str:
        """That of the network."""
        return self.encoder.model.effective_precision

    def __call__(self, feeds: Feeds) -> dict[str, Array]:
        """One pass over texts (B,), padded to the longest of them."""
        import numpy as np

        texts = checked_feeds(self.signature, feeds, where=self.where)[TEXTS]
        encoder = self.encoder
        encodings = encoder.tokenize([str(text) for text in texts])
        given = encoder.feeds(encodings)
        lengths = np.array([len(encoding.ids) for encoding in encodings])
        mask = (np.arange(given["input_ids"].shape[1]) < lengths[:, None]).astype(np.int64)  # (B, T)
        outputs = encoder.model(given)
        if pools(list(outputs)):
            outputs = {POOLED: encoder.pooled(outputs, mask)}
        return {**outputs, **dict(zip(_INPUTS, (given["input_ids"], mask), strict=True))}

    def cast(self, dtype: str) -> TextModel:
        """The same package, whose network computes in `dtype`."""
        encoder = copy.copy(self.encoder)
        encoder.model = self.encoder.model.cast(dtype)
        return TextModel(encoder)

    def trace(self, feeds: Feeds, *, taps: Sequence[str] | None = None, reduce: Reduce | None = None) -> Iterator[Tap]:
        """Not from strings.

        Raises:
            Unsupported: always.
        """
        raise self._no("traced")

    def segment(self, inputs: Sequence[str], outputs: Sequence[str]) -> TextModel:
        """Not from strings.

        Raises:
            Unsupported: always.
        """
        raise self._no("cut")

    def close(self) -> None:
        """Close the network."""
        self.encoder.model.close()

    def _no(self, done: str) -> Unsupported:
        hint = "compare the networks behind the tokenizers: regraft verify, on the graph that takes token ids"
        return Unsupported(f"a model of strings is not {done}", where=self.where, hint=hint)


def pools(outputs: Sequence[str]) -> bool:
    """Are the outputs of a network token vectors (or their mean), and no logits?"""
    return "logits" not in outputs
