"""YAML from strangers: the plain core of it, with lines, and nothing that grows or constructs."""

from __future__ import annotations

import contextlib

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from regraft.record.bounded_yaml import YamlError, parse_yaml


def test_values_and_their_lines() -> None:
    value, lines = parse_yaml("a: 1\nb:\n  - x\n  - {c: 2.5, d: ~}\n\ne: |\n  text\n")
    assert value == {"a": 1, "b": ["x", {"c": 2.5, "d": None}], "e": "text\n"}
    assert lines["a",] == 1
    assert lines["b", 1, "c"] == 4
    assert lines["e",] == 6


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("no", "no"),
        ("on", "on"),
        ("True", True),
        ("FALSE", False),
        ("tRuE", "tRuE"),
        ("null", None),
        ("'1'", "1"),
        ("'true'", "true"),
        ("2026-01-01", "2026-01-01"),
        ("12:30:45", "12:30:45"),
        ("0x1F", "0x1F"),
        ("010", "010"),
        ("1_000", "1_000"),
        ("-17", -17),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("1.", 1.0),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("1.2.3", "1.2.3"),
        ("9" * 5000, "9" * 5000),
        ("[]", []),
        ("{}", {}),
    ],
)
def test_plain_scalars_follow_the_core_schema(text: str, value: object) -> None:
    result, _ = parse_yaml(text)
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("a: &x 1\nb: *x", "anchor", 1),
        ("a: 1\nb: !!python/object/apply:os.system [ls]", "tag", 2),
        ("a: !!binary aGk=", "tag", 1),
        ("a: 1\nb: 2\na: 3", "twice", 3),
        ("? [a]\n: 1", "key is a list", 1),
        ("a: [1", r".", None),
        ("a: 1\n\tb: 2", r".", 2),
        ("a: 1\n---\nb: 2", r".", None),
        ("1.0e400: 1\nb: 1e999", "too large", 2),
        ("[" * 60 + "]" * 60, "nested", 1),
        ("\0", r".", None),
        ("a: \ud800", r".", None),
        ("x" * (1 << 20) + "y", "more than", None),
        ("[" + "1," * 250_000 + "]", "more than", 1),
    ],
)
def test_what_is_not_allowed_is_refused_with_its_line(text: str, message: str, line: int | None) -> None:
    with pytest.raises(YamlError, match=message) as caught:
        parse_yaml(text)
    if line is not None:
        assert caught.value.line == line


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**15), 10**15)
    | st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "Z"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc-", min_size=1), inner, max_size=3),
    max_leaves=10,
)


@given(_VALUES)
def test_what_the_library_writes_is_read_back(value: object) -> None:
    class NoAlias(yaml.SafeDumper):
        def ignore_aliases(self, data: object) -> bool:
            return True

    assert parse_yaml(yaml.dump(value, Dumper=NoAlias, allow_unicode=True))[0] == value


@given(st.text(max_size=60) | st.text("[]{}:,-&*!|>'\"%@#? \n\tab1", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(YamlError):
        parse_yaml(text)
