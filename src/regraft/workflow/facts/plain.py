"""Values from strangers, brought to what JSON and UTF-8 can hold."""

from __future__ import annotations

import math

from regraft.record.evidence import JSON

_MAX_INTEGER = 1 << 63
_MAX_TEXT = 2_000
_MAX_ITEMS = 400
_MAX_DEPTH = 8


def plain(value: object, depth: int = 0) -> JSON:
    """A value as JSON can hold it: bounded, finite, no lone surrogates, integers of 64 bits."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if -_MAX_INTEGER <= value < _MAX_INTEGER else f"about 2^{value.bit_length()}"
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, list | tuple) and depth < _MAX_DEPTH:
        return [plain(item, depth + 1) for item in value[:_MAX_ITEMS]]
    if isinstance(value, dict) and depth < _MAX_DEPTH:
        return {clean(str(key)): plain(item, depth + 1) for key, item in list(value.items())[:_MAX_ITEMS]}
    return clean(str(value)) if isinstance(value, str) else "…"


def clean(text: str) -> str:
    """Text that UTF-8 can hold, of bounded length."""
    return text[:_MAX_TEXT].encode("utf-8", "backslashreplace").decode("utf-8")
