"""The passport: the newest of each kind, unknown shown as unknown, contradictions named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from regraft.record.digest import Digest
from regraft.record.evidence import Evidence, Measurement, Record, Verdict
from regraft.record.passport import passport_from_records, read_passport
from regraft.record.store import Store

Make = Callable[..., Record]
_EARLY, _LATE = "2026-01-01T00:00:00.000Z", "2026-02-01T00:00:00.000Z"


def test_the_newest_of_each_kind_counts(make_record: Make, digest: Callable[[str], Digest]) -> None:
    late = make_record("scan", started=_LATE)
    early = make_record("scan", started=_EARLY)
    other = make_record("scan", "other", started=_LATE)
    bench = make_record("bench", started=_EARLY)
    passport = passport_from_records(digest("model"), [early, late, other, bench, late])
    assert passport.records[0] == late
    assert len(passport.records) == 3
    assert passport.latest("scan") == late
    assert passport.latest("verify") is None
    assert passport.name == "model"


def test_unknown_kinds_stand_there_as_unknown(make_record: Make, digest: Callable[[str], Digest]) -> None:
    bench = make_record("bench")
    passport = passport_from_records(digest("model"), [bench])
    assert passport.standing() == {"inspect": None, "scan": None, "bench": bench}
    assert passport.standing(["verify"]) == {"verify": None, "bench": bench}
    empty = passport_from_records(digest("model"), [])
    assert empty.name == digest("model")[:12]


def test_opposite_verdicts_under_the_same_conditions_contradict(
    make_record: Make, digest: Callable[[str], Digest]
) -> None:
    yes = make_record("scan", started=_EARLY)
    no = make_record("scan", verdict=Verdict.FAIL, started=_LATE)
    (contradiction,) = passport_from_records(digest("model"), [yes, no]).contradictions()
    assert contradiction.kind == "scan"
    assert set(contradiction.records) == {yes.digest, no.digest}
    assert "pass" in contradiction.message
    assert "fail" in contradiction.message


@pytest.mark.parametrize("difference", ["parameters", "materials", "version", "kind", "verdict"])
def test_other_conditions_are_no_contradiction(
    difference: str, make_record: Make, digest: Callable[[str], Digest]
) -> None:
    fields: dict[str, object] = {"verdict": Verdict.FAIL}
    kind = "scan"
    if difference == "parameters":
        fields["parameters"] = {"strict": True}
    elif difference == "materials":
        fields["materials"] = ["data"]
    elif difference == "version":
        fields["environment"] = msgspec.structs.replace(make_record().evidence.environment, regraft="99")
    elif difference == "kind":
        kind = "audit"
    else:
        fields["verdict"] = Verdict.INCONCLUSIVE
    records = [make_record("scan"), make_record(kind, **fields)]
    assert passport_from_records(digest("model"), records).contradictions() == ()


@pytest.mark.parametrize(
    ("low", "high", "unit", "of", "number"),
    [
        (5.0, 6.0, "ms", {"batch": 1}, 1),
        (2.0, 6.0, "ms", {"batch": 1}, 0),
        (3.0, 6.0, "ms", {"batch": 1}, 0),
        (5.0, 6.0, "ms", {"batch": 2}, 0),
        (5.0, 6.0, "s", {"batch": 1}, 0),
        (None, 6.0, "ms", {"batch": 1}, 0),
    ],
)
def test_intervals_of_one_quantity_that_do_not_meet_contradict(
    low: float, high: float, unit: str, of: dict, number: int, make_record: Make, digest: Callable[[str], Digest]
) -> None:
    one = Measurement("latency_p95", 2.0, "ms", low=1.0, high=3.0, of={"batch": 1})
    two = Measurement("latency_p95", 5.5, unit, low=low, high=high, of=of)
    records = [make_record("bench", measurements=(m,)) for m in (one, two)]
    assert len(passport_from_records(digest("model"), records).contradictions()) == number
    elsewhere = msgspec.structs.replace(records[0].evidence.environment, cpu="another")
    moved = make_record("bench", measurements=(two,), environment=elsewhere)
    assert passport_from_records(digest("model"), [records[0], moved]).contradictions() == ()


def test_a_store_is_read_and_its_damage_told(
    tmp_path: Path, make_evidence: Callable[..., Evidence], digest: Callable[[str], Digest]
) -> None:
    store = Store(tmp_path / "s")
    scan, convert = make_evidence(), make_evidence("convert", "other", materials=["model"])
    store.put_evidence(scan)
    store.put_evidence(convert)  # names the package, and is not about it
    passport = read_passport(store, digest("model"))
    assert [record.evidence for record in passport.records] == [scan]
    assert passport.damage == ()
    bad = store.put_evidence(make_evidence("scan", verdict=Verdict.FAIL))
    path = store.root / "evidence/sha256" / bad[:2] / f"{bad}.json"
    path.chmod(0o644)
    path.write_bytes(b"")
    (message,) = read_passport(store, digest("model")).damage
    assert str(path) in message
    assert read_passport(Store(tmp_path / "none"), digest("model")).records == ()
