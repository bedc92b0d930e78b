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


def visible_json(text: str) -> str:
    """JSON with the same meaning in which every such character stands as `\\uXXXX`; line breaks between values stay."""
    if text.isascii() and "\x7f" not in text:
        return text
    hidden = {c for c in set(text) if c >= "\x7f" and unicodedata.category(c) in _HIDDEN}
    return text.translate({ord(c): _json_escape(c) for c in hidden})


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4))


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()
