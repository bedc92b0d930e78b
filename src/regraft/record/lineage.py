"""Lineage: which packages a package was made from, and the evidence that ties them together."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator

import msgspec

from regraft.record.digest import Digest
from regraft.record.evidence import DigestKind, Evidence, Record, Subject, Verdict
from regraft.record.passport import Passport

PRODUCERS = frozenset({"adapt", "convert", "fetch", "label", "release"})
"""Kinds of evidence whose first subject was produced from its materials."""


ALIKE = frozenset({"convert"})
"""Those of them whose product is meant to answer as its first material does."""
_VERIFY = "verify"
_OWN_LIMITS = ("atol", "rtol")
"""Parameters by which whoever verifies sets the limits: what passes those may be far from the reference."""


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


class Hop(msgspec.Struct, frozen=True):
    """One conversion: from a package to the one that it was made from, and whether they were shown to answer alike.

    Attributes:
        child: digest of the conversion.
        made: evidence of the conversion.
        verified: the newest evidence that compares the two; None where there is none.
        gap: why they are not tied, in a sentence; empty when they are.
    """

    child: Digest
    parent: Subject
    made: Record
    verified: Record | None = None
    gap: str = ""


class Ancestor(msgspec.Struct, frozen=True):
    """A package of which the one in question is a conversion, hop by hop, each tied by verify evidence.

    Attributes:
        hops: from the package in question up to this one.
    """

    passport: Passport
    hops: tuple[Hop, ...]


class Ancestry(msgspec.Struct, frozen=True):
    """Where what is known about the behaviour of other packages holds for a package, too, and where it does not.

    Attributes:
        ancestors: nearest first; each is there once, so a cycle ends.
        gaps: conversions beyond which nothing holds.
    """

    ancestors: tuple[Ancestor, ...] = ()
    gaps: tuple[Hop, ...] = ()


def trace_ancestry(passport: Passport, read: Callable[[Digest], Passport]) -> Ancestry:
    """Follow conversions upwards, as far as verify evidence ties each package to the one that it was made from.

    A tie needs `verify` evidence that passed, of all the bytes of both, judged by noise floors and not by limits of
    the user's own, and that no other evidence contradicts. The newest comparison of the two counts.

    Args:
        read: the passport of an ancestor.
    """
    ancestors: list[Ancestor] = []
    gaps: list[Hop] = []
    entered = {passport.package}
    waiting: deque[tuple[Passport, tuple[Hop, ...]]] = deque([(passport, ())])
    while waiting:
        at, path = waiting.popleft()
        for hop in _hops(at):
            if hop.gap:
                gaps.append(hop)
            elif hop.parent.sha256 not in entered:
                entered.add(hop.parent.sha256)
                above = Ancestor(read(hop.parent.sha256), (*path, hop))
                ancestors.append(above)
                waiting.append((above.passport, above.hops))
    return Ancestry(tuple(ancestors), tuple(gaps))


def _hops(passport: Passport) -> Iterator[Hop]:
    """One hop for each package that this one was converted from, by the newest evidence of that."""
    seen = {passport.package}
    for record in passport.records:
        parent = next(iter(record.evidence.materials), None)
        if record.evidence.kind in ALIKE and parent is not None and parent.sha256 not in seen:
            seen.add(parent.sha256)
            verified = next((one for one in passport.records if _compares(one, parent.sha256)), None)
            gap = _gap(passport, record, parent, verified)
            yield Hop(passport.package, parent, record, verified, gap)


def _compares(record: Record, parent: Digest) -> bool:
    evidence = record.evidence
    return evidence.kind == _VERIFY and bool(evidence.materials) and evidence.materials[0].sha256 == parent


def _gap(passport: Passport, made: Record, parent: Subject, verified: Record | None) -> str:
    """Why a conversion and its source are not tied; empty when they are."""
    if made.evidence.verdict is Verdict.FAIL:
        return f"{made.evidence.kind} says fail ({made.evidence.summary})"
    if verified is None:
        return f"no verify evidence compares {passport.name} with it"
    evidence = verified.evidence
    if evidence.verdict is not Verdict.PASS:
        return f"verify says {evidence.verdict} ({evidence.summary})"
    if any(evidence.parameters.get(name) is not None for name in _OWN_LIMITS):
        return "verify judged by limits of its user's own (atol, rtol), not by noise floors"
    if {evidence.subject[0].digest, evidence.materials[0].digest} != {DigestKind.COMPUTED}:
        return "verify did not see all the bytes of both"
    if any(verified.digest in found.records for found in passport.contradictions()):
        return "verify evidence contradicts itself"
    return ""


def _ties(digest: Digest, evidence: Evidence) -> Iterator[Tie]:
    if evidence.kind not in PRODUCERS or not evidence.subject:
        return
    child = evidence.subject[0].sha256
    for parent in evidence.materials:
        if parent.sha256 != child:
            yield Tie(child, parent, evidence.kind, evidence.verdict, digest)
