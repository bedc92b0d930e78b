"""The stored form, against the in-toto and DSSE specifications."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from google.protobuf import json_format
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement
from securesystemslib.dsse import Envelope

from regraft.record.evidence import DigestKind, Evidence
from regraft.record.statement import (
    PAYLOAD_TYPE,
    evidence_from_statement,
    pre_authentication_encoding,
    statement_from_evidence,
)


def test_the_reference_library_accepts_it(make_evidence: Callable[..., Evidence]) -> None:
    for kind in DigestKind:
        data = statement_from_evidence(make_evidence(digest=kind))
        parsed = json_format.Parse(data, statement_pb2.Statement())
        Statement.copy_from_pb(parsed).validate()


def test_the_predicate_is_the_record_byte_for_byte(make_evidence: Callable[..., Evidence]) -> None:
    evidence = make_evidence()
    data = statement_from_evidence(evidence)
    assert data.endswith(b'"predicate":' + evidence.to_json() + b"}")
    assert evidence_from_statement(data) == evidence


@pytest.mark.parametrize("kind", [DigestKind.DECLARED, DigestKind.PARTIAL])
def test_only_a_computed_digest_is_called_sha256(kind: DigestKind, make_evidence: Callable[..., Evidence]) -> None:
    (computed,) = json.loads(statement_from_evidence(make_evidence()))["subject"]
    assert list(computed["digest"]) == ["sha256"]
    assert "annotations" not in computed
    (weaker,) = json.loads(statement_from_evidence(make_evidence(digest=kind)))["subject"]
    assert list(weaker["digest"]) == [f"regraft.{kind}-sha256"]
    assert weaker["annotations"] == {"regraft.digest": kind.value}


@pytest.mark.parametrize(
    "change",
    [
        {"_type": "https://in-toto.io/Statement/v0.1"},
        {"predicateType": "https://slsa.dev/provenance/v1"},
        {"subject": []},
        {"subject": [{"name": "other", "digest": {"sha256": "00" * 32}}]},
        {"predicate": {}},
    ],
)
def test_other_statements_are_refused(change: dict[str, object], make_evidence: Callable[..., Evidence]) -> None:
    fields = json.loads(statement_from_evidence(make_evidence())) | change
    with pytest.raises(ValueError, match=r"."):
        evidence_from_statement(json.dumps(fields).encode())


def test_deep_nesting_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="nested"):
        evidence_from_statement(b'{"_type":"a","subject":[{"digest":' + b"[" * 200_000)


def test_the_signed_bytes_are_those_of_dsse(make_evidence: Callable[..., Evidence]) -> None:
    data = statement_from_evidence(make_evidence(package="modèle"))
    assert pre_authentication_encoding(data) == Envelope(data, PAYLOAD_TYPE, {}).pae()
