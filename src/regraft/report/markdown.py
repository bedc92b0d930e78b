"""Evidence as Markdown (GitHub flavour), for pull requests and job summaries."""

from __future__ import annotations

import re

from regraft.record.evidence import Evidence
from regraft.report.human import verdict_line
from regraft.report.sections import Section, next_command, sections
from regraft.report.text import visible

_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|~$^=-])")
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_MAX_CELL = 400
_AUTOLINK = re.compile(r"(?i)\b(https?|ftp|mailto|www|xmpp)([:.])|@")


def markdown(evidence: Evidence, *, verbose: bool = False) -> str:
    """A heading with the verdict, the tables, the next command. Nothing in it is live: no link, no HTML, no mention."""
    name = evidence.subject[0].name if evidence.subject else ""
    lines = [f"## {escape(evidence.kind)} {escape(name)}".rstrip(), "", f"**{escape(verdict_line(evidence))}**", ""]
    for section in sections(evidence, verbose=verbose):
        lines += [f"### {escape(section.title)}", "", *_table(section), ""]
        for note in section.notes:
            lines += [escape(note), ""]
    if evidence.subject:
        package = evidence.subject[0]
        lines += [f"sha256 `{visible(package.sha256).replace('`', '')}` ({package.digest.value})", ""]
    command = next_command(evidence)
    if command:
        lines += ["next:", "", *_code(command), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def escape(text: str) -> str:
    """Text that Markdown shows as it is: no emphasis, link, image, HTML, table cell, mention or automatic link."""
    shown = _SPECIAL.sub(r"\\\1", visible(text, width=_MAX_CELL).translate(_ENTITIES))
    return _AUTOLINK.sub(lambda m: "&#64;" if m[0] == "@" else f"{m[1]}&#{ord(m[2])};", shown)


def _table(section: Section) -> list[str]:
    used = [i for i in range(len(section.columns)) if any(row[i] for row in section.rows)]
    rules = ["---:" if i in section.numeric else "---" for i in used]
    lines = ["| " + " | ".join(escape(section.columns[i]) for i in used) + " |", "| " + " | ".join(rules) + " |"]
    lines += ["| " + " | ".join(escape(row[i]) or " " for i in used) + " |" for row in section.rows]
    return lines


def _code(command: str) -> list[str]:
    longest = max((len(run) for run in re.findall(r"`+", command)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}sh", visible(command), fence]
