"""Values of a pickle stream as short text, for messages."""

from __future__ import annotations

from regraft.package.formats.pickle_values import Blob, Call, Dict, Global, Set, Value

_MAX_RENDERED = 300


def render(value: Value, *, depth: int = 3) -> str:
    """A value as short text for a message; a single text argument stands alone."""
    if isinstance(value, tuple) and len(value) == 1 and isinstance(value[0], str):
        return value[0][:_MAX_RENDERED]
    text = _text(value, depth)
    return text if len(text) <= _MAX_RENDERED else text[: _MAX_RENDERED - 1] + "…"


def _text(value: Value, depth: int) -> str:
    if isinstance(value, int) and value.bit_length() > 256:
        return "a huge integer"
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)
    if isinstance(value, (str, bytes)):
        return repr(value[:_MAX_RENDERED])
    if isinstance(value, Global):
        return value.path[:_MAX_RENDERED]
    if isinstance(value, Blob):
        return f"<{value.length} bytes>"
    if depth <= 0:
        return "…"
    if isinstance(value, Call):
        return f"{value.path[:_MAX_RENDERED]}({_joined(value.arguments, depth)})"
    if isinstance(value, (list, tuple)):
        return f"[{_joined(value, depth)}]" if isinstance(value, list) else f"({_joined(value, depth)})"
    if isinstance(value, Dict):
        parts = [f"{_text(key, depth - 1)}: {_text(item, depth - 1)}" for key, item in value.pairs[:4]]
        return "{" + ", ".join(parts) + ("…}" if len(value.pairs) > 4 else "}")
    if isinstance(value, Set):
        return "{" + _joined(value.items, depth) + "}"
    return "?"


def _joined(values: tuple[Value, ...] | list[Value], depth: int) -> str:
    shown = ", ".join(_text(item, depth - 1) for item in values[:6])
    return shown + (", …" if len(values) > 6 else "")
