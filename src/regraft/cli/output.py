"""Result on stdout or to a file, in the form that was asked for; everything else on stderr."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import msgspec

from regraft.cli.options import Settings
from regraft.errors import AccessDenied, RegraftError, UsageError
from regraft.package.package import Package
from regraft.record.evidence import Evidence
from regraft.report.text import visible


def emit(evidence: Evidence, settings: Settings, *, html: str | None = None, human: str | None = None) -> int:
    """Print or write a result; returns the exit status of its verdict.

    Args:
        evidence: what the verb ended in.
        settings: form and place of the result.
        html: a page of the verb's own; default: the general evidence page.
        human: terminal text of the verb's own; default: the general evidence screen.
    """
    text = _render(evidence, settings, html=html, human=human)
    if settings.output is None:
        sys.stdout.write(text)
    else:
        write_atomically(settings.output, text.encode())
        if not settings.quiet:
            sys.stderr.write(f"written: {settings.output}\n")
    return evidence.verdict.exit_code


def _render(evidence: Evidence, settings: Settings, *, html: str | None, human: str | None) -> str:
    if settings.format == "json":
        return msgspec.json.format(evidence.to_json(), indent=2).decode() + "\n"
    if settings.format == "sarif":
        from regraft.report.sarif import sarif

        return sarif(evidence)
    if settings.format == "markdown":
        from regraft.report.markdown import markdown

        return markdown(evidence)
    if settings.format == "html":
        from regraft.report.html import evidence_page

        return html if html is not None else evidence_page(evidence)
    from regraft.report.human import human_text, verdict_line

    if settings.quiet:
        return verdict_line(evidence) + "\n"
    return human if human is not None else human_text(evidence, verbose=settings.verbose)


def dry_run(package: Package) -> int:
    """Say what a verb would look at: the pinned reference, the files, the bytes."""
    total = sum(entry.size_bytes for entry in package.entries)
    sys.stdout.write(f"{visible(str(package.ref))}: {len(package.entries)} files, {total:,} bytes; nothing was done\n")
    return 0


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        UsageError: the folder does not exist.
        AccessDenied: it cannot be written, or the disk is full.
    """
    if not path.parent.is_dir():
        raise UsageError("the folder to write to does not exist", where=str(path), hint=f"mkdir -p {path.parent}")
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            Path(name).chmod(0o644)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise AccessDenied(
            f"cannot be written: {error.strerror}", where=str(path), hint="choose another place with -o PATH"
        ) from error


def error_as_text(error: RegraftError) -> str:
    """What happened, where, what to do: up to three lines for stderr."""
    lines = [f"error: {visible(error.what)}"]
    if error.where:
        lines.append(f"  where: {visible(error.where)}")
    if error.hint:
        lines.append(f"  try: {visible(error.hint)}")
    return "\n".join(lines) + "\n"


def error_as_json(error: RegraftError) -> str:
    """The error object of DESIGN 4.1."""
    body = {"code": error.code, "what": error.what, "where": error.where, "hint": error.hint}
    return msgspec.json.encode({"error": body}).decode() + "\n"
