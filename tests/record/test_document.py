"""Documents: values that are checked, and complaints that have their line."""

from __future__ import annotations

from pathlib import Path

import pytest

from regraft.errors import AccessDenied, NotFound, PlanError, PolicyError
from regraft.record.bounded_yaml import MAX_YAML_BYTES
from regraft.record.document import Document, nearest, parse_document, read_document


def document(text: str) -> Document:
    return parse_document(text.encode(), name="d.yaml", error=PlanError, example="a: 1")


def test_a_part_complains_with_the_lines_of_the_whole_and_its_own_class() -> None:
    whole = document("a: 1\nb:\n  - c: 2\n    d: x\n")
    part = whole.part(("b", 0)).judged_by(PolicyError)
    assert part.value == {"c": 2, "d": "x"}
    with pytest.raises(PolicyError) as caught:
        part.mapping(part.value, (), ("c", "dd"))
    assert (caught.value.where, caught.value.hint) == ("d.yaml:4", "did you mean 'dd'?")
    with pytest.raises(PlanError):
        whole.refuse("no", ())


@pytest.mark.parametrize(
    ("written", "amount"), [("20 ms", 0.02), ("1.5e2 ms", 0.15), ("2min", 120.0), ("0 s", 0.0), (" 3 h ", 10800.0)]
)
def test_amounts_have_units(written: str, amount: float) -> None:
    assert document("").amount(written, ("t",), unit="s", what="a duration", example="1 s") == pytest.approx(amount)


@pytest.mark.parametrize("written", [20, 20.5, True, None, "20", "ms", "20 MB", "1.2.3 s", "-1 s", "1e999 s", [], {}])
def test_what_is_no_amount_is_refused_with_an_example(written: object) -> None:
    with pytest.raises(PlanError) as caught:
        document("t: 1").amount(written, ("t",), unit="s", what="a duration", example="1 s")  # type: ignore[arg-type]
    assert "not a duration" in caught.value.what
    assert ("the unit is missing" in caught.value.what) == (written in (20, 20.5) and written is not True)
    assert caught.value.hint == "for example: t: 1 s"


@pytest.mark.parametrize("value", ["1", 1.0, True, None, -1, 11])
def test_counts_are_whole_numbers_within_bounds(value: object) -> None:
    with pytest.raises(PlanError):
        document("n: 1").count(value, ("n",), most=10)  # type: ignore[arg-type]
    assert document("n: 1").count(10, ("n",), most=10) == 10


def test_what_is_no_document_has_the_example() -> None:
    with pytest.raises(PlanError) as caught:
        parse_document(b"\xff", name="d.yaml", error=PlanError, example="a: 1")
    assert caught.value.hint == "a: 1"
    with pytest.raises(PlanError) as caught:
        document("a: [")
    assert caught.value.where.startswith("d.yaml:")


def test_a_file_is_read_as_far_as_a_document_may_be_long(tmp_path: Path) -> None:
    (tmp_path / "long").write_bytes(b"x" * (MAX_YAML_BYTES + 100))
    assert len(read_document(tmp_path / "long", what="plan")) == MAX_YAML_BYTES + 1
    with pytest.raises(NotFound, match="no such plan file"):
        read_document(tmp_path / "none", what="plan")
    with pytest.raises(AccessDenied, match="the plan cannot be read"):
        read_document(tmp_path, what="plan")


def test_the_nearest_word_or_all() -> None:
    assert nearest("candidate", ["data", "candidates"]) == "did you mean 'candidates'?"
    assert nearest("zzz", ["data", "task"]) == "known: data, task"
