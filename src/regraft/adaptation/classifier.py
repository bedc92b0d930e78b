"""A text classification package at work: texts in, logits and labels out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from regraft.errors import Unsupported
from regraft.runtime import load, model_path
from regraft.runtime.pipeline import labels_of
from regraft.runtime.text import TextEncoder, load_text_encoder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from regraft.package.package import Package
    from regraft.record.permit import Permit


class TextClassifier:
    """Texts to logits, over a model from token ids to `logits`.

    Args:
        encoder: tokenizer and limits, over that model.
        labels: class number → name.
    """

    def __init__(self, encoder: TextEncoder, labels: tuple[str, ...]) -> None:
        self.encoder = encoder
        self.labels = labels

    def logits(self, texts: Sequence[str], *, batch_size: int = 32) -> NDArray[np.float32]:
        """(N, K) logits, in the order of the texts."""
        import numpy as np

        encodings = self.encoder.tokenize(texts)
        order = sorted(range(len(texts)), key=lambda i: -len(encodings[i].ids))
        result = np.empty((len(texts), len(self.labels)), dtype=np.float32)
        for start in range(0, len(order), batch_size):
            places = order[start : start + batch_size]
            feeds = self.encoder.feeds([encodings[i] for i in places])
            result[places] = self.encoder.model(feeds)["logits"]
        return result

    def classify(self, texts: Sequence[str]) -> list[str]:
        """The most probable label of each text."""
        return [self.labels[number] for number in self.logits(texts).argmax(axis=1)]


def load_text_classifier(
    package: Package, permit: Permit | None = None, *, threads: int | None = None
) -> TextClassifier:
    """Load a package that `adapt` wrote.

    Raises:
        Unsupported: it says nothing about labels.
        As `regraft.runtime.load`.
    """
    labels = labels_of(package)
    if not labels:
        raise Unsupported("the package does not say which labels it tells apart", where=str(package.ref))
    path = model_path(package)
    prepared = load_text_encoder(package, permit, path=path, threads=threads)
    model = load(package, permit, path=path, threads=threads)
    encoder = TextEncoder(
        model,
        prepared.tokenizer,
        max_tokens=prepared.max_tokens,
        lowercase=prepared.lowercase,
        special_tokens=prepared.special_tokens,
    )
    return TextClassifier(encoder, labels)
