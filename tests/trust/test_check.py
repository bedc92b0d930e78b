"""check: allowed, refused or undecided, and what that stands on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from regraft.errors import NotFound, PolicyError
from regraft.package.package import open_package
from regraft.record.digest import digest_bytes
from regraft.record.evidence import DigestKind, Draft, Severity, Verdict, evidence_from_json
from regraft.record.passport import read_passport
from regraft.record.store import Store, open_store
from regraft.trust.check import check
from regraft.workflow.inspect import inspect

_POLICY = b"schema: regraft.policy/1\nname: house rules\nevidence:\n  scan: {verdict: pass}\n"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    path.mkdir()
    (path / "model.bin").write_bytes(b"weights")
    return path


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_bytes(_POLICY)
    return path


@pytest.fixture
def scanned() -> Callable[..., str]:
    """Puts scan evidence about a folder into a store."""

    def scan(model: Path, store: Store, verdict: Verdict = Verdict.PASS) -> str:
        with open_package(model) as package:
            draft = Draft("scan")
            draft.subject += package.subjects(package.manifest())
        return store.put_evidence(draft.finish(outcome="x", summary=f"scan says {verdict}", verdict=verdict))

    return scan


@pytest.mark.parametrize(
    ("verdict", "outcome"),
    [(Verdict.PASS, "allowed"), (Verdict.FAIL, "refused"), (Verdict.INCONCLUSIVE, "undecided")],
)
def test_the_outcome_follows_the_evidence(
    verdict: Verdict, outcome: str, model: Path, policy: Path, scanned: Callable[..., str]
) -> None:
    digest = scanned(model, open_store(), verdict)
    evidence = check(model, policy)
    assert (evidence.kind, evidence.verdict, evidence.outcome) == ("check", verdict, outcome)
    assert [material.sha256 for material in evidence.materials] == [digest_bytes(_POLICY), digest]
    assert [subject.name for subject in evidence.subject] == ["model", "model.bin"]
    assert evidence.subject[0].digest is DigestKind.COMPUTED
    assert "house rules" in evidence.summary
    assert evidence_from_json(evidence.to_json()) == evidence
    assert open_store().put_evidence(evidence)


def test_without_evidence_it_is_undecided_and_says_what_to_run(model: Path, policy: Path) -> None:
    evidence = check(model, policy)
    assert evidence.outcome == "undecided"
    (finding,) = evidence.findings
    assert finding.severity is Severity.UNKNOWN
    assert "regraft scan" in (finding.fix or "")


def test_evidence_about_the_bytes_as_they_were_does_not_count(
    model: Path, policy: Path, scanned: Callable[..., str]
) -> None:
    scanned(model, open_store())
    (model / "model.bin").write_bytes(b"other weights")
    assert check(model, policy).outcome == "undecided"


def test_a_digest_a_passport_and_an_open_package_will_do_too(
    model: Path, policy: Path, tmp_path: Path, scanned: Callable[..., str]
) -> None:
    store = Store(tmp_path / "other store")
    scanned(model, store)
    with open_package(model) as package:
        digest = package.manifest().digest
        assert check(package, policy, store=store).outcome == "allowed"
    by_digest = check(digest, policy, store=store)
    assert by_digest.outcome == "allowed"
    assert by_digest.subject[0].digest is DigestKind.DECLARED
    assert check(read_passport(store, digest), policy).outcome == "allowed"
    assert check(digest, policy).outcome == "undecided"


def test_what_cannot_be_used(model: Path, policy: Path) -> None:
    with pytest.raises(NotFound):
        check(model, policy.with_name("absent.yaml"))
    with pytest.raises(NotFound):
        check(model / "absent", policy)
    policy.write_text("schema: regraft.policy/1\nevidence: {scna: {}}")
    with pytest.raises(PolicyError, match="scna"):
        check(model, policy)


def test_licences_come_from_what_inspect_found(model: Path, policy: Path) -> None:
    (model / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n# A model\n")
    policy.write_text("schema: regraft.policy/1\nlicences: [MIT]")
    open_store().put_evidence(inspect(model, compute_digest=True).evidence)
    evidence = check(model, policy)
    assert evidence.outcome == "refused"
    assert "CC-BY-NC-4.0" in evidence.summary
    policy.write_text("schema: regraft.policy/1\nlicences: [MIT, CC-BY-NC-4.0]")
    assert check(model, policy).outcome == "allowed"


def test_evidence_about_what_it_was_converted_from_is_found_in_the_store(
    model: Path, policy: Path, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "model.bin").write_bytes(b"weights before")
    policy.write_text(
        "schema: regraft.policy/1\nevidence:\n  adapt: {about: lineage, measurements: [accuracy_gain.low > 0 points]}\n"
    )
    store = open_store()

    def put(kind: str, about: Path, *, of: Path | None = None) -> None:
        draft = Draft(kind)
        with open_package(about) as package:
            draft.subject += package.subjects(package.manifest())
        if of is not None:
            with open_package(of) as package:
                draft.materials += package.subjects(package.manifest())
        if kind == "adapt":
            draft.measure("accuracy_gain", 5.9, "points", low=3.4, high=8.3, n=2000)
        store.put_evidence(draft.finish(outcome="x", summary=f"{kind} of {about.name}"))

    put("adapt", source)
    put("convert", model, of=source)
    assert check(model, policy).outcome == "undecided", "nothing ties the two yet"
    put("verify", model, of=source)
    allowed = check(model, policy)
    assert allowed.outcome == "allowed"
    kinds = [material.name for material in allowed.materials[1:]]
    assert kinds == ["adapt evidence", "convert evidence", "verify evidence"]
    (source / "model.bin").write_bytes(b"other weights before")
    put("verify", model, of=source)  # a comparison with other bytes says nothing about those before
    assert check(model, policy).outcome == "allowed"
