"""Hostile text made harmless to look at."""

from __future__ import annotations

import unicodedata

_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def visible(text: str, *, width: int | None = None) -> str:
    """A text with every control, format, direction and unassigned character written as an escape.

    File names, card fields and tensor names come from strangers: terminal escapes, newlines and
    right-to-left marks in them must be seen, not obeyed.

    Args:
        text: any text.
        width: longest result in characters; longer text ends in `…`.
    """
    shown = "".join(_escape(c) if unicodedata.category(c) in _HIDDEN else c for c in text)
    return shown if width is None or len(shown) <= width else shown[: width - 1] + "…"


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()
