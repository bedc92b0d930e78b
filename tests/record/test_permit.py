"""Permits: from a computed scan of the same bytes only."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from regraft.errors import PermitRefused
from regraft.record.digest import Digest
from regraft.record.evidence import DigestKind, Record, Verdict
from regraft.record.permit import Permit, Scope, permit_from_scan

Make = Callable[..., Record]


def test_a_passed_scan_permits_data_and_with_trust_code(make_record: Make, digest: Callable[[str], Digest]) -> None:
    scan = make_record()
    package = digest("model")
    assert permit_from_scan(scan, package) == Permit(package, Scope.DATA, scan.digest)
    assert permit_from_scan(scan, package, trust_code=True).scope is Scope.CODE


def test_an_undecided_scan_permits_only_what_the_user_vouches_for(
    make_record: Make, digest: Callable[[str], Digest]
) -> None:
    scan = make_record(verdict=Verdict.INCONCLUSIVE)
    assert permit_from_scan(scan, digest("model"), trust_code=True).scope is Scope.CODE
    with pytest.raises(PermitRefused, match="could not decide") as caught:
        permit_from_scan(scan, digest("model"))
    assert "--allow" in caught.value.hint


@pytest.mark.parametrize("trust_code", [False, True])
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"verdict": Verdict.FAIL}, "danger"),
        ({"kind": "inspect"}, "inspect"),
        ({"package": "another"}, "the scan saw"),
        ({"digest": DigestKind.PARTIAL}, "partial"),
        ({"digest": DigestKind.DECLARED}, "declared"),
        ({"subject": ()}, "the scan saw nothing"),
    ],
)
def test_everything_else_is_refused_with_its_reason(
    arguments: dict, reason: str, trust_code: bool, make_record: Make, digest: Callable[[str], Digest]
) -> None:
    with pytest.raises(PermitRefused, match=reason) as caught:
        permit_from_scan(make_record(**arguments), digest("model"), trust_code=trust_code)
    assert caught.value.hint
    assert caught.value.where
