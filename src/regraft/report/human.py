"""Evidence on a terminal: the verdict first, tables of at most 100 columns, then the next command."""

from __future__ import annotations

import io
import os
import shutil
import sys
from typing import TYPE_CHECKING

from regraft.record.evidence import DigestKind, Evidence, Verdict
from regraft.report.quantity import seconds_text
from regraft.report.sections import MARKS, Section, next_command, sections
from regraft.report.text import visible

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 100
_MAX_CELL = 400
_STYLES = {
    "pass": "bold green",
    "fail": "bold red",
    "inconclusive": "bold yellow",
    "critical": "red",
    "high": "red",
    "unknown": "yellow",
    "medium": "yellow",
    "absent": "dim",
}


def verdict_line(evidence: Evidence) -> str:
    """One line without colour: mark, verdict, the verb's own word, and the summary."""
    return (
        f"{MARKS[evidence.verdict]} {evidence.verdict.value} · {visible(evidence.outcome)}: {visible(evidence.summary)}"
    )


def human_text(
    evidence: Evidence, *, verbose: bool = False, color: bool | None = None, reference: str | None = None
) -> str:
    """Evidence as terminal text; hostile characters in it are shown as escapes.

    Args:
        verbose: every row of every table, and all digests.
        color: ANSI colour; default: when stdout is a terminal and NO_COLOR is not set.
        reference: of the package, for the next command; default: what the evidence says.
    """
    console = _console(is_colored(color))
    console.print(_verdict(evidence))
    for section in sections(evidence, verbose=verbose):
        console.print()
        console.print(_table(section))
        for note in section.notes:
            console.print(visible(note), style="dim")
    console.print()
    console.print(_footer(evidence), style="dim")
    command = next_command(evidence, reference=reference)
    if command:
        console.print(f"next: {visible(command)}", soft_wrap=True)
    file = console.file
    assert isinstance(file, io.StringIO)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def is_colored(color: bool | None = None) -> bool:
    """Whether to write ANSI colour: what was asked for, else what stdout and NO_COLOR allow."""
    return color if color is not None else sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def _console(color: bool) -> Console:
    from rich.console import Console

    width = min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns) if sys.stdout.isatty() else WIDTH
    return Console(
        file=io.StringIO(),
        width=max(40, width),
        force_terminal=color,
        color_system="standard" if color else None,
        legacy_windows=False,
        markup=False,
        emoji=False,
        highlight=False,
    )


def _verdict(evidence: Evidence) -> object:
    from rich.text import Text

    line = Text(overflow="fold")
    line.append(f"{MARKS[evidence.verdict]} {evidence.verdict.value}", style=_STYLES[evidence.verdict.value])
    line.append(f" · {visible(evidence.outcome)}: {visible(evidence.summary)}")
    return line


def _table(section: Section) -> object:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=section.title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        header_style="dim",
    )
    used = [i for i in range(len(section.columns)) if any(row[i] for row in section.rows)]
    for i in used:
        table.add_column(section.columns[i], justify="right" if i in section.numeric else "left", overflow="fold")
    for number, row in enumerate(section.rows):
        tone = section.tones[number] if section.tones else ""
        table.add_row(*(Text(visible(row[i], width=_MAX_CELL)) for i in used), style=_STYLES.get(tone, ""))
    return table


def _footer(evidence: Evidence) -> str:
    package = evidence.subject[0] if evidence.subject else None
    parts = [f"regraft {evidence.environment.regraft}", seconds_text(evidence.seconds)]
    if package is not None and package.sha256:
        hint = "" if package.digest is DigestKind.COMPUTED else f", {package.digest.value}"
        parts.insert(0, f"sha256 {package.sha256[:16]}…{hint}")
    if evidence.verdict is Verdict.INCONCLUSIVE:
        parts.append("inconclusive is not a pass")
    return " · ".join(parts)
