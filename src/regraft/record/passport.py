"""The passport: everything that is known about one package, what is not known, and what contradicts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations
from typing import TYPE_CHECKING

import msgspec

from regraft.errors import RegraftError
from regraft.record.digest import Digest
from regraft.record.evidence import Evidence, Measurement, Record, Verdict

if TYPE_CHECKING:
    from regraft.record.store import Store

KINDS = (
    "adapt",
    "audit",
    "bench",
    "bom",
    "bundle",
    "catalog",
    "check",
    "convert",
    "doctor",
    "fetch",
    "inspect",
    "label",
    "mine",
    "ops",
    "release",
    "replicate",
    "reproduce",
    "run",
    "scan",
    "select",
    "sign",
    "verify",
)
"""Every kind of evidence that there is: the verbs."""


class Contradiction(msgspec.Struct, frozen=True):
    """Two records that cannot both be right about the same package under the same conditions."""

    kind: str
    message: str
    records: tuple[Digest, Digest]


class Passport(msgspec.Struct, frozen=True):
    """The evidence whose first subject is one package.

    Attributes:
        package: the package digest.
        records: newest first.
        damage: files of the store that could not be read and may have been about this package.
    """

    package: Digest
    records: tuple[Record, ...]
    damage: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What the newest evidence calls the package; the start of its digest when there is none."""
        return self.records[0].evidence.subject[0].name if self.records else self.package[:12]

    def latest(self, kind: str) -> Record | None:
        """The newest evidence of a kind, None when that is unknown."""
        return next((record for record in self.records if record.evidence.kind == kind), None)

    def standing(self, kinds: Iterable[str] = ("inspect", "scan")) -> dict[str, Record | None]:
        """Kind → newest evidence. What is asked for and not known is there with None: unknown, never left out."""
        seen = sorted({record.evidence.kind for record in self.records})
        return {kind: self.latest(kind) for kind in dict.fromkeys([*kinds, *seen])}

    def contradictions(self) -> tuple[Contradiction, ...]:
        """Pairs of records of the same kind, parameters and materials that exclude each other.

        One says pass and the other fail, or measured intervals of the same quantity, on the same processor,
        do not meet. Records of different Regraft versions do not contradict: the newer one supersedes.
        """
        return tuple(
            Contradiction(one.evidence.kind, message, (one.digest, other.digest))
            for one, other in combinations(self.records, 2)
            if _conditions(one.evidence) == _conditions(other.evidence)
            for message in _conflicts(one.evidence, other.evidence)
        )


def passport_from_records(package: Digest, records: Iterable[Record], *, damage: Iterable[str] = ()) -> Passport:
    """The passport of a package, from any records; those about other packages are left out."""
    about = {record.digest: record for record in records if is_about(record.evidence, package)}
    newest_first = sorted(about.values(), key=lambda record: (record.evidence.started, record.digest), reverse=True)
    return Passport(package, tuple(newest_first), tuple(damage))


def read_passport(store: Store, package: Digest) -> Passport:
    """The passport of a package, from the evidence files of a store.

    Reads every evidence file, decodes those that name the digest. For a store with very many of them,
    `record.index` finds the records, and `passport_from_records` takes them.
    """
    damage: list[RegraftError] = []
    records = list(store.all_evidence(on_damage=damage.append, naming=package))
    return passport_from_records(package, records, damage=[f"{error.where}: {error.what}" for error in damage])


def is_about(evidence: Evidence, package: Digest) -> bool:
    """Whether a package is what the evidence judged or produced."""
    return bool(evidence.subject) and evidence.subject[0].sha256 == package


_NAMES_OF_THE_PACKAGE = ("reference", "ref")
"""Parameters that say how the package was named: the same bytes under another name are the same package."""


def _conditions(evidence: Evidence) -> tuple[object, ...]:
    materials = frozenset((material.sha256, material.digest) for material in evidence.materials)
    asked = {key: value for key, value in evidence.parameters.items() if key not in _NAMES_OF_THE_PACKAGE}
    parameters = msgspec.json.encode(asked, order="deterministic")
    return evidence.kind, evidence.environment.regraft, parameters, materials


def _conflicts(one: Evidence, other: Evidence) -> Iterator[str]:
    if {one.verdict, other.verdict} == {Verdict.PASS, Verdict.FAIL}:
        yield (f"{one.kind} says {one.verdict} ({one.started}) and {other.verdict} ({other.started})")
    if one.environment.cpu != other.environment.cpu or one.environment.threads != other.environment.threads:
        return
    known = {_quantity(measurement): measurement for measurement in one.measurements}
    for measurement in other.measurements:
        match = known.get(_quantity(measurement))
        if match is not None and _is_disjoint(match, measurement):
            yield f"{match.name} lies in {_interval(match)} and in {_interval(measurement)}"


def _quantity(measurement: Measurement) -> tuple[str, str, bytes]:
    return measurement.name, measurement.unit, msgspec.json.encode(measurement.of, order="deterministic")


def _is_disjoint(one: Measurement, other: Measurement) -> bool:
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return False
    return one.high < other.low or other.high < one.low


def _interval(measurement: Measurement) -> str:
    return f"[{measurement.low:g}, {measurement.high:g}] {measurement.unit}".rstrip()
