"""Text that carries data: JSON, JSON lines, YAML, TOML, INI, XML, HTML, tables, Markdown, and plain text last."""

from __future__ import annotations

import csv
import json
import re
from typing import Any

from regraft.errors import Damaged
from regraft.package.formats.interface import Description, Loading, Probe, Role
from regraft.package.limits import MAX_TEXT_BYTES

_YAML_LINE = re.compile(r"(?:-\s+)*[\w./ -]+\s*:(?:\s.*)?|-\s+.*|---\s*|%YAML.*")
_TOML_LINE = re.compile(r"\[\[?[\w.\"' -]+\]\]?\s*(?:#.*)?|[\w.\"'-]+\s*=\s*\S.*")
_INI_LINE = re.compile(r"\[[^\]]+\]|[^=:\s][^=:]*[=:].*|\s+.*|[;#].*")
_STRUCTURE = re.compile(r'[{}\[\]",:/]')
_SAMPLE_CHARS = 64 << 10


class Empty:
    """Format `empty`: no bytes at all."""

    name = "empty"
    title = "empty file"
    role = Role.OTHER
    loading = Loading.INERT
    suffixes = ()

    def matches(self, probe: Probe) -> bool:
        """Nothing in it."""
        return probe.reader.size == 0

    def describe(self, probe: Probe) -> Description:
        """Nothing to say."""
        return Description()


class Json:
    """Format `json`: JSON that is nothing more specific."""

    name = "json"
    title = "JSON"
    role = Role.DATA
    loading = Loading.INERT
    suffixes = (".json", ".jsonc", ".geojson", ".map", ".webmanifest")

    def matches(self, probe: Probe) -> bool:
        """It parses as an object or a list, or would if `.json` did not end too early or were not too large."""
        return probe.json is not None or _ends_early(probe) or _is_too_large(probe)

    def describe(self, probe: Probe) -> Description:
        """Keys of the outermost object, or the length of the list.

        Raises:
            Damaged: the text ends in the middle.
        """
        found: Any = probe.json
        if found is None and _is_too_large(probe):
            return Description(metadata={"unparsed": f"more than {MAX_TEXT_BYTES >> 20} MiB"})
        if found is None:
            raise Damaged("the JSON text ends in the middle", where=probe.reader.where)
        if isinstance(found, dict):
            return Description(metadata={"keys": ", ".join(map(str, list(found)[:50]))[:500]})
        return Description(metadata={"entries": str(len(found))} if isinstance(found, list) else {})


def _is_too_large(probe: Probe) -> bool:
    """Whether a `.json` is larger than what is parsed whole; its beginning is then all that is judged."""
    if probe.suffix != ".json" or probe.reader.size <= MAX_TEXT_BYTES:
        return False
    begins = probe.head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[")
    return begins and PlainText().matches(probe) and not _is_json_lines(probe)


def _ends_early(probe: Probe) -> bool:
    """Whether a `.json` is sound as far as it goes; comments and other dialects are not, from early on."""
    if probe.suffix != ".json" or probe.text is None or probe.text.lstrip()[:1] not in ("{", "["):
        return False
    try:
        json.loads(probe.text)
    except json.JSONDecodeError as error:
        return error.msg.startswith("Unterminated string") or not _STRUCTURE.search(probe.text, error.pos)
    except (ValueError, RecursionError):
        return False
    return False


class StructuredText:
    """Format `structured-text`: JSON lines, YAML, TOML, INI, XML, HTML, CSS, SVG."""

    name = "structured-text"
    title = "structured text"
    role = Role.CONFIG
    loading = Loading.INERT
    suffixes = (".jsonl", ".ndjson", ".yaml", ".yml", ".toml", ".ini", ".cfg", ".xml", ".html", ".htm", ".svg", ".css")

    def matches(self, probe: Probe) -> bool:
        """The first lines have the structure; the suffix decides between YAML and INI."""
        return _structure(probe) is not None

    def describe(self, probe: Probe) -> Description:
        """Which of them it is."""
        return Description(metadata={"kind": _structure(probe) or "unknown"})


class Table:
    """Format `table`: comma- or tab-separated values."""

    name = "table"
    title = "table"
    role = Role.DATA
    loading = Loading.INERT
    suffixes = (".csv", ".tsv", ".tab")

    def matches(self, probe: Probe) -> bool:
        """At least two rows with the same number of at least two columns."""
        return _columns(probe) is not None

    def describe(self, probe: Probe) -> Description:
        """Separator, number of columns, first row."""
        found = _columns(probe)
        if found is None:
            return Description()
        separator, first = found
        names = {",": "comma", "\t": "tab", ";": "semicolon"}
        return Description(
            metadata={"separator": names[separator], "columns": str(len(first)), "first_row": ", ".join(first)[:500]}
        )


class Markdown:
    """Format `markdown`: documentation that is no card."""

    name = "markdown"
    title = "Markdown"
    role = Role.OTHER
    loading = Loading.INERT
    suffixes = (".md", ".markdown", ".mdx", ".rst")

    def matches(self, probe: Probe) -> bool:
        """Text under a suffix of Markdown or reStructuredText, or that begins with a heading."""
        if probe.text is None or not probe.text.strip():
            return False
        is_headed = re.match(r"\s*#{1,3} \S", probe.text) is not None and "\n```" in probe.text
        return probe.suffix in self.suffixes or is_headed

    def describe(self, probe: Probe) -> Description:
        """The first heading."""
        heading = re.search(r"^#{1,3} (.+)$", probe.text or "", re.MULTILINE)
        return Description(metadata={"heading": heading[1].strip()[:200]} if heading else {})


class PlainText:
    """Format `text`: UTF-8 text that is nothing else."""

    name = "text"
    title = "plain text"
    role = Role.OTHER
    loading = Loading.INERT
    suffixes = (".txt", ".log", ".lst")

    def matches(self, probe: Probe) -> bool:
        """UTF-8 without control characters, judged by the first 4 KiB when it is larger than 16 MiB."""
        head = probe.head
        if not head or any(byte < 9 or 13 < byte < 27 or 27 < byte < 32 for byte in head):
            return False
        try:
            head.decode("utf-8")
        except UnicodeDecodeError as error:
            return error.start >= len(head) - 3 and probe.reader.size > len(head)
        return True

    def describe(self, probe: Probe) -> Description:
        """Number of lines."""
        return Description(metadata={} if probe.text is None else {"lines": str(probe.text.count("\n") + 1)})


def _structure(probe: Probe) -> str | None:
    if b"\x00" in probe.head or not probe.head.strip():
        return None
    start = probe.head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for signatures, kind in (
        ((b"<!doctype html", b"<html"), "html"),
        ((b"<svg",), "svg"),
        ((b"<?xml",), "svg" if b"<svg" in start else "xml"),
    ):
        if start.startswith(signatures):
            return kind
    if probe.suffix in (".xml", ".html", ".htm", ".svg", ".css", ".scss") and PlainText().matches(probe):
        return probe.suffix[1:]
    if start.startswith(b"{") and _is_json_lines(probe):
        return "json lines"
    candidates: dict[str, tuple[re.Pattern[str], str]] = {
        ".yaml": (_YAML_LINE, "yaml"), ".yml": (_YAML_LINE, "yaml"), ".toml": (_TOML_LINE, "toml"),
        ".ini": (_INI_LINE, "ini"), ".cfg": (_INI_LINE, "ini"), ".conf": (_INI_LINE, "ini"),
    }  # fmt: skip
    if probe.suffix in candidates and PlainText().matches(probe):
        pattern, kind = candidates[probe.suffix]
        return kind if _first_line_is(probe, pattern) else None
    return None


def _first_line_is(probe: Probe, pattern: re.Pattern[str]) -> bool:
    for line in probe.head.decode("utf-8", "replace").lstrip("\ufeff").splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            return pattern.fullmatch(line.rstrip()) is not None
    return False


def _is_json_lines(probe: Probe) -> bool:
    """Two whole lines at the start, each one an object."""
    lines = probe.reader.read_at(0, _SAMPLE_CHARS).split(b"\n")[:2]
    if len(lines) < 2 or not lines[1].strip():
        return False
    try:
        return all(isinstance(json.loads(line), dict) for line in lines)
    except (ValueError, RecursionError):
        return False


def _columns(probe: Probe) -> tuple[str, list[str]] | None:
    """Separator and first row, when the first rows agree on the number of columns."""
    if probe.suffix not in (*Table.suffixes, ".txt", "", ".data", ".dat") or not PlainText().matches(probe):
        return None
    text = probe.head.decode("utf-8", "ignore").lstrip("\ufeff")
    lines = text.splitlines()
    if len(text) > 3000:
        lines.pop()  # it may be cut off
    for separator in ("\t", ",", ";"):
        rows = _rows(lines[:20], separator)
        widths = {len(row) for row in rows if row}
        if len(rows) >= 2 and len(widths) == 1 and min(widths) >= 2:
            return separator, rows[0]
    return None


def _rows(lines: list[str], separator: str) -> list[list[str]]:
    try:
        return list(csv.reader(lines, delimiter=separator))
    except csv.Error:
        return []
