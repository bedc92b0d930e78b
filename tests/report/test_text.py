from __future__ import annotations

import json
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from regraft.report.text import visible, visible_json


def test_what_a_terminal_would_obey_is_shown_instead() -> None:
    assert visible("a\x1b[31mred\nb\u202egnp.exe") == "a\\x1b[31mred\\nb\\u202egnp.exe"
    assert visible("Größe ✓ 模型") == "Größe ✓ 模型"


@given(st.text())
def test_nothing_hidden_is_left(text: str) -> None:
    assert not [c for c in visible(text) if unicodedata.category(c)[0] == "C"]


def test_long_text_is_cut() -> None:
    assert visible("x" * 50, width=10) == "x" * 9 + "…"


def test_json_keeps_its_meaning_and_hides_nothing() -> None:
    value = {"name\u202e": "a\x9b31m\x7f\u2028\U000e0041é漢\n", "x": [1, "\ufeff"]}
    shown = visible_json(json.dumps(value, ensure_ascii=False, indent=2))
    assert json.loads(shown) == value
    assert not set(shown) & set("\x7f\u202e\x9b\u2028\U000e0041\ufeff")
    assert "é漢" in shown
