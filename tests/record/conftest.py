"""Evidence to work with."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from regraft.record.digest import Digest
from regraft.record.evidence import DigestKind, Draft, Evidence, Record, Subject, Verdict


def digest_of(text: str) -> Digest:
    return Digest(hashlib.sha256(text.encode()).hexdigest())


@pytest.fixture
def make_evidence() -> Callable[..., Evidence]:
    """Evidence about the package `package`, by its text; other arguments replace fields."""

    def make(
        kind: str = "scan",
        package: str = "model",
        *,
        verdict: Verdict = Verdict.PASS,
        digest: DigestKind = DigestKind.COMPUTED,
        materials: Sequence[str] = (),
        **fields: Any,
    ) -> Evidence:
        draft = Draft(kind)
        draft.subject.append(Subject(package, digest_of(package), digest))
        draft.materials += [Subject(name, digest_of(name)) for name in materials]
        evidence = draft.finish(outcome="safe", summary=f"{kind} of {package}", verdict=verdict)
        return msgspec.structs.replace(evidence, **fields)

    return make


@pytest.fixture
def make_record(make_evidence: Callable[..., Evidence]) -> Callable[..., Record]:
    def make(*arguments: Any, **fields: Any) -> Record:
        evidence = make_evidence(*arguments, **fields)
        return Record(evidence.digest, evidence)

    return make


@pytest.fixture
def digest() -> Callable[[str], Digest]:
    return digest_of
