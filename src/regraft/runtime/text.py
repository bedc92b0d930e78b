"""Whole text packages: tokenizer, network and pooling, from strings to one vector a text."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from regraft.errors import Damaged, Unsupported, UsageError
from regraft.progress import progress
from regraft.runtime.interface import LoadOptions
from regraft.runtime.pipeline import TextSettings, description_of
from regraft.runtime.pooling import Pooling, pooling_of
from regraft.runtime.tokenizing import json_beside, load_tokenizer, tokenizer_settings
from regraft.runtime.verified import VerifiedFiles

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from tokenizers import Encoding, Tokenizer

    from regraft.package.package import Package
    from regraft.record.permit import Permit
    from regraft.runtime.interface import Array, Model

HIDDEN = ("last_hidden_state", "token_embeddings")
"""Outputs that hold a vector for each token."""
POOLED = "sentence_embedding"
"""Output that holds one vector a text."""
_NO_LIMIT = 1 << 20
"""Above this `model_max_length` means that nobody thought of one."""
_DEFAULT_TOKENS = 512


class TextEncoder:
    """Texts to vectors, over a model of any runtime that takes token ids.

    Args:
        model: takes `input_ids` and, if it names them, `attention_mask` and `token_type_ids`; returns
            `sentence_embedding` (B, D), or token vectors (B, T, D).
        tokenizer: with its special tokens set up.
        pooling: how token vectors become one.
        max_tokens: longer texts are cut there, special tokens included.
        lowercase: lower the texts first.
        special_tokens: let the tokenizer add its own.
    """

    def __init__(
        self,
        model: Model,
        tokenizer: Tokenizer,
        *,
        pooling: Pooling = Pooling(),  # noqa: B008  frozen
        max_tokens: int = _DEFAULT_TOKENS,
        lowercase: bool = False,
        special_tokens: bool = True,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.pooling = pooling
        self.max_tokens = max_tokens
        self.lowercase = lowercase
        self.special_tokens = special_tokens
        self._inputs = {port.name: port for port in model.signature.inputs}
        if "input_ids" not in self._inputs:
            raise Unsupported(
                f"the model takes no token ids; its inputs are {', '.join(self._inputs)}", where=model.where
            )
        tokenizer.enable_truncation(max_tokens)

    def encode(self, texts: Sequence[str], *, batch_size: int = 32) -> NDArray[np.float32]:
        """One vector a text, in the order given.

        Texts are sorted by their number of tokens, so that a batch needs little padding; float32 rounding
        therefore depends on the company that a text is in.

        Args:
            texts: strings; an empty one is legal.
            batch_size: texts a pass.
        Returns:
            (N, D) float32.
        Raises:
            UsageError: no texts, a text that is none, or a batch size below 1.
        """
        import numpy as np

        encodings = self.tokenize(texts)
        if batch_size < 1:
            raise UsageError(f"a batch of {batch_size} texts")
        order = np.argsort([-len(encoding.ids) for encoding in encodings], kind="stable")
        rows: NDArray[np.float32] | None = None
        with progress("encoding", total=len(texts), unit="texts") as advance:
            for start in range(0, len(order), batch_size):
                places = order[start : start + batch_size]
                vectors = self.encode_batch([encodings[i] for i in places])
                if rows is None:
                    rows = np.empty((len(order), vectors.shape[1]), dtype=np.float32)
                rows[places] = vectors
                advance(len(places))
        assert rows is not None
        return rows

    def tokenize(self, texts: Sequence[str]) -> list[Encoding]:
        """Token ids of texts, cut at `max_tokens`, not padded.

        Raises:
            UsageError: no texts, or one that is no string.
        """
        if isinstance(texts, str) or not len(texts):
            raise UsageError("a list of texts is wanted" if texts else "there are no texts to encode")
        wrong = next((i for i, text in enumerate(texts) if not isinstance(text, str)), None)
        if wrong is not None:
            raise UsageError(f"text {wrong} is {type(texts[wrong]).__name__}, not a string")
        given = [text.lower() for text in texts] if self.lowercase else list(texts)
        return self.tokenizer.encode_batch_fast(given, add_special_tokens=self.special_tokens)

    def feeds(self, encodings: Sequence[Encoding], *, tokens: int | None = None) -> dict[str, Array]:
        """Arrays (B, T) for one pass, padded on the right.

        Args:
            encodings: what `tokenize` returned.
            tokens: T; None for the longest of them.
        """
        import numpy as np

        width = max(1, tokens or max(len(encoding.ids) for encoding in encodings))
        ids = np.full((len(encodings), width), self.pad_id, dtype=np.int64)
        mask = np.zeros_like(ids)
        types = np.zeros_like(ids)
        for row, encoding in enumerate(encodings):
            length = len(encoding.ids)
            ids[row, :length] = encoding.ids
            types[row, :length] = encoding.type_ids
            mask[row, :length] = 1
        arrays = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
        return {name: arrays[name].astype(port.dtype) for name, port in self._inputs.items() if name in arrays}

    def encode_batch(self, encodings: Sequence[Encoding]) -> NDArray[np.float32]:
        """One pass and its pooling: (B, D) float32."""
        return self.pooled(self.model(self.feeds(encodings)), self.mask(encodings))

    def mask(self, encodings: Sequence[Encoding]) -> NDArray[np.bool_]:
        """Where the arrays of `feeds` hold tokens of a text: (B, T), false for padding."""
        import numpy as np

        lengths = np.array([len(encoding.ids) for encoding in encodings])
        return np.arange(max(1, lengths.max())) < lengths[:, None]

    def pooled(self, outputs: dict[str, Array], mask: NDArray[Any]) -> NDArray[Any]:
        """One vector a text, (B, D), from what the network returned.

        Args:
            outputs: `sentence_embedding` (B, D), or token vectors (B, T, D).
            mask: (B, T), false for padding.
        """
        if POOLED in outputs:
            return self.pooling.finish(outputs[POOLED])
        return self.pooling(token_vectors(outputs, self.model.where), mask)

    @functools.cached_property
    def pad_id(self) -> int:
        """Token that stands in places behind the end of a text."""
        for name in ("[PAD]", "<pad>", "<|padding|>"):
            found = self.tokenizer.token_to_id(name)
            if found is not None:
                return int(found)
        return 0


def load_text_encoder(
    package: Package,
    permit: Permit | None = None,
    *,
    runtime: str | None = None,
    path: str | None = None,
    threads: int | None = None,
    precision: str | None = None,
    pooling: Pooling | None = None,
    head: bool = False,
) -> TextEncoder:
    """Load a text package whole: backbone, tokenizer, pooling and length limit, as its own files say.

    Args:
        package, permit, runtime, path, threads, precision: as `regraft.runtime.load`.
        pooling: in place of what the package says.
        head: with the task head that the package declares; its model returns logits then.
    Raises:
        Unsupported: no tokenizer that is data, or a pooling that is not offered.
        As `regraft.runtime.load`.
    """
    from regraft.runtime import load_verified, model_path

    chosen = path or model_path(package, runtime=runtime)
    files = VerifiedFiles(package, permit)
    tokenizer = load_tokenizer(files, chosen)  # what has none is refused before seconds of loading
    options = LoadOptions(threads=threads, precision=precision, head=head)
    model = load_verified(files, chosen, options, runtime=runtime)
    return encoder_around(model, files, chosen, tokenizer=tokenizer, pooling=pooling)


def encoder_around(
    model: Model,
    files: VerifiedFiles,
    path: str,
    *,
    tokenizer: Tokenizer | None = None,
    pooling: Pooling | None = None,
) -> TextEncoder:
    """Tokenizer, pooling and length limit of a package, around its model that is loaded already.

    Args:
        model: of the file at `path`.
        files: the package.
        path: the weights or graph file.
        tokenizer: where it is loaded already.
        pooling: in place of what the package says.
    Raises:
        Unsupported: no tokenizer that is data, or a pooling that is not offered.
    """
    stated = _stated(files, path, is_static=model.runtime == "numpy")
    return TextEncoder(
        model,
        tokenizer or load_tokenizer(files, path),
        pooling=pooling or pooling_of(files, path),
        max_tokens=stated.max_tokens or _NO_LIMIT,
        lowercase=stated.lowercase,
        special_tokens=stated.special_tokens,
    )


def _stated(files: VerifiedFiles, weights: str, *, is_static: bool) -> TextSettings:
    """What the package says about its texts: `regraft.json` first, which alone survives a conversion."""
    with contextlib.suppress(Damaged):
        description = description_of(files.package)
        if description is not None and description.preprocessing is not None:
            return description.preprocessing
    settings = json_beside(files, weights, "sentence_bert_config.json")
    lowercase = bool(settings.get("do_lower_case")) if isinstance(settings, dict) else False
    return TextSettings(None if is_static else _max_tokens(files, weights), lowercase, not is_static)


def _max_tokens(files: VerifiedFiles, weights: str) -> int:
    """The smallest limit that the package states: sentence-transformers', the tokenizer's, the positions'."""
    config = json_beside(files, weights, "config.json")
    positions = config.get("max_position_embeddings") if isinstance(config, dict) else None
    if isinstance(positions, int) and config.get("model_type") in ("roberta", "xlm-roberta", "camembert"):
        positions -= 2  # their positions start behind the padding's
    sentence = json_beside(files, weights, "sentence_bert_config.json")
    stated = (
        sentence.get("max_seq_length") if isinstance(sentence, dict) else None,
        tokenizer_settings(files, weights).get("model_max_length"),
        positions,
    )
    limits = [int(limit) for limit in stated if isinstance(limit, int | float) and 0 < limit < _NO_LIMIT]
    return min(limits, default=_DEFAULT_TOKENS)


def token_vectors(outputs: dict[str, Array], where: str) -> Array:
    """The output that holds a vector for each token, (B, T, D).

    Raises:
        Unsupported: none or several could be it; they are listed.
    """
    for name in HIDDEN:
        if name in outputs:
            return outputs[name]
    found = [value for value in outputs.values() if value.ndim == 3]
    if len(found) != 1:
        shapes = ", ".join(f"{name} {value.shape}" for name, value in outputs.items())
        raise Unsupported(f"which output holds the token vectors? {shapes}", where=where)
    return found[0]
