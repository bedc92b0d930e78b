"""Text that carries data, and plain text last."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from regraft.errors import Damaged
from regraft.package.formats import recognise
from regraft.package.formats.data_text import Json, Markdown, PlainText, StructuredText, Table
from regraft.package.formats.interface import Probe
from regraft.package.limits import MAX_TEXT_BYTES
from regraft.package.reader import BytesReader


def facts(data: bytes, name: str) -> tuple[str | None, dict[str, str]]:
    probe = Probe(BytesReader(data, where="x"), name)
    member = recognise(probe)
    return (None, {}) if member is None else (member.name, member.describe(probe).metadata)


@pytest.mark.parametrize(
    ("data", "name", "expected", "fact"),
    [
        (b"", "x.dat", "empty", {}),
        (b'{"a": 1}', "x", "json", {"keys": "a"}),
        (b"[1, 2]", "x", "json", {"entries": "2"}),
        (b'{"a": 1}\n{"a": 2}\n', "x", "structured-text", {"kind": "json lines"}),
        (b"# comment\na:\n  - 1\n", "x.yaml", "structured-text", {"kind": "yaml"}),
        (b'[tool.x]\ny = "z"\n', "x.toml", "structured-text", {"kind": "toml"}),
        (b"[section]\nkey = value\n", "x.cfg", "structured-text", {"kind": "ini"}),
        (b'<?xml version="1.0"?><net name="x"/>', "x", "structured-text", {"kind": "xml"}),
        (b"<!DOCTYPE html><p>", "x", "structured-text", {"kind": "html"}),
        (b"a,b\n1,2\n", "x.csv", "table", {"separator": "comma", "columns": "2", "first_row": "a, b"}),
        (b"a\tb\n1\t2\n", "x.txt", "table", {"separator": "tab", "columns": "2", "first_row": "a, b"}),
        (b"# Heading\n\ntext\n", "x.md", "markdown", {"heading": "Heading"}),
        ("Grüße\n".encode(), "x", "text", {"lines": "2"}),
    ],
)
def test_kinds(data: bytes, name: str, expected: str, fact: dict[str, str]) -> None:
    assert facts(data, name) == (expected, fact)


@pytest.mark.parametrize("data", [b"\x00\x01\x02\x03" * 9, b"\xff\xfe\xfd" * 9, bytes(range(1, 32))])
def test_binary_is_not_text(data: bytes) -> None:
    probe = Probe(BytesReader(data, where="x"), "x.txt")
    assert not any(member.matches(probe) for member in (PlainText(), Table(), StructuredText(), Json(), Markdown()))


def test_a_character_may_be_cut_at_the_end_of_the_head() -> None:
    data = b"a" * 4095 + "é".encode() + b"rest"
    assert PlainText().matches(Probe(BytesReader(data, where="x"), "x"))


def test_json_that_is_too_large_to_parse_is_named_by_its_beginning() -> None:
    large = b'[\n  "' + b"a" * MAX_TEXT_BYTES + b'"\n]'
    assert facts(large, "strings.json") == ("json", {"unparsed": "more than 16 MiB"})
    lines = b'{"a": 1}\n' * (MAX_TEXT_BYTES // 9 + 1)
    assert facts(lines, "x.json")[0] == "structured-text"


def test_deep_json_is_not_json() -> None:
    assert not Json().matches(Probe(BytesReader(b"[" * 200_000 + b"]" * 200_000, where="x"), "x.json"))


def test_damage_never_escapes(hammer: Callable[..., int]) -> None:
    for member, data, name in (
        (Table(), b'a,"b"\n1,2\n' * 9, "x.csv"), (StructuredText(), b"a: 1\nb: 2\n", "x.yaml"),
        (Json(), b'{"a": [1, 2, {"b": null}]}', "x.json"), (Markdown(), b"# A\n```\nx\n```\n", "x.md"),
    ):  # fmt: skip
        hammer(member, data, name=name, rounds=90)


@pytest.mark.parametrize("cut", [2, 9, 17, 24, 30, 41])
def test_json_that_ends_in_the_middle_is_damaged_json(cut: int) -> None:
    text = b'{"key": [1, 25, true], "other": {"a": "b"}}'
    probe = Probe(BytesReader(text[:cut], where="x"), "config.json")
    assert isinstance(recognise(probe), Json)
    with pytest.raises(Damaged):
        Json().describe(probe)


@pytest.mark.parametrize(
    "text", [b'{"a": 1, // why\n "b": 2}', b'{"a": 1}\n{"a": 2}\n', b"[" * 100_000, b"[section]\nkey = 1"]
)
def test_another_dialect_is_not_taken_for_damage(text: bytes) -> None:
    assert not Json().matches(Probe(BytesReader(text, where="x"), "tsconfig.json"))
