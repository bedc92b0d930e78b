"""Claim files: what is printed counts, and a stranger's claim names no code."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regraft.conceptual.claim import parse_claim, read_claim
from regraft.errors import RegraftError, UntrustedReference, UsageError

MINIMAL = (
    b'schema: regraft.claim/1\nmodel: m.onnx\ndata: d\nevaluation: voice-activity\nmetric: roc_auc\nvalue: "0.9958"\n'
)


@pytest.mark.parametrize(
    ("printed", "value", "half_digit"),
    [
        ("0.9958", 0.9958, 0.00005),
        ("0.9960", 0.996, 0.00005),
        (".729", 0.729, 0.0005),
        ("98.2 %", 0.982, 0.0005),
        ("98%", 0.98, 0.005),
        ("-0.10", -0.1, 0.005),
        ("1", 1.0, 0.5),
    ],
)
def test_half_of_the_last_printed_digit(printed: str, value: float, half_digit: float) -> None:
    claim = parse_claim(MINIMAL.replace(b"0.9958", printed.encode()))
    assert claim.value == pytest.approx(value, abs=1e-15)
    assert claim.half_digit == pytest.approx(half_digit, rel=1e-12)
    assert claim.printed == printed


def test_a_bare_number_is_refused_because_its_zeros_are_lost() -> None:
    with pytest.raises(UsageError) as caught:
        parse_claim(MINIMAL.replace(b'"0.9958"', b"0.9960"))
    assert "decimals" in caught.value.what
    assert caught.value.where == "claim:6"


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (b"metric: roc_auc", b"metrik: roc_auc", "unknown key 'metrik'"),
        (b"regraft.claim/1", b"regraft.claim/9", "schema"),
        (b'value: "0.9958"', b'value: "high"', "not a number"),
        (b'value: "0.9958"', b'value: "nan"', "not a number"),
        (b"data: d\n", b"", "data is missing"),
        (b"metric: roc_auc", b"metric: roc_auc\nsample: another", "sample"),
        (b"metric: roc_auc", b'metric: roc_auc\nmargin: "-0.1"', "below zero"),
        (b"metric: roc_auc", b"metric: roc_auc\nscoring: [1]", "not a mapping"),
    ],
)
def test_what_cannot_be_understood_is_told(before: bytes, after: bytes, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_claim(MINIMAL.replace(before, after))
    assert said in caught.value.what


def test_a_claim_of_somebody_else_names_no_code(claim_file: Callable[..., Path]) -> None:
    content = MINIMAL.replace(b"m.onnx", b"py:os:getcwd")
    with pytest.raises(UntrustedReference):
        parse_claim(content)
    path = claim_file(model="m.onnx", data="d", evaluation="e", metric="m", value='"1.0"')
    path.write_bytes(content)
    with pytest.raises(UntrustedReference):
        read_claim(path)
    assert read_claim(path, from_user=True).model.scheme == "py"
    path.write_bytes(MINIMAL.replace(b"data: d", b"data: py:os:getcwd"))
    with pytest.raises(UntrustedReference):
        read_claim(path, from_user=True)


def test_paths_start_from_the_folder_of_the_claim(claim_file: Callable[..., Path]) -> None:
    path = claim_file(model="m.onnx#inner", data="/d", evaluation="e", metric="m", value='"1.0"')
    claim = read_claim(path)
    assert claim.model.location == str(path.parent / "m.onnx")
    assert claim.model.inside == "inner"
    assert claim.data.location == "/d"


@given(st.binary(max_size=300) | st.builds(lambda at, byte: MINIMAL[:at] + byte + MINIMAL[at + 1 :],
       st.integers(0, len(MINIMAL)), st.binary(min_size=1, max_size=3)))  # fmt: skip
def test_no_bytes_lead_to_anything_but_an_expected_error(data: bytes) -> None:
    with contextlib.suppress(RegraftError):
        parse_claim(data)
