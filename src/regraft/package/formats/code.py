"""Source code: Python, notebooks, and other languages. Recognised by what stands in it; nothing is compiled."""

from __future__ import annotations

import re
from typing import Any

from regraft.errors import Damaged
from regraft.package.formats.interface import Description, Loading, Probe, Role

_NAME = r"[A-Za-z_]\w*"
_PYTHON_LINE = re.compile(
    rf"(?:from\s+[.\w]+\s+import\s+[\w(*].*|import\s+[\w.]+(?:\s+as\s+\w+)?(?:\s*,\s*[\w.]+(?:\s+as\s+\w+)?)*\s*(?:#.*)?"
    rf"|(?:async\s+)?def\s+{_NAME}\s*\(.*|class\s+{_NAME}\s*[:(].*|@[\w.]+(?:\(.*)?|if\s+__name__\s*==.*)"
)
_PYTHON_SUFFIXES = frozenset({".py", ".pyi", ".pyw", ".pyx", ".pxd"})
_SHEBANG = re.compile(r"#!\s*\S*/(?:env\s+(?:-S\s+)?)?(\w+)")
_SHEBANGS = {
    "sh": "shell",
    "bash": "shell",
    "zsh": "shell",
    "dash": "shell",
    "node": "javascript",
    "perl": "perl",
    "ruby": "ruby",
    "lua": "lua",
}
_LANGUAGES = {
    ".js": "javascript", ".mjs": "javascript", ".cjs": "javascript", ".jsx": "javascript", ".ts": "typescript",
    ".tsx": "typescript", ".mts": "typescript", ".sh": "shell", ".bash": "shell", ".zsh": "shell", ".bat": "batch",
    ".cmd": "batch", ".ps1": "powershell", ".c": "c", ".h": "c", ".cc": "c++", ".cpp": "c++", ".cxx": "c++",
    ".hpp": "c++", ".hh": "c++", ".cu": "cuda", ".cuh": "cuda", ".metal": "metal", ".cl": "opencl", ".rs": "rust",
    ".go": "go", ".java": "java", ".kt": "kotlin", ".swift": "swift", ".m": "objective-c", ".mm": "objective-c++",
    ".r": "r", ".jl": "julia", ".lua": "lua", ".rb": "ruby", ".pl": "perl", ".php": "php", ".cs": "c#",
    ".scala": "scala", ".sql": "sql", ".cmake": "cmake", ".vue": "vue", ".svelte": "svelte", ".vbs": "vbscript",
}  # fmt: skip
_STRUCTURES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("c++", re.compile(r"^\s*#\s*include\s*[<\"]", re.MULTILINE)),
    (
        "javascript",
        re.compile(r"^\s*(?:[\"']use strict[\"']|module\.exports\s*=|export\s+(?:default|const)\s)", re.MULTILINE),
    ),
    ("javascript", re.compile(r"^(?:!function|\(function|\(\(\)\s*=>)\s*\(?")),
)  # fmt: skip
_PLAIN_SUFFIXES = frozenset({"", ".txt", ".bak", ".orig", ".inc", ".in", ".tmpl"})
_SCAN_CHARS = 64 << 10
_NAMESAKES = {
    ".ts": re.compile(rb"\s*(?:#(?!!)|@(?:problemname|timestamps|univariate|relation)\b)", re.IGNORECASE),
    ".mm": re.compile(rb"\s*[%\d]"),
}
"""Suffix → how the data of that suffix begin that are no source: time series (sktime), Matrix Market."""


class PythonSource:
    """Format `python-source`."""

    name = "python-source"
    title = "Python source"
    role = Role.CODE
    loading = Loading.CODE
    suffixes = (".py", ".pyi", ".pyw", ".pyx", ".pxd")

    def matches(self, probe: Probe) -> bool:
        """Text whose first statement is Python's; under a Python suffix, any text."""
        if probe.suffix in _PYTHON_SUFFIXES:
            return _looks_like_text(probe)
        if probe.head.startswith(b"#!"):
            return b"python" in probe.head.split(b"\n")[0]
        if probe.suffix not in _PLAIN_SUFFIXES or probe.text is None:
            return False
        statement = _first_statement(probe.text)
        return statement is not None and _PYTHON_LINE.fullmatch(statement) is not None

    def describe(self, probe: Probe) -> Description:
        """Number of lines."""
        return Description(metadata=_size(probe) | {"language": "python"})


class Notebook:
    """Format `notebook`: Jupyter."""

    name = "notebook"
    title = "Jupyter notebook"
    role = Role.CODE
    loading = Loading.CODE
    suffixes = (".ipynb",)

    def matches(self, probe: Probe) -> bool:
        """A JSON object with `cells` and `nbformat`."""
        fields = probe.json
        return isinstance(fields, dict) and isinstance(fields.get("cells"), list) and "nbformat" in fields

    def describe(self, probe: Probe) -> Description:
        """Kernel and number of code cells."""
        fields: Any = probe.json
        if not isinstance(fields, dict) or not isinstance(fields.get("cells"), list):
            raise Damaged("not a notebook", where=probe.reader.where)
        code = sum(isinstance(cell, dict) and cell.get("cell_type") == "code" for cell in fields["cells"])
        metadata = {"cells": str(len(fields["cells"])), "code_cells": str(code)}
        outer = fields.get("metadata")
        kernel = outer.get("kernelspec") if isinstance(outer, dict) else None
        if isinstance(kernel, dict) and isinstance(kernel.get("name"), str):
            metadata["kernel"] = kernel["name"][:100]
        return Description(version=str(fields.get("nbformat"))[:10], metadata=metadata)


class SourceCode:
    """Format `source-code`: any other language."""

    name = "source-code"
    title = "source code"
    role = Role.CODE
    loading = Loading.CODE
    suffixes = tuple(_LANGUAGES)

    def matches(self, probe: Probe) -> bool:
        """Text under a language's suffix, or with its interpreter line or structure."""
        return _language(probe) is not None

    def describe(self, probe: Probe) -> Description:
        """Language and number of lines."""
        return Description(metadata=_size(probe) | {"language": _language(probe) or "unknown"})


def _language(probe: Probe) -> str | None:
    if not _looks_like_text(probe):
        return None
    if probe.head.startswith(b"#!"):
        match = _SHEBANG.match(probe.head[:200].decode("utf-8", "replace"))
        return _SHEBANGS.get(match[1]) if match else None
    if probe.suffix in _LANGUAGES:
        namesake = _NAMESAKES.get(probe.suffix)
        return None if namesake and namesake.match(probe.head) else _LANGUAGES[probe.suffix]
    if probe.suffix in _PLAIN_SUFFIXES and probe.text is not None:
        start = probe.text[:_SCAN_CHARS]
        return next((language for language, pattern in _STRUCTURES if pattern.search(start)), None)
    return None


def _looks_like_text(probe: Probe) -> bool:
    """No zero byte at the start, and UTF-8 as far as the first 4 KiB go (a character may be cut there)."""
    if b"\x00" in probe.head:
        return False
    try:
        probe.head.decode("utf-8")
    except UnicodeDecodeError as error:
        return (
            error.start >= len(probe.head) - 3 and probe.reader.size > len(probe.head)
        ) or probe.suffix in _LANGUAGES
    return True


def _first_statement(text: str) -> str | None:
    """The first line that is neither blank, comment nor docstring."""
    body = re.sub(r"\A\s*(?:\"\"\".*?\"\"\"|'''.*?''')", "", text[:_SCAN_CHARS], count=1, flags=re.DOTALL)
    for line in body.splitlines():
        stripped = line.strip()
        if stripped and not stripped.startswith("#"):
            return line.rstrip()
    return None


def _size(probe: Probe) -> dict[str, str]:
    return {} if probe.text is None else {"lines": str(probe.text.count("\n") + 1)}
