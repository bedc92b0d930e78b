"""A classification package at work: texts or pictures in, logits and labels out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from regraft.errors import Unsupported, UsageError
from regraft.runtime import load_verified, model_path
from regraft.runtime.image import ImagePreprocessing, preprocessing_of
from regraft.runtime.interface import LoadOptions
from regraft.runtime.pipeline import description_of
from regraft.runtime.text import TextEncoder
from regraft.runtime.verified import VerifiedFiles
from regraft.runtime.vouched import load_text_vouched

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from regraft.package.package import Package
    from regraft.record.permit import Permit
    from regraft.runtime.image import Picture
    from regraft.runtime.interface import Model

_LOGITS = "logits"


class TextClassifier:
    """Texts to logits, over a model from token ids to `logits`.

    Args:
        encoder: tokenizer and limits, over that model.
        labels: class number → name.
    """

    def __init__(self, encoder: TextEncoder, labels: tuple[str, ...]) -> None:
        self.encoder = encoder
        self.labels = labels

    @property
    def model(self) -> Model:
        """From token ids to logits."""
        return self.encoder.model

    def logits(self, inputs: Sequence[str], *, batch_size: int = 32) -> NDArray[np.float32]:
        """(N, K) logits, in the order of the texts."""
        import numpy as np

        encodings = self.encoder.tokenize(inputs)
        order = sorted(range(len(inputs)), key=lambda i: -len(encodings[i].ids))
        result = np.empty((len(inputs), len(self.labels)), dtype=np.float32)
        for start in range(0, len(order), batch_size):
            places = order[start : start + batch_size]
            feeds = self.encoder.feeds([encodings[i] for i in places])
            result[places] = self.encoder.model(feeds)[_LOGITS]
        return result

    def classify(self, inputs: Sequence[str]) -> list[str]:
        """The most probable label of each text."""
        return [self.labels[number] for number in self.logits(inputs).argmax(axis=1)]


class ImageClassifier:
    """Pictures to logits, over a model from pixels to `logits`.

    Args:
        model: its only input takes the pictures.
        preprocessing: what the encoder was trained with.
        labels: class number → name.
        picture_shape: (H, W) or (H, W, 3) of the pictures that the head was learnt from; empty where nobody says.
    """

    def __init__(
        self,
        model: Model,
        preprocessing: ImagePreprocessing,
        labels: tuple[str, ...],
        *,
        picture_shape: tuple[int, ...] = (),
    ) -> None:
        self.model = model
        self.preprocessing = preprocessing
        self.labels = labels
        self.picture_shape = picture_shape

    def logits(self, inputs: Sequence[Picture], *, batch_size: int = 32) -> NDArray[np.float32]:
        """(N, K) logits, in the order of the pictures.

        Raises:
            UsageError: there are none.
            As `ImagePreprocessing`.
        """
        import numpy as np

        if not len(inputs):
            raise UsageError("there are no pictures to classify")
        name = self.model.signature.inputs[0].name
        batches = (inputs[start : start + batch_size] for start in range(0, len(inputs), batch_size))
        logits: NDArray[np.float32] = np.concatenate(
            [self.model({name: self.preprocessing(batch)})[_LOGITS] for batch in batches]
        )
        return logits

    def classify(self, inputs: Sequence[Picture]) -> list[str]:
        """The most probable label of each picture."""
        return [self.labels[number] for number in self.logits(inputs).argmax(axis=1)]


def load_classifier(
    package: Package,
    permit: Permit | None = None,
    *,
    runtime: str | None = None,
    path: str | None = None,
    threads: int | None = None,
    precision: str | None = None,
    code_loader: str = "",
) -> TextClassifier | ImageClassifier:
    """Load a package that `adapt` wrote, or what `convert` made of one: head, preprocessing and labels with it.

    Args:
        package, permit, runtime, path, threads, precision: as `regraft.runtime.load`.
        code_loader: as `regraft.runtime.vouched.load_vouched`.
    Raises:
        Unsupported: it says nothing about labels, or of pictures not how they are prepared.
        As `regraft.runtime.load`.
    """
    description = description_of(package)
    if description is None:
        raise Unsupported("the package does not say which labels it tells apart", where=str(package.ref))
    chosen = path or model_path(package, runtime=runtime)
    options = LoadOptions(threads=threads, precision=precision)
    if description.task == "image-classification":
        files = VerifiedFiles(package, permit)
        preprocessing = preprocessing_of(files, chosen)
        if preprocessing is None:
            raise Unsupported("nothing beside the model says how pictures are prepared", where=chosen)
        model = load_verified(files, chosen, options, runtime=runtime)
        return ImageClassifier(model, preprocessing, description.labels, picture_shape=description.picture_shape)
    encoder = load_text_vouched(
        package,
        permit,
        code_loader=code_loader,
        path=chosen,
        head=True,
        runtime=runtime,
        threads=threads,
        precision=precision,
    )
    return TextClassifier(encoder, description.labels)
