"""Lineage: which packages a package was made from, and the evidence that ties them together."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import msgspec

from regraft.record.digest import Digest
from regraft.record.evidence import Evidence, Record, Subject, Verdict

PRODUCERS = frozenset({"adapt", "convert", "fetch", "label", "release"})
"""Kinds of evidence whose first subject was produced from its materials."""


class Tie(msgspec.Struct, frozen=True):
    """One step from a product back to one of its inputs.

    Attributes:
        child: digest of the product.
        parent: the input: a package, or data, a recipe, a budget.
        kind: the verb that produced the child.
        verdict: of that step: a conversion that diverged still has its parent.
        evidence: digest of the evidence that says so.
    """

    child: Digest
    parent: Subject
    kind: str
    verdict: Verdict
    evidence: Digest


class Lineage:
    """The ties within a set of records. Ties may form a cycle (a conversion forth and back to the same bytes)."""

    def __init__(self, records: Iterable[Record]) -> None:
        self._parents: dict[Digest, dict[Tie, None]] = {}
        self._children: dict[Digest, dict[Tie, None]] = {}
        for record in sorted(records, key=lambda record: (record.evidence.started, record.digest)):
            for tie in _ties(record.digest, record.evidence):
                self._parents.setdefault(tie.child, {})[tie] = None
                self._children.setdefault(tie.parent.sha256, {})[tie] = None

    def parents(self, package: Digest) -> tuple[Tie, ...]:
        """Ties to what the package was made from, oldest evidence first."""
        return tuple(self._parents.get(package, ()))

    def children(self, package: Digest) -> tuple[Tie, ...]:
        """Ties to what was made from the package, oldest evidence first."""
        return tuple(self._children.get(package, ()))

    def ancestors(self, package: Digest) -> Iterator[Tie]:
        """Every tie above the package, nearest first; each product is entered once, so a cycle ends."""
        entered = {package}
        waiting = deque([package])
        while waiting:
            for tie in self.parents(waiting.popleft()):
                yield tie
                if tie.parent.sha256 not in entered:
                    entered.add(tie.parent.sha256)
                    waiting.append(tie.parent.sha256)


def _ties(digest: Digest, evidence: Evidence) -> Iterator[Tie]:
    if evidence.kind not in PRODUCERS or not evidence.subject:
        return
    child = evidence.subject[0].sha256
    for parent in evidence.materials:
        if parent.sha256 != child:
            yield Tie(child, parent, evidence.kind, evidence.verdict, digest)
