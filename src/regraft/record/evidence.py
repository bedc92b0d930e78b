"""Evidence: the immutable record in which every verb ends (schema `regraft.evidence/1`)."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from regraft.record.digest import Digest, digest_bytes
from regraft.record.environment import Environment, capture_environment

if TYPE_CHECKING:
    JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"
else:
    JSON = Any

SCHEMA = "regraft.evidence/1"


class Verdict(StrEnum):
    """The three-valued judgement: what could not be checked is never a pass."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"

    @property
    def exit_code(self) -> int:
        """Exit status of a command that ends in this verdict (DESIGN 4.1)."""
        return {Verdict.PASS: 0, Verdict.FAIL: 1, Verdict.INCONCLUSIVE: 3}[self]


def combine(verdicts: Iterable[Verdict]) -> Verdict:
    """Aggregate verdicts: fail over inconclusive over pass; of nothing, inconclusive."""
    seen = set(verdicts)
    for verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE):
        if verdict in seen:
            return verdict
    return Verdict.PASS if seen else Verdict.INCONCLUSIVE


class Severity(StrEnum):
    """How much a finding weighs. `critical` and `high` fail, `unknown` is inconclusive, the rest are notes."""

    CRITICAL = "critical"
    HIGH = "high"
    UNKNOWN = "unknown"
    MEDIUM = "medium"
    LOW = "low"
    INFO = "info"

    @property
    def verdict(self) -> Verdict:
        """The verdict that a single finding of this severity demands."""
        if self in (Severity.CRITICAL, Severity.HIGH):
            return Verdict.FAIL
        return Verdict.INCONCLUSIVE if self is Severity.UNKNOWN else Verdict.PASS


class DigestKind(StrEnum):
    """Where a digest comes from."""

    COMPUTED = "computed"
    """From all the bytes."""
    DECLARED = "declared"
    """By an index, a RECORD file or an LFS pointer; the bytes were not hashed here."""
    PARTIAL = "partial"
    """A range read saw only some bytes; the digest covers the size, the head and the tail."""


class Subject(msgspec.Struct, frozen=True):
    """Something that evidence speaks of, by name and digest."""

    name: str
    sha256: Digest
    digest: DigestKind = DigestKind.COMPUTED


class Where(msgspec.Struct, frozen=True, omit_defaults=True):
    """The place of a finding: file in the package, member in a container (`a.zip!b.pkl`), byte offset or line."""

    file: str | None = None
    member: str | None = None
    offset: int | None = None
    line: int | None = None
    field: str | None = None


class Finding(msgspec.Struct, frozen=True):
    """One thing that was seen, under a stable rule id."""

    rule: str
    severity: Severity
    message: str
    where: Where = Where()
    data: dict[str, JSON] = {}
    fix: str | None = None


class Measurement(msgspec.Struct, frozen=True):
    """A number with unit, interval (`low`, `high`) and sample size; None where it is not known or not finite."""

    name: str
    value: float | int | None
    unit: str
    low: float | int | None = None
    high: float | int | None = None
    n: int | None = None
    of: dict[str, JSON] = {}


class Artifact(msgspec.Struct, frozen=True):
    """A file that the step produced, by the digest under which the store keeps it."""

    name: str
    sha256: Digest
    media_type: str = "application/octet-stream"


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What one step found out about one package: immutable, self-contained, tied to digests.

    `subject[0]` is the package that was judged or produced, by its package digest; the files it
    consists of follow. `materials` are the inputs. Source: DESIGN 4.2.
    """

    schema: str = SCHEMA
    kind: str
    verdict: Verdict
    outcome: str
    summary: str
    subject: tuple[Subject, ...]
    materials: tuple[Subject, ...] = ()
    findings: tuple[Finding, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    parameters: dict[str, JSON] = {}
    environment: Environment
    started: str
    seconds: float

    def to_json(self) -> bytes:
        """The record as JSON bytes: the form that is hashed, stored and signed."""
        return msgspec.json.encode(self)

    @property
    def digest(self) -> Digest:
        """SHA-256 of `to_json()`."""
        return digest_bytes(self.to_json())


def evidence_from_json(data: bytes) -> Evidence:
    """Parse a record.

    Raises:
        ValueError: not JSON, not this schema, or a field of the wrong type (msgspec.ValidationError).
    """
    evidence = msgspec.json.decode(data, type=Evidence)
    if evidence.schema != SCHEMA:
        raise ValueError(f"evidence schema {evidence.schema!r} is not {SCHEMA!r}")
    return evidence


class Draft:
    """Evidence in the making: collects findings and measurements, then `finish` freezes them.

    Args:
        kind: the verb.
        parameters: options that shaped the result, JSON values only.
    """

    def __init__(self, kind: str, *, parameters: dict[str, JSON] | None = None) -> None:
        self.kind = kind
        self.parameters = dict(parameters or {})
        self.subject: list[Subject] = []
        self.materials: list[Subject] = []
        self.findings: list[Finding] = []
        self.measurements: list[Measurement] = []
        self.artifacts: list[Artifact] = []
        self._started = datetime.now(UTC)
        self._clock = time.perf_counter()

    def find(self, finding: Finding) -> None:
        """Add a finding."""
        self.findings.append(finding)

    def measure(self, name: str, value: float | int, unit: str, **details: Any) -> None:
        """Add a measurement; a value or bound that is not finite becomes null and a finding."""
        bounds = {key: details.pop(key, None) for key in ("low", "high")}
        if any(isinstance(v, float) and not math.isfinite(v) for v in (value, *bounds.values())):
            self.find(
                Finding(
                    rule="RGE-NUM-001",
                    severity=Severity.UNKNOWN,
                    message=f"{name} is not a finite number",
                    where=Where(field=name),
                    data={"value": str(value)},
                )
            )
        self.measurements.append(
            Measurement(
                name,
                _finite(value),
                unit,
                low=_finite(bounds["low"]),
                high=_finite(bounds["high"]),
                **details,
            )
        )

    @property
    def verdict(self) -> Verdict:
        """What the findings so far amount to; pass when there is none."""
        return combine([Verdict.PASS, *(finding.severity.verdict for finding in self.findings)])

    def finish(self, *, outcome: str, summary: str, verdict: Verdict | None = None) -> Evidence:
        """Freeze the draft.

        Args:
            outcome: the verb's own word for the verdict.
            summary: one sentence for a human.
            verdict: default: what the findings amount to.
        """
        return Evidence(
            kind=self.kind,
            verdict=self.verdict if verdict is None else verdict,
            outcome=outcome,
            summary=summary,
            subject=tuple(self.subject),
            materials=tuple(self.materials),
            findings=tuple(self.findings),
            measurements=tuple(self.measurements),
            artifacts=tuple(self.artifacts),
            parameters=self.parameters,
            environment=capture_environment(),
            started=self._started.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            seconds=round(time.perf_counter() - self._clock, 6),
        )


def _finite(value: float | int | None) -> float | int | None:
    return None if isinstance(value, float) and not math.isfinite(value) else value
