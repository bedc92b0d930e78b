"""The published schema: current, a schema, and true of real records."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from regraft.record.evidence import DigestKind, Evidence, Finding, Measurement, Severity, Verdict, Where
from regraft.record.schema import evidence_schema

_PUBLISHED = Path(__file__).parents[2] / "docs/reference/evidence.schema.json"


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = json.loads(evidence_schema())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_published_file_is_current() -> None:
    renew = "python -m regraft.record.schema > docs/reference/evidence.schema.json"
    assert _PUBLISHED.read_bytes() == evidence_schema(), renew


def test_records_meet_it(validator: jsonschema.Draft202012Validator, make_evidence: Callable[..., Evidence]) -> None:
    full = make_evidence(
        verdict=Verdict.FAIL,
        digest=DigestKind.PARTIAL,
        materials=["a"],
        findings=(Finding("R", Severity.HIGH, "m", Where(file="f", offset=1), {"a": [1, None, {"b": 2.5}]}, "fix"),),
        measurements=(Measurement("m", None, "ms", low=1, high=2.5, n=3, of={"batch": 1}),),
        parameters={"x": [True, None]},
    )
    for evidence in (full, make_evidence(), make_evidence(subject=())):
        validator.validate(json.loads(evidence.to_json()))


@pytest.mark.parametrize(
    "change", [{"schema": "regraft.evidence/2"}, {"verdict": "ok"}, {"subject": [{"name": "a", "sha256": "x"}]}]
)
def test_other_records_do_not(
    change: dict, validator: jsonschema.Draft202012Validator, make_evidence: Callable[..., Evidence]
) -> None:
    record = json.loads(make_evidence().to_json()) | change
    assert not validator.is_valid(record)
    del record["schema"]
    assert not validator.is_valid(record)
