"""Rules about notebooks: what their cells would do to the machine of whoever runs them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from regraft.errors import Damaged
from regraft.package.package import Package
from regraft.record.evidence import Finding, Severity
from regraft.trust.scan.commands import HIDES_OR_PIPES, HOSTILE, HOSTILE_COMMAND
from regraft.trust.scan.interface import Rule, Site
from regraft.trust.scan.python.effects import Effect, Kind
from regraft.trust.scan.python.program import Phase, Program

COMMANDS = Rule(
    "RGS-INS-006",
    Severity.INFO,
    "A notebook that runs shell commands",
    "Running its cells executes them with your rights.",
    "Read the cells before you run them.",
)
HARMFUL = Rule(
    "RGS-INS-007",
    Severity.UNKNOWN,
    "A notebook that would do harm if it were run",
    "No loader opens it, but a cell runs a download as a script, or code that it decodes first.",
    "Do not run it. Report it to where you got it from.",
    cwe=506,
)

_SHELL_LINE = re.compile(r"^\s*[!%](?P<command>.*)$")
_SHELL_CELL = re.compile(r"^\s*%%(ba|z|da)?(sh|script|bash)\b")
_MAX_CELLS = 2000
_MAX_SOURCE_CHARS = 1 << 20
"""Of all cells together; what stands beyond is not looked at, as no loader runs any of it."""


class NotebookFamily:
    """Judges the cells of Jupyter notebooks."""

    name = "notebook"
    judges: frozenset[str] = frozenset()
    rules: Sequence[Rule] = (COMMANDS, HARMFUL, HOSTILE_COMMAND)

    def examine(self, site: Site) -> Iterator[Finding]:
        """At most one finding of each kind for one notebook."""
        if site.probe.suffix != ".ipynb" and (site.format is None or site.format.name != "notebook"):
            return
        python, shell = _cells(site.probe.json)
        found = [*_harm_in("\n".join(python))]
        hostile = next((line for line in shell if HOSTILE.search(line)), None)
        hostile = hostile or next((effect.text for effect in found if is_hostile(effect)), None)
        harm = next((line for line in shell if HIDES_OR_PIPES.search(line)), None)
        harm = harm or next((effect.text for effect in found), None)
        if hostile is not None:
            yield HOSTILE_COMMAND.finding(f"a cell runs: {hostile.strip()[:160]}", site.where())
        elif harm is not None:
            yield HARMFUL.finding(f"a cell runs: {harm.strip()[:160]}", site.where())
        elif shell:
            yield COMMANDS.finding(f"a cell runs: {shell[0].strip()[:120]}", site.where())

    def examine_package(self, package: Package, sites: Sequence[Site]) -> Iterator[Finding]:
        """Nothing: notebooks are judged one by one."""
        return iter(())


def _cells(content: object) -> tuple[list[str], list[str]]:
    """Lines of Python and lines of shell in the cells of code."""
    python: list[str] = []
    shell: list[str] = []
    left = _MAX_SOURCE_CHARS
    cells = content.get("cells") if isinstance(content, dict) else None
    for cell in cells[:_MAX_CELLS] if isinstance(cells, list) else ():
        if not isinstance(cell, dict) or cell.get("cell_type") != "code":
            continue
        source = cell.get("source")
        text = ("".join(map(str, source)) if isinstance(source, list) else str(source))[:left]
        left -= len(text)
        lines = text.splitlines()
        if lines and _SHELL_CELL.match(lines[0]):
            shell += lines[1:]
            continue
        for line in lines:
            command = _SHELL_LINE.match(line)
            (shell if command else python).append(command["command"] if command else line)
    return python, shell


def _harm_in(source: str) -> Iterator[Effect]:
    """What stands out of what the cells would do when they are run one after the other."""
    program = Program({"notebook.py": source})
    try:
        runs = program.reach([("notebook.py", None)], as_main=True)
    except Damaged:
        return
    for run in runs:
        pipes = run.effect.kind is Kind.SHELL and HIDES_OR_PIPES.search(run.effect.text)
        if run.phase is Phase.IMPORT and (run.effect.kind is Kind.DECODE or pipes):
            yield run.effect


def is_hostile(effect: Effect) -> bool:
    """Does code that nobody needs to start hide what it runs, or hand the machine over?"""
    if effect.kind is Kind.DECODE:
        return effect.name in ("exec", "eval")
    return effect.kind is Kind.SHELL and HOSTILE.search(effect.text) is not None
