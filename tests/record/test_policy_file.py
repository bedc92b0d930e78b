"""Policy files: what they mean, and how they complain."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regraft.errors import AccessDenied, NotFound, PolicyError
from regraft.record.evidence import DigestKind, Severity, Verdict
from regraft.record.policy import About
from regraft.record.policy_file import parse_policy, read_policy

_FULL = b"""\
schema: regraft.policy/1
name: production
evidence:
  scan: {verdict: pass, max_severity: medium, max_age: 30 d}
  bench:
    digest: declared
    verdict: [pass, inconclusive]
    measurements:
      - latency_p95.high <= 20 ms
      - {that: top-1 >= 70 %, of: {runtime: onnxruntime}}
  adapt: {about: lineage}
licences: [MIT, Apache-2.0]
"""


def test_every_word_of_the_language(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_bytes(_FULL)
    policy = read_policy(path)
    assert policy.name == "production"
    assert policy.digest == hashlib.sha256(_FULL).hexdigest()
    assert policy.licences == ("MIT", "Apache-2.0")
    scan, bench, adapt = policy.demands
    assert (scan.kind, scan.verdicts, scan.digest) == ("scan", (Verdict.PASS,), DigestKind.COMPUTED)
    assert (scan.about, adapt.about) == (About.PACKAGE, About.LINEAGE)
    assert (scan.max_severity, scan.max_age_s, scan.line) == (Severity.MEDIUM, 30 * 86400, 4)
    assert (bench.verdicts, bench.digest) == ((Verdict.PASS, Verdict.INCONCLUSIVE), DigestKind.DECLARED)
    first, second = bench.measurements
    assert (first.name, first.bound, first.comparison, first.limit, first.unit) == (
        "latency_p95",
        "high",
        "<=",
        20,
        "ms",
    )
    assert (second.name, second.bound, second.of, second.line) == ("top-1", None, {"runtime": "onnxruntime"}, 10)


@pytest.mark.parametrize(
    ("old", "new", "line", "what", "hint"),
    [
        ("schema: regraft.policy/1\n", "", None, "schema", "schema: regraft.policy/1"),
        ("policy/1", "policy/2", 1, "schema", ""),
        ("evidence:", "evidnece:", 3, "'evidnece'", "'evidence'"),
        ("  scan:", "  scam:", 4, "'scam'", "'scan'"),
        ("max_severity", "max_serverity", 4, "'max_serverity'", "'max_severity'"),
        ("medium", "mediun", 4, "'mediun'", "'medium'"),
        ("verdict: pass,", "verdict: passed,", 4, "'passed'", "'pass'"),
        ("[pass, inconclusive]", "[pass, maybe]", 7, "'maybe'", "known: pass"),
        ("[pass, inconclusive]", "{}", 7, "a mapping", ""),
        ("declared", "1", 6, "digest is 1", "known: computed"),
        ("30 d", "30", 4, "not a duration", "30 d"),
        ("30 d", "30 MB", 4, "not a duration", "30 d"),
        ("30 d", "1.2.3 d", 4, "not a duration", "30 d"),
        ("<= 20 ms", "<= 20 mss", 9, "unknown unit 'mss'", "'ms'"),
        ("<= 20 ms", "== 20 ms", 9, "not a comparison", "latency_p95.high"),
        ("<= 20 ms", "<= fast", 9, "not a comparison", ""),
        ("<= 20 ms", "<= 1e999 ms", 9, "not a comparison", ""),
        ("_p95.high", "_p95.value", 9, "a point is not compared", "latency_p95.low"),
        ("- latency_p95.high <= 20 ms", "- 3", 9, "3 is not a comparison", ""),
        ("that:", "taht:", 10, "'taht'", "'that'"),
        ("of: {runtime: onnxruntime}", "of: onnx", 10, "of is a text", ""),
        ("{verdict: pass,", "{about: lineage,", 4, "what scan finds out", "adapt"),
        ("digest: declared", "about: lineag", 6, "about is 'lineag'", "'lineage'"),
        ("[MIT, Apache-2.0]", "MIT", 12, "not a list", "[MIT"),
        ("[MIT, Apache-2.0]", "[]", 12, "not a list", ""),
        ("[MIT, Apache-2.0]", "[MIT, 3]", 12, "not a text", ""),
        ("name: production", "name: [1]", 2, "name is a list", ""),
        ("name: production", "name: &a x", 2, "anchor", "for example"),
        ("name: production", "name: !x y", 2, "tag", "for example"),
        ("licences:", "name:", 12, "twice", ""),
        ("production", "x\nname: y", 3, "twice", ""),
    ],
)
def test_complaints_have_the_line_and_the_nearest_word(
    old: str, new: str, line: int | None, what: str, hint: str
) -> None:
    text = _FULL.decode()
    assert old in text
    with pytest.raises(PolicyError) as caught:
        parse_policy(text.replace(old, new, 1).encode(), name="p.yaml")
    assert what in caught.value.what
    assert hint in caught.value.hint
    assert caught.value.where == (f"p.yaml:{line}" if line else caught.value.where)
    assert caught.value.where.startswith("p.yaml")


@pytest.mark.parametrize("data", [b"", b"[]", b"3", b"schema: regraft.policy/1", b"\xff\xfe", b"a: [", b"\0" * 10])
def test_no_policy_at_all(data: bytes) -> None:
    with pytest.raises(PolicyError):
        parse_policy(data)


def test_a_policy_that_demands_nothing_allows_everything_and_is_refused() -> None:
    with pytest.raises(PolicyError, match="demands nothing"):
        parse_policy(b"schema: regraft.policy/1\nname: lax\nevidence: {}")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        read_policy(tmp_path / "absent.yaml")
    with pytest.raises(AccessDenied):
        read_policy(tmp_path)


@given(st.integers(0, len(_FULL) - 1), st.binary(max_size=4), st.integers(0, 8))
def test_a_damaged_policy_is_a_policy_error_or_a_policy(position: int, noise: bytes, cut: int) -> None:
    with contextlib.suppress(PolicyError):
        parse_policy(_FULL[:position] + noise + _FULL[position + cut :])
