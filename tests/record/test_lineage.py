"""Lineage: parents through evidence, ancestors without end in cycles."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from regraft.record.digest import Digest
from regraft.record.evidence import DigestKind, Record, Verdict
from regraft.record.lineage import Ancestry, Lineage, trace_ancestry
from regraft.record.passport import passport_from_records

Make = Callable[..., Record]


def test_parents_carry_the_evidence_that_ties_them(make_record: Make, digest: Callable[[str], Digest]) -> None:
    adapted = make_record("adapt", "mine", materials=["base", "data"], started="2026-01-01T00:00:00.000Z")
    converted = make_record("convert", "onnx", materials=["mine"], verdict=Verdict.FAIL)
    lineage = Lineage([converted, adapted, make_record("verify", "onnx", materials=["base"]), make_record("scan")])
    (tie,) = lineage.parents(digest("onnx"))
    assert (tie.parent.name, tie.kind, tie.evidence, tie.verdict) == ("mine", "convert", converted.digest, Verdict.FAIL)
    assert [tie.parent.name for tie in lineage.parents(digest("mine"))] == ["base", "data"]
    assert [tie.parent.name for tie in lineage.ancestors(digest("onnx"))] == ["mine", "base", "data"]
    assert [tie.child for tie in lineage.children(digest("base"))] == [digest("mine")]
    assert lineage.parents(digest("base")) == ()
    assert list(lineage.ancestors(digest("nobody"))) == []


def test_cycles_diamonds_and_selves_end(make_record: Make, digest: Callable[[str], Digest]) -> None:
    records = [
        make_record("convert", "b", materials=["a"]),
        make_record("convert", "c", materials=["b", "a"]),
        make_record("convert", "a", materials=["c"]),
        make_record("convert", "a", materials=["a"]),
    ]
    ties = list(Lineage(records).ancestors(digest("c")))
    assert sorted((tie.child == digest("c"), tie.parent.name) for tie in ties) == [
        (False, "a"),
        (False, "c"),
        (True, "a"),
        (True, "b"),
    ]


def test_a_long_chain_is_walked_without_recursion(make_record: Make, digest: Callable[[str], Digest]) -> None:
    records = [make_record("adapt", str(n + 1), materials=[str(n)]) for n in range(3000)]
    assert sum(1 for _ in Lineage(records).ancestors(digest("3000"))) == 3000


@pytest.fixture
def ancestry_of(digest: Callable[[str], Digest]) -> Callable[[str, Sequence[Record]], Ancestry]:
    """The ancestry of a package, by its text, among some records."""

    def trace(package: str, records: Sequence[Record]) -> Ancestry:
        passport = passport_from_records(digest(package), records)
        return trace_ancestry(passport, lambda parent: passport_from_records(parent, records))

    return trace


def test_ancestors_are_reached_hop_by_hop(
    make_record: Make, ancestry_of: Callable[..., Ancestry], digest: Callable[[str], Digest]
) -> None:
    records = [
        make_record("adapt", "mine", materials=["base", "data"]),
        *(make_record(kind, "onnx", materials=["mine", "weights"]) for kind in ("convert", "verify")),
        *(make_record(kind, "ir", materials=["onnx"]) for kind in ("convert", "verify")),
    ]
    ancestry = ancestry_of("ir", records)
    assert [ancestor.passport.package for ancestor in ancestry.ancestors] == [digest("onnx"), digest("mine")]
    assert [len(ancestor.hops) for ancestor in ancestry.ancestors] == [1, 2]
    assert ancestry.gaps == (), "what was adapted is meant to answer otherwise: no hop leads there"
    assert ancestry_of("mine", records) == Ancestry()


@pytest.mark.parametrize(
    ("convert", "verify", "gap"),
    [
        ({}, None, "no verify evidence"),
        ({}, {"verdict": Verdict.FAIL}, "verify says fail"),
        ({}, {"verdict": Verdict.INCONCLUSIVE}, "verify says inconclusive"),
        ({}, {"materials": ["another"]}, "no verify evidence"),
        ({}, {"materials": ["another", "mine"]}, "no verify evidence"),  # mine is not what it was compared with
        ({}, {"parameters": {"atol": 100.0}}, "limits of its user's own"),
        ({}, {"parameters": {"rtol": 0.0}}, "limits of its user's own"),
        ({}, {"digest": DigestKind.PARTIAL}, "all the bytes"),
        ({"verdict": Verdict.FAIL}, {}, "convert says fail"),
    ],
)
def test_a_hop_that_is_not_shown_to_answer_alike_leads_nowhere(
    convert: dict, verify: dict | None, gap: str, make_record: Make, ancestry_of: Callable[..., Ancestry]
) -> None:
    records = [make_record("convert", "onnx", **{"materials": ["mine"], **convert})]
    if verify is not None:
        records.append(make_record("verify", "onnx", **{"materials": ["mine"], **verify}))
    ancestry = ancestry_of("onnx", records)
    assert ancestry.ancestors == ()
    (found,) = ancestry.gaps
    assert gap in found.gap
    assert found.parent.name == "mine"


def test_an_unproven_conversion_is_tied_by_a_later_comparison(
    make_record: Make, ancestry_of: Callable[..., Ancestry]
) -> None:
    records = [
        make_record("convert", "onnx", materials=["mine"], verdict=Verdict.INCONCLUSIVE),
        make_record("verify", "onnx", materials=["mine"], parameters={"atol": None, "rtol": None}),
    ]
    assert len(ancestry_of("onnx", records).ancestors) == 1


def test_the_newest_comparison_counts_and_contradictions_do_not_tie(
    make_record: Make, ancestry_of: Callable[..., Ancestry]
) -> None:
    made = make_record("convert", "onnx", materials=["mine"])
    passed = make_record("verify", "onnx", materials=["mine"], started="2026-01-01T00:00:00.000Z")
    failed = make_record(
        "verify", "onnx", materials=["mine"], verdict=Verdict.FAIL, started="2026-02-01T00:00:00.000Z",
        parameters={"feeds": "other"},
    )  # fmt: skip
    (gap,) = ancestry_of("onnx", [made, passed, failed]).gaps
    assert gap.verified == failed
    same = make_record("verify", "onnx", materials=["mine"], verdict=Verdict.FAIL, started="2025-01-01T00:00:00.000Z")
    (gap,) = ancestry_of("onnx", [made, passed, same]).gaps
    assert "contradicts" in gap.gap


def test_conversions_in_a_circle_end(make_record: Make, ancestry_of: Callable[..., Ancestry]) -> None:
    pairs = [("b", "a"), ("c", "b"), ("a", "c"), ("a", "a")]
    records = [
        make_record(kind, child, materials=[parent]) for child, parent in pairs for kind in ("convert", "verify")
    ]
    assert len(ancestry_of("c", records).ancestors) == 2
