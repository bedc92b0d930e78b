"""Tokenizers of packages: `tokenizer.json`, or a vocabulary of word pieces. Data only; no tokenizer code is run."""

from __future__ import annotations

import json
import posixpath
from typing import TYPE_CHECKING, Any

from regraft.errors import Damaged, MissingExtra, Unsupported
from regraft.package.limits import MAX_TEXT_BYTES

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from regraft.package.package import Package
    from regraft.runtime.verified import VerifiedFiles

_BERT_TOKENS = ("[CLS]", "[SEP]", "[UNK]")
_BERT_SPECIAL = (*_BERT_TOKENS, "[PAD]", "[MASK]")
_MAX_TOKENIZER_BYTES = 64 << 20
_MAX_WORD = {"##": 100, "": 10_000}
"""Longest word by the prefix of continuations: BERT's own limit, and one that a molecule fits in."""


def tokenizer_path(package: Package, weights: str) -> str | None:
    """The tokenizer.json that belongs to weights: the one with the closest place and the most similar name.

    Args:
        package: open package.
        weights: path of the weights.
    """
    found = []
    for entry in package.entries:
        if entry.obstacle is None and entry.path.endswith(".json"):
            _, recognised = package.probe(entry.path)
            if recognised is not None and recognised.name == "tokenizer-json":
                found.append(entry.path)
    return min(found, key=lambda place: _distance(place, weights), default=None)


def load_tokenizer(files: VerifiedFiles, weights: str) -> Tokenizer:
    """The tokenizer of a model, with its own special tokens, without truncation and padding.

    Raises:
        Unsupported: the package has neither a tokenizer.json nor a vocabulary of word pieces.
        Damaged: the file is not what it should be.
        MissingExtra: tokenizers is not installed.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise MissingExtra("tokenizers", extra="text", where=weights) from error
    place = tokenizer_path(files.package, weights)
    if place is not None:
        try:
            tokenizer = Tokenizer.from_str(files.text(place, limit=_MAX_TOKENIZER_BYTES))
        except Exception as error:
            if type(error) is not Exception:  # the library raises bare Exceptions
                raise
            raise Damaged(f"not a tokenizer: {str(error)[:300]}", where=place) from error
    else:
        tokenizer = _word_pieces(files, weights)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _word_pieces(files: VerifiedFiles, weights: str) -> Tokenizer:
    """BERT's tokenizer over `vocab.txt`, as transformers builds it. A class of the package's own is not run.

    A vocabulary without continuations (`##`) was not made for word pieces, but lists whole symbols, as the
    atoms and bonds of chemistry: there, text is split at spaces alone and the longest symbol wins, anywhere.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    place = files.beside(weights, "vocab.txt")
    if place is None:
        raise Unsupported("the package has no tokenizer: no tokenizer.json, no vocab.txt", where=weights)
    tokens = files.text(place, limit=MAX_TEXT_BYTES).split("\n")
    vocabulary = {token.rstrip("\r"): i for i, token in enumerate(tokens) if token.strip()}
    missing = [token for token in _BERT_TOKENS if token not in vocabulary]
    if missing:
        raise Unsupported(f"vocab.txt is no BERT vocabulary: it lacks {', '.join(missing)}", where=place)
    settings = tokenizer_settings(files, weights)
    # pairs of letters of both cases mean that case carries information
    lower = bool(settings.get("do_lower_case", not any(token.isupper() and token.isalpha() for token in vocabulary)))
    has_continuations = any(token.startswith("##") for token in vocabulary)
    prefix = "##" if has_continuations else ""
    pieces = models.WordPiece(
        vocabulary,
        unk_token=_BERT_TOKENS[2],
        continuing_subword_prefix=prefix,
        max_input_chars_per_word=_MAX_WORD[prefix],
    )
    built = Tokenizer(pieces)
    built.normalizer = normalizers.BertNormalizer(lowercase=lower, strip_accents=settings.get("strip_accents"))
    built.pre_tokenizer = pre_tokenizers.BertPreTokenizer() if has_continuations else pre_tokenizers.WhitespaceSplit()
    built.post_processor = processors.BertProcessing(("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"]))
    built.decoder = decoders.WordPiece()
    built.add_special_tokens([token for token in _BERT_SPECIAL if token in vocabulary])
    return built


def tokenizer_settings(files: VerifiedFiles, weights: str) -> dict[str, Any]:
    """`tokenizer_config.json` beside the weights; empty when there is none.

    Raises:
        Damaged: it is not a JSON object.
    """
    settings = json_beside(files, weights, "tokenizer_config.json")
    if not isinstance(settings, dict):
        raise Damaged("tokenizer_config.json is not an object", where=weights)
    return settings


def json_beside(files: VerifiedFiles, path: str, name: str) -> Any:
    """A JSON file in the folder of another one, parsed; an empty object when there is none.

    Raises:
        Damaged: it is not JSON.
    """
    place = files.beside(path, name)
    if place is None:
        return {}
    try:
        return json.loads(files.text(place, limit=MAX_TEXT_BYTES))
    except (ValueError, RecursionError) as error:
        raise Damaged(f"not JSON: {error}", where=place) from None


def _distance(place: str, weights: str) -> tuple[int, int, str]:
    """Smaller is closer: folders not shared, then how little of the file names agrees."""
    ours, theirs = posixpath.dirname(weights).split("/"), posixpath.dirname(place).split("/")
    shared = 0
    for ours_part, theirs_part in zip(ours, theirs, strict=False):
        if ours_part != theirs_part:
            break
        shared += 1
    prefix = posixpath.commonprefix([posixpath.basename(weights), posixpath.basename(place)])
    return (len(ours) + len(theirs) - 2 * shared, -len(prefix), place)
