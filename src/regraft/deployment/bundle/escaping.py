"""Names and sentences of strangers in the files that a bundle writes itself."""

from __future__ import annotations

import re
import shlex
import unicodedata

_MARKED = re.compile(r"([\\`*_{}\[\]()!|~$<>&@])")
_FOLDERS = re.compile(r"(?<![\w:/.])(?:~|\.{1,2})?/(?:[^\s/:,;'\"]+/)+")


def markdown(text: str) -> str:
    """One line that Markdown shows as it is; control and direction marks and line breaks as escapes."""
    return _MARKED.sub(r"\\\1", _visible(text))


def markdown_code(text: str) -> str:
    """A code span around any text."""
    shown = _visible(text)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    pad = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def shell_word(text: str) -> str:
    """One word of a POSIX shell, on one line."""
    return shlex.quote(_visible(text))


def pbtxt(text: str) -> str:
    """A string of protobuf's text form: bytes of UTF-8 that are no plain character as octal numbers.

    Source: Protocol Buffers, Text Format Language Specification, "String Values".
    """
    plain = (chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:03o}" for byte in text.encode())
    return f'"{"".join(plain)}"'


def without_folders(text: str) -> str:
    """A sentence in which a file has its base name in place of its path on this machine."""
    return _FOLDERS.sub("", text)


def _visible(text: str) -> str:
    return "".join(
        c.encode("unicode_escape").decode() if unicodedata.category(c)[0] == "C" or c in "\u2028\u2029" else c
        for c in text
    )


__all__ = ["markdown", "markdown_code", "pbtxt", "shell_word", "without_folders"]
