"""What a rule family is: it examines one file or member, or the package as a whole, and yields findings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

from regraft.package.formats import Format, Probe
from regraft.package.package import Package
from regraft.record.evidence import JSON, Finding, Severity, Where

if TYPE_CHECKING:
    from regraft.package.archive import Archive


class Rule(msgspec.Struct, frozen=True):
    """A thing that scan looks for. docs/reference/rules is generated from these.

    Attributes:
        id: stable, `RGS-<FAMILY>-<NNN>`.
        severity: critical and high fail, unknown is inconclusive, the rest are notes.
        title: what was found, as a heading.
        why: why it matters, in one or two sentences.
        fix: what the reader should do.
        cwe: number of the weakness in MITRE's Common Weakness Enumeration, where there is one.
    """

    id: str
    severity: Severity
    title: str
    why: str
    fix: str
    cwe: int | None = None

    def finding(self, message: str, where: Where, **data: JSON) -> Finding:
        """A finding under this rule."""
        if self.cwe is not None:
            data["cwe"] = f"CWE-{self.cwe}"
        return Finding(self.id, self.severity, message, where, data, self.fix)


class WeightCount(msgspec.Struct):
    """How many tensors a scan of weights has read, and how many it could not."""

    read: int = 0
    unread: int = 0


class Site(msgspec.Struct, frozen=True):
    """One file of the package, or one member inside one of its containers, with its recognised format.

    Attributes:
        file: path in the package.
        member: path within the containers (`outer.zip!inner.pkl` joined by `!`); None for the file itself.
        probe: its content.
        format: recognised by content, None when unknown.
        archive: the content as an archive, while it is examined; None when it is none.
        is_container: it is one, and its members are sites of their own.
        inside: name of the format of the container that holds this member; None for a file.
        weights: counts the tensors that are read; None where the scan was not asked to read their numbers.
    """

    file: str
    member: str | None
    probe: Probe
    format: Format | None
    archive: Archive | None = None
    inside: str | None = None
    is_container: bool = False
    weights: WeightCount | None = None

    def where(self, *, offset: int | None = None, line: int | None = None, field: str | None = None) -> Where:
        """This place, as findings name it."""
        return Where(file=self.file, member=self.member, offset=offset, line=line, field=field)


class RuleFamily(Protocol):
    """Rules that share a subject. One module a family, listed in `trust/scan/__init__.py`.

    Attributes:
        name: short id: `pickle`, `archive`, `code`.
        judges: formats (by name) of which the family can say whether their loader would do harm. A file whose
            format may run code and that no family judges is inconclusive: a check that is missing is no pass.
        rules: everything that the family can find.
    """

    name: str
    judges: frozenset[str]
    rules: Sequence[Rule]

    def examine(self, site: Site) -> Iterator[Finding]:
        """Findings about one file or member. Called for every site; yields nothing where it does not apply."""

    def examine_package(self, package: Package, sites: Sequence[Site]) -> Iterator[Finding]:
        """Findings that need several files at once (`auto_map`, shard indices, links)."""
