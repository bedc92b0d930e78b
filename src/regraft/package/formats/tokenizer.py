"""Tokenizers: tokenizer.json and its companions, word lists, merges, SentencePiece models."""

from __future__ import annotations

import re
from typing import Any

from regraft.errors import Damaged
from regraft.package.formats.cursor import Cursor
from regraft.package.formats.interface import Description, Loading, Probe, Role
from regraft.package.limits import MAX_TEXT_BYTES

_CONFIG_KEYS = frozenset((
    "tokenizer_class", "model_max_length", "added_tokens_decoder", "chat_template", "clean_up_tokenization_spaces",
    "bos_token", "eos_token", "unk_token", "pad_token", "cls_token", "sep_token", "mask_token",
    "additional_special_tokens",
))  # fmt: skip
_CONFIG_NAMES = frozenset({"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"})
_MARKERS = frozenset({"[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]", "<unk>", "<s>", "</s>", "<pad>", "[unk]"})
_MERGE = re.compile(r"\S+ \S+")
_TIKTOKEN = re.compile(r"[A-Za-z0-9+/]+={0,2} \d+")
_MIN_WORDS = 20
_MAX_FACT_CHARS = 500


class TokenizerJson:
    """Format `tokenizer-json`."""

    name = "tokenizer-json"
    title = "tokenizer"
    role = Role.TOKENIZER
    loading = Loading.INERT
    suffixes = (".json",)

    def matches(self, probe: Probe) -> bool:
        """A JSON object with a tokenizer `model` and its stages."""
        fields = probe.json if b'"' in probe.head else None
        return (
            isinstance(fields, dict)
            and isinstance(fields.get("model"), dict)
            and bool(fields.keys() & {"pre_tokenizer", "added_tokens", "normalizer", "post_processor"})
        )

    def describe(self, probe: Probe) -> Description:
        """Algorithm, size of the vocabulary, special tokens."""
        fields = probe.json
        model = fields.get("model") if isinstance(fields, dict) else None
        if not isinstance(model, dict):
            raise Damaged("not a tokenizer", where=probe.reader.where)
        metadata = {"model": str(model.get("type", "unknown"))[:_MAX_FACT_CHARS]}
        if isinstance(model.get("vocab"), dict | list):
            metadata["vocab_size"] = str(len(model["vocab"]))
        if isinstance(model.get("merges"), list):
            metadata["merges"] = str(len(model["merges"]))
        for stage in ("normalizer", "pre_tokenizer", "post_processor", "decoder"):
            if isinstance(fields.get(stage), dict):
                metadata[stage] = str(fields[stage].get("type", "unknown"))[:_MAX_FACT_CHARS]
        added = fields.get("added_tokens")
        if isinstance(added, list):
            names = [str(token.get("content")) for token in added if isinstance(token, dict)]
            metadata["added_tokens"] = ", ".join(names[:50])[:_MAX_FACT_CHARS]
        version = fields.get("version")
        return Description(version=version[:40] if isinstance(version, str) else None, metadata=metadata)


class TokenizerConfig:
    """Format `tokenizer-config`: tokenizer_config.json, special_tokens_map.json, added_tokens.json."""

    name = "tokenizer-config"
    title = "tokenizer configuration"
    role = Role.TOKENIZER
    loading = Loading.INERT
    suffixes = (".json",)

    def matches(self, probe: Probe) -> bool:
        """A JSON object with a tokenizer's class or at least two of its settings; an empty one by its name."""
        fields = probe.json
        if not isinstance(fields, dict) or "model_type" in fields or "architectures" in fields:
            return False
        found = fields.keys() & _CONFIG_KEYS
        return "tokenizer_class" in found or len(found) >= 2 or probe.basename in _CONFIG_NAMES

    def describe(self, probe: Probe) -> Description:
        """Class, longest input, special tokens, `auto_map`, whether there is a chat template."""
        fields = probe.json
        if not isinstance(fields, dict):
            raise Damaged("not a tokenizer configuration", where=probe.reader.where)
        metadata = {}
        for key in ("tokenizer_class", "model_max_length", "do_lower_case", "padding_side", "truncation_side"):
            if isinstance(fields.get(key), str | int | float):
                metadata[key] = str(fields[key])[:_MAX_FACT_CHARS]
        for key in sorted(fields.keys() & _CONFIG_KEYS):
            if key.endswith("_token"):
                metadata[key] = _token(fields[key])
        if isinstance(fields.get("auto_map"), dict):
            metadata["auto_map"] = str(fields["auto_map"])[:_MAX_FACT_CHARS]
        template = fields.get("chat_template")
        if isinstance(template, str | list):
            metadata["chat_template"] = f"{len(template)} {'characters' if isinstance(template, str) else 'templates'}"
        return Description(metadata=metadata)


class Vocabulary:
    """Format `vocabulary`: word lists, JSON vocabularies, byte-pair merges, tiktoken ranks."""

    name = "vocabulary"
    title = "vocabulary"
    role = Role.TOKENIZER
    loading = Loading.INERT
    suffixes = (".txt", ".json", ".tiktoken", ".vocab")

    def matches(self, probe: Probe) -> bool:
        """One token a line with special tokens among them, numbered words, or pairs of pieces."""
        return _vocabulary(probe) is not None

    def describe(self, probe: Probe) -> Description:
        """Kind and number of entries."""
        found = _vocabulary(probe)
        if found is None:
            raise Damaged("not a vocabulary", where=probe.reader.where)
        return Description(metadata={"kind": found[0], "entries": str(found[1])})


class SentencePiece:
    """Format `sentencepiece`: a ModelProto. Source: sentencepiece_model.proto."""

    name = "sentencepiece"
    title = "SentencePiece model"
    role = Role.TOKENIZER
    loading = Loading.INERT
    suffixes = (".model", ".spm", ".spiece")

    def matches(self, probe: Probe) -> bool:
        """Protobuf that begins with a piece (text and score) and consists of a ModelProto's fields only."""
        return _starts_with_piece(probe.head) and _proto_fields(probe) is not None

    def describe(self, probe: Probe) -> Description:
        """Number of pieces and algorithm."""
        fields = _proto_fields(probe)
        if fields is None:
            raise Damaged("not a SentencePiece model", where=probe.reader.where)
        counts, algorithm = fields
        return Description(metadata={"pieces": str(counts.get(1, 0)), "algorithm": algorithm})


def _token(value: Any) -> str:
    content = value.get("content") if isinstance(value, dict) else value
    return str(content)[:100]


def _vocabulary(probe: Probe) -> tuple[str, int] | None:
    fields = probe.json
    if isinstance(fields, dict):
        return _numbered(fields)
    if fields is not None or probe.text is None:
        return None
    lines = probe.text.split("\n")
    if lines[-1] == "":
        lines.pop()
    body = lines[1:] if lines and lines[0].startswith("#version:") else lines
    if len(lines) < _MIN_WORDS:
        return None
    sample = body[:1000]
    if (len(body) < len(lines) or probe.basename == "merges.txt") and all(map(_MERGE.fullmatch, sample)):
        return "merges", len(body)
    if all(map(_TIKTOKEN.fullmatch, sample)) and sample[0].endswith(" 0"):
        return "tiktoken ranks", len(body)
    first_column = [line.rstrip("\r").split("\t")[0] for line in sample]
    is_marked = bool(_MARKERS.intersection(first_column))
    if is_marked and all(word and " " not in word.strip() for word in first_column[:200]):
        return "words", len(lines)
    return None


def _numbered(fields: dict[str, Any]) -> tuple[str, int] | None:
    """Words numbered without gaps."""
    count = len(fields)
    if count < _MIN_WORDS or any(type(number) is not int for number in fields.values()):
        return None
    numbers = fields.values()
    return (
        ("numbered words", count) if min(numbers) in (0, 1) and len(set(numbers)) == count > max(numbers) - 1 else None
    )


def _starts_with_piece(head: bytes) -> bool:
    """Field 1, length, then inside: field 1, length, text, field 2 (a float)."""
    if len(head) < 12 or head[0] != 0x0A or head[2] != 0x0A:
        return False
    piece_bytes = head[3]
    return head[1] >= piece_bytes + 2 and (
        head[1] == piece_bytes + 2 or head[4 + piece_bytes : 5 + piece_bytes] in (b"\x15", b"\x18")
    )


def _proto_fields(probe: Probe) -> tuple[dict[int, int], str] | None:
    """How often each field of the ModelProto occurs, and the trainer's algorithm; None for anything else."""
    if probe.reader.size > MAX_TEXT_BYTES:
        return None
    counts: dict[int, int] = {}
    algorithm = "unigram"
    try:
        raw = Cursor(probe.reader.read_all(limit=MAX_TEXT_BYTES))
        while raw.left:
            key = _varint(raw)
            if key & 7 != 2 or (key >> 3 > 5 and key >> 3 < 200):
                return None
            content = raw.take(_varint(raw))
            counts[key >> 3] = counts.get(key >> 3, 0) + 1
            if key >> 3 == 2:
                algorithm = _algorithm(content)
    except Damaged:
        return None
    return (counts, algorithm) if counts.get(1, 0) >= 3 else None


def _algorithm(trainer: bytes) -> str:
    """TrainerSpec.model_type, field 3; unigram is its default."""
    raw = Cursor(trainer)
    while raw.left:
        key = _varint(raw)
        kind = key & 7
        if key == 3 << 3:
            return {1: "unigram", 2: "bpe", 3: "word", 4: "char"}.get(_varint(raw), "unknown")
        if kind == 0:
            _varint(raw)
        elif kind in (1, 5):
            raw.skip(8 if kind == 1 else 4)
        elif kind == 2:
            raw.skip(_varint(raw))
        else:
            raise Damaged("a protobuf group where none belongs")
    return "unigram"


def _varint(raw: Cursor) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = raw.uint(1)
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value
    raise Damaged("a number longer than ten bytes")
