"""Lineage: parents through evidence, ancestors without end in cycles."""

from __future__ import annotations

from collections.abc import Callable

from regraft.record.digest import Digest
from regraft.record.evidence import Record, Verdict
from regraft.record.lineage import Lineage

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
