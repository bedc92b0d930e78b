"""Texts of the user's own in batches."""

from __future__ import annotations

from regraft.runtime.hard_texts import string_cases


def test_what_is_left_out_of_many_texts_is_said() -> None:
    many = [case.name for case in string_cases("texts", [str(number) for number in range(100)])]
    assert many[0] == "texts 1 to 8 of 100"
    assert many[-1] == "texts 57 to 64 of 100"
    assert [case.name for case in string_cases("texts", ["a"] * 9)] == ["texts 1 to 8", "texts 9 to 9"]
