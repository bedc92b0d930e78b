"""The permit: what scan evidence allows a runtime to do with exactly the bytes that were scanned."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from regraft.errors import PermitRefused
from regraft.record.digest import Digest
from regraft.record.evidence import DigestKind, Record, Verdict


class Scope(StrEnum):
    """What is permitted."""

    VALUES = "values"
    """Take tensors and plain values out of its files with the restricted unpickler; no other loader may open them."""
    DATA = "data"
    """Load the package's files; no code of it may run."""
    CODE = "code"
    """Also run its code, in the sandbox."""


class Permit(msgspec.Struct, frozen=True):
    """Leave to load one package. Who loads it hashes the bytes again and compares with `package`.

    Attributes:
        package: the package digest that was scanned.
        scope: how far the leave goes.
        evidence: digest of the scan evidence that it was derived from.
    """

    package: Digest
    scope: Scope
    evidence: Digest


def permit_from_scan(scan: Record, package: Digest, *, trust_code: bool = False, values_only: bool = False) -> Permit:
    """Derive a permit from scan evidence about the same package digest.

    A scan that passed permits data. Code is permitted only if the user says `trust_code` and the scan found
    nothing dangerous; what it could not decide (code that a loader would run) is what the user vouches for.
    `values_only` says that all it could not decide are names that the restricted unpickler knows how to leave alone.

    Raises:
        PermitRefused: another package, a digest that was not computed from all the bytes, not scan evidence,
            a dangerous package, or an undecided one without `trust_code`.
    Source: docs/explanation/look-without-loading.md.
    """
    evidence = scan.evidence
    name = evidence.subject[0].name if evidence.subject else package[:12]
    if evidence.kind != "scan":
        raise PermitRefused(f"a permit comes from scan evidence, this is {evidence.kind}", where=name, hint=_SCAN)
    if not evidence.subject or evidence.subject[0].sha256 != package:
        seen = evidence.subject[0].sha256[:12] if evidence.subject else "nothing"
        raise PermitRefused(f"the scan saw {seen}, the package is {package[:12]}", where=name, hint=_SCAN)
    if evidence.subject[0].digest is not DigestKind.COMPUTED:
        raise PermitRefused(
            f"the scanned digest is {evidence.subject[0].digest}: not all of the bytes were seen",
            where=name,
            hint="regraft fetch the package, then scan what was fetched",
        )
    if evidence.verdict is Verdict.FAIL:
        raise PermitRefused(
            f"the scan found danger: {evidence.summary}",
            where=name,
            hint="do not load it; regraft scan shows each finding, and vouching for it does not lift this",
        )
    if trust_code:
        return Permit(package, Scope.CODE, scan.digest)
    if values_only and evidence.verdict is Verdict.INCONCLUSIVE:
        return Permit(package, Scope.VALUES, scan.digest)
    if evidence.verdict is Verdict.INCONCLUSIVE:
        raise PermitRefused(
            f"the scan could not decide: {evidence.summary}",
            where=name,
            hint="read what regraft scan lists; what you vouch for runs in the sandbox with --trust-code, "
            "what you have reviewed passes with regraft scan --allow",
        )
    return Permit(package, Scope.DATA, scan.digest)


_SCAN = "regraft scan the package that is to be loaded"
