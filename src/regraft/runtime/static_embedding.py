"""numpy: a matrix of token vectors and a tokenizer; a text is the mean of its tokens' vectors.

Source: WordLlama 0.4 pools so: ids beyond the matrix count as its last row, no special tokens, mean over the
mask with a divisor of at least one, no normalisation unless asked for.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from regraft.errors import Damaged, MissingExtra, Unsupported
from regraft.package.formats import Port
from regraft.runtime.feeding import checked_feeds
from regraft.runtime.interface import Signature, Tap

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from regraft.package.package import Package
    from regraft.runtime.interface import Array, Feeds, LoadOptions, Reduce
    from regraft.runtime.verified import VerifiedFiles

_FLOATS = ("float16", "float32", "float64")
_MIN_VOCABULARY = 1000


class StaticEmbeddingRuntime:
    """Loads a safetensors file with a single matrix (vocabulary × dimension) in a package with a tokenizer."""

    name = "numpy"

    def can_load(self, package: Package, path: str, options: LoadOptions) -> bool:
        """One float matrix, taller than wide, and somewhere in the package a tokenizer.json."""
        if options.factory is not None:
            return False
        probe, recognised = package.probe(path)
        if recognised is None or recognised.name != "safetensors":
            return False
        try:
            tensors = recognised.describe(probe).tensors or ()
        except Damaged:
            return False
        if len(tensors) != 1 or len(tensors[0].shape) != 2 or tensors[0].dtype not in _FLOATS:
            return False
        rows, width = tensors[0].shape
        return rows >= _MIN_VOCABULARY and rows > width and _has_tokenizer(package, path)

    def load(self, files: VerifiedFiles, path: str, options: LoadOptions) -> StaticEmbeddingModel:
        """Read the matrix; it is used in float32 unless another precision is asked for."""
        try:
            from safetensors import SafetensorError
            from safetensors.numpy import load
        except ImportError as error:
            raise MissingExtra("safetensors", extra="text", where=path) from error
        try:
            (matrix,) = load(files.read(path)).values()
        except (SafetensorError, KeyError, ValueError) as error:
            raise Damaged(f"safetensors: {error}", where=path) from error
        return StaticEmbeddingModel(matrix, precision=options.precision or "float32", where=path)


class StaticEmbeddingModel:
    """Mean of token vectors under a mask.

    Args:
        matrix: (V, D) vectors of the vocabulary's V tokens.
        precision: `float32` or `float64` to compute in; float16 matrices are widened.
        where: how errors name it.
    """

    runtime = "numpy"

    def __init__(self, matrix: NDArray[np.floating], *, precision: str = "float32", where: str = "") -> None:
        import numpy as np

        if precision not in ("float32", "float64"):
            raise Unsupported(f"numpy computes this in float32 or float64, not in {precision}", where=where)
        self.matrix = np.ascontiguousarray(matrix, dtype=precision)  # (V, D)
        self.where = where
        self.allows_nan = False

    @functools.cached_property
    def signature(self) -> Signature:
        """Token ids and their mask in, one vector a text out."""
        rows, width = self.matrix.shape
        tokens = ("batch", "tokens")
        return Signature(
            (Port("input_ids", "int64", tokens), Port("attention_mask", "int64", tokens)),
            (Port("sentence_embedding", self.effective_precision, ("batch", width)),),
            {"input_ids": (0, rows - 1), "attention_mask": (0, 1)},
        )

    @property
    def effective_precision(self) -> str:
        """The dtype of the sums."""
        return str(self.matrix.dtype)

    def __call__(self, feeds: Feeds) -> dict[str, Array]:
        """One pass: `sentence_embedding` (B, D)."""
        *_, (_, pooled) = self._steps(feeds)
        return {"sentence_embedding": pooled}

    def trace(self, feeds: Feeds, *, taps: Sequence[str] | None = None, reduce: Reduce | None = None) -> Iterator[Tap]:
        """Two taps: `token_embeddings` (B, T, D), by Gather, and `sentence_embedding` (B, D), by Mean."""
        operators = {"token_embeddings": "Gather", "sentence_embedding": "Mean"}
        for order, (name, value) in enumerate(self._steps(feeds)):
            if taps is None or name in taps:
                kept = None if reduce is None else reduce(value)
                yield Tap(name, operators[name], "", order, value=value if reduce is None else None, kept=kept)

    def segment(self, inputs: Sequence[str], outputs: Sequence[str]) -> StaticEmbeddingModel:
        """Not offered: there are only two operators.

        Raises:
            Unsupported: always.
        """
        raise Unsupported("a mean of vectors has no segments", where=self.where)

    def cast(self, dtype: str) -> StaticEmbeddingModel:
        """The same matrix, summed in `dtype`."""
        return StaticEmbeddingModel(self.matrix, precision=dtype, where=self.where)

    def close(self) -> None:
        """Nothing to free beyond the matrix itself."""

    def _steps(self, feeds: Feeds) -> Iterator[tuple[str, Array]]:
        import numpy as np

        checked = checked_feeds(self.signature, feeds, where=self.where, allows_nan=self.allows_nan)
        ids = np.clip(checked["input_ids"], 0, len(self.matrix) - 1)  # (B, T)
        mask = checked["attention_mask"].astype(self.matrix.dtype)  # (B, T)
        vectors = self.matrix[ids]  # (B, T, D)
        yield "token_embeddings", vectors
        count = np.maximum(mask.sum(axis=1, keepdims=True), 1)  # (B, 1)
        yield "sentence_embedding", np.einsum("btd,bt->bd", vectors, mask) / count


def _has_tokenizer(package: Package, path: str) -> bool:
    from regraft.runtime.tokenizing import tokenizer_path

    return tokenizer_path(package, path) is not None
