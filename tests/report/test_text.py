from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from regraft.report.text import visible


def test_what_a_terminal_would_obey_is_shown_instead() -> None:
    assert visible("a\x1b[31mred\nb\u202egnp.exe") == "a\\x1b[31mred\\nb\\u202egnp.exe"
    assert visible("Größe ✓ 模型") == "Größe ✓ 模型"


@given(st.text())
def test_nothing_hidden_is_left(text: str) -> None:
    assert not [c for c in visible(text) if unicodedata.category(c)[0] == "C"]


def test_long_text_is_cut() -> None:
    assert visible("x" * 50, width=10) == "x" * 9 + "…"
