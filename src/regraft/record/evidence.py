"""Evidence: the immutable record in which every verb ends (schema `regraft.evidence/1`)."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar

import msgspec

from regraft.record.digest import Digest, digest_bytes
from regraft.record.environment import Environment, capture_environment

if TYPE_CHECKING:
    JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"
else:
    JSON = Any

SCHEMA = "regraft.evidence/1"

Sha256 = Annotated[Digest, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
"""A digest, checked when it is read from JSON."""

_MAX_INTEGER = 1 << 63
_S = TypeVar("_S", bound=msgspec.Struct)


class Verdict(StrEnum):
    """The three-valued judgement: what could not be checked is never a pass."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"

    @property
    def exit_code(self) -> int:
        """Exit status of a command that ends in this verdict (docs/explanation/verdicts.md)."""
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
    sha256: Sha256
    digest: DigestKind = DigestKind.COMPUTED


class Where(msgspec.Struct, frozen=True, omit_defaults=True):
    """The place of a finding: file in the package, member in a container (`a.zip!b.pkl`), byte offset or line.

    `reference` and `candidate` are operators or tensors of two networks that are compared.
    """

    file: str | None = None
    member: str | None = None
    offset: int | None = None
    line: int | None = None
    field: str | None = None
    reference: str | None = None
    candidate: str | None = None


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
    n: Annotated[int, msgspec.Meta(ge=0)] | None = None
    of: dict[str, JSON] = {}


class Artifact(msgspec.Struct, frozen=True):
    """A file that the step produced, by the digest under which the store keeps it."""

    name: str
    sha256: Sha256
    media_type: str = "application/octet-stream"


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What one step found out about one package: immutable, self-contained, tied to digests.

    `subject[0]` is the package that was judged or produced, by its package digest; the files it
    consists of follow. `materials` are the inputs. See docs/explanation/evidence.md.
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

    def __repr__(self) -> str:
        return f"Evidence({self.kind}: {self.verdict.value}, {self.outcome}, {len(self.findings)} findings)"

    def to_json(self) -> bytes:
        """The record alone as JSON bytes, as `--json` prints it and as its Statement carries it."""
        return msgspec.json.encode(self)

    @property
    def digest(self) -> Digest:
        """SHA-256 of the bytes that a store keeps and a signature covers: the Statement about this evidence."""
        from regraft.record.statement import statement_from_evidence

        return digest_bytes(statement_from_evidence(self))


class Record(msgspec.Struct, frozen=True):
    """Evidence as it was stored: the digest of the stored bytes, and what they say."""

    digest: Digest
    evidence: Evidence


def evidence_from_json(data: bytes | msgspec.Raw) -> Evidence:
    """Parse a record. Fields that a later minor version added are ignored.

    Raises:
        ValueError: not JSON, not this schema, or a field of the wrong type.
    """
    try:
        evidence = msgspec.json.decode(data, type=Evidence)
    except RecursionError as error:
        raise ValueError("not evidence: nested too deeply") from error
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
            self.find(_not_finite(name, str(value)))
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
        """Freeze the draft; what is put into it later does not change the evidence.

        A number in `data`, `of` or `parameters` that is not finite becomes null and a finding. An integer
        beyond 64 bits becomes text, as does a character that is not one (an undecodable file name).

        Args:
            outcome: the verb's own word for the verdict.
            summary: one sentence for a human.
            verdict: default: what the findings amount to.
        Raises:
            TypeError: `data`, `of` or `parameters` hold something that JSON has no form for.
        """
        places: list[str] = []
        parameters = {_text(key): _plain(value, f"parameters.{key}", places) for key, value in self.parameters.items()}
        measurements = _plain_structs(self.measurements, places)
        findings = _plain_structs(self.findings, places)
        findings += tuple(_not_finite(place, "null stands in its place") for place in places)
        if verdict is None:
            verdict = combine([Verdict.PASS, *(finding.severity.verdict for finding in findings)])
        return Evidence(
            kind=self.kind,
            verdict=verdict,
            outcome=outcome,
            summary=_text(summary),
            subject=_plain_structs(self.subject, places),
            materials=_plain_structs(self.materials, places),
            findings=findings,
            measurements=measurements,
            artifacts=_plain_structs(self.artifacts, places),
            parameters=parameters,
            environment=capture_environment(),
            started=self._started.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            seconds=round(time.perf_counter() - self._clock, 6),
        )


def _not_finite(place: str, value: str) -> Finding:
    return Finding(
        rule="RGE-NUM-001",
        severity=Severity.UNKNOWN,
        message=f"{place} is not a finite number",
        where=Where(field=place),
        data={"value": value},
    )


def _plain_structs(items: Iterable[_S], places: list[str]) -> tuple[_S, ...]:
    return tuple(_plain_struct(item, places) for item in items)


def _plain_struct(item: _S, places: list[str]) -> _S:
    """A copy of a subject, finding, measurement or artifact in which every JSON value is plain."""
    fields: dict[str, Any] = {}
    for name in item.__struct_fields__:
        value = getattr(item, name)
        if isinstance(value, msgspec.Struct):
            fields[name] = _plain_struct(value, places)
        elif isinstance(value, dict):
            label = getattr(item, "rule", None) or getattr(item, "name", "")
            fields[name] = _plain(value, f"{label}.{name}", places)
        else:
            fields[name] = _text(value) if type(value) is str else value
    return type(item)(**fields)


def _plain(value: Any, place: str, places: list[str]) -> JSON:
    """A copy of a JSON value that survives a round trip; appends to `places` where a number is not finite."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        return int(value) if abs(value) < _MAX_INTEGER else hex(value)
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)
        places.append(place)
        return None
    if isinstance(value, list | tuple):
        return [_plain(item, f"{place}[{index}]", places) for index, item in enumerate(value)]
    if isinstance(value, dict):
        if wrong := [key for key in value if not isinstance(key, str)]:
            raise TypeError(f"the key {wrong[0]!r} in {place} is not a text")
        return {_text(key): _plain(item, f"{place}.{key}", places) for key, item in value.items()}
    raise TypeError(f"{place} is {type(value).__name__}, which JSON has no form for")


def _text(value: str) -> str:
    """The text with lone surrogates written out: they stand for bytes of a name that was no UTF-8."""
    return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()


def _finite(value: float | int | None) -> float | int | None:
    return None if isinstance(value, float) and not math.isfinite(value) else value
