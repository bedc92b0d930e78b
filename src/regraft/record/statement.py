"""The stored form of evidence: an in-toto Statement v1, and what a DSSE signature of it covers."""

from __future__ import annotations

from typing import Any

import msgspec

from regraft.record.digest import Digest
from regraft.record.evidence import DigestKind, Evidence, Subject, evidence_from_json

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://regraft.dev/evidence/v1"
"""Says that the predicate is a record of the schema `regraft.evidence/1`. An identifier, never fetched."""
PAYLOAD_TYPE = "application/vnd.in-toto+json"

_ALGORITHMS = {
    DigestKind.COMPUTED: "sha256",
    DigestKind.DECLARED: "regraft.declared-sha256",
    DigestKind.PARTIAL: "regraft.partial-sha256",
}


class _Statement(msgspec.Struct, frozen=True):
    type_: str = msgspec.field(name="_type")
    subject: list[dict[str, Any]]
    predicateType: str  # noqa: N815 - the field's name in the standard
    predicate: msgspec.Raw


def statement_from_evidence(evidence: Evidence) -> bytes:
    """The Statement about the evidence's subjects whose predicate is the evidence itself.

    A digest that was computed from all the bytes stands under `sha256`, where any verifier finds it.
    A declared or partial one stands under a name of its own (`regraft.declared-sha256`,
    `regraft.partial-sha256`), with an annotation: nobody else may take it for a hash of the content.

    Source: in-toto attestation framework v1, spec/v1/statement.md and digest_set.md.
    """
    statement = _Statement(
        STATEMENT_TYPE,
        [_resource(subject) for subject in evidence.subject],
        PREDICATE_TYPE,
        msgspec.Raw(evidence.to_json()),
    )
    return msgspec.json.encode(statement)


def evidence_from_statement(data: bytes) -> Evidence:
    """The evidence inside a Statement.

    Raises:
        ValueError: not such a Statement, or it speaks of other subjects than its predicate.
    """
    try:
        statement = msgspec.json.decode(data, type=_Statement)
    except RecursionError as error:
        raise ValueError("not a statement: nested too deeply") from error
    if statement.type_ != STATEMENT_TYPE:
        raise ValueError(f"the statement type {statement.type_[:100]!r} is not {STATEMENT_TYPE!r}")
    if statement.predicateType != PREDICATE_TYPE:
        raise ValueError(f"the predicate type {statement.predicateType[:100]!r} is not {PREDICATE_TYPE!r}")
    evidence = evidence_from_json(statement.predicate)
    if statement.subject != [_resource(subject) for subject in evidence.subject]:
        raise ValueError("the statement's subjects are not those of its predicate")
    return evidence


def pre_authentication_encoding(statement: bytes) -> bytes:
    """The bytes that a DSSE signature of a Statement covers.

    Source: DSSE v1.0.2, protocol.md: PAE(type, body) = "DSSEv1" SP len SP type SP len SP body.
    """
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(statement), statement)


def _resource(subject: Subject) -> dict[str, Any]:
    resource: dict[str, Any] = {"name": subject.name, "digest": {_ALGORITHMS[subject.digest]: Digest(subject.sha256)}}
    if subject.digest is not DigestKind.COMPUTED:
        resource["annotations"] = {"regraft.digest": subject.digest.value}
    return resource
