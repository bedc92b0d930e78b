"""Result on stdout or to a file, in the form that was asked for; everything else on stderr."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from regraft.cli.options import Settings
from regraft.errors import AccessDenied, RegraftError, UsageError
from regraft.package.package import open_package
from regraft.package.sources.interface import SourceOptions
from regraft.record.evidence import Evidence, combine
from regraft.report.text import visible, visible_json


class Shown(msgspec.Struct, frozen=True):
    """A result: its evidence, a page of the verb's own where it has one, and the reference it is about."""

    evidence: Evidence
    page: str | None = None
    ref: str | None = None


def each(refs: Sequence[str], examine: Callable[[str], Shown], settings: Settings) -> int:
    """Run a verb on each subject, record and show the evidence; returns the exit status over all of them.

    A subject that cannot be opened is reported and does not stop the others; the status is then 2.
    With several subjects `--json` prints one record a line, and after them the errors.
    """
    if settings.dry_run:
        return max(_dry_run(ref, settings) for ref in refs)
    if settings.format == "html" and len(refs) > 1:
        raise UsageError("one page tells of one subject", hint="name one REF for each --format html -o FILE")
    if len(refs) == 1:
        return emit([msgspec.structs.replace(examine(refs[0]), ref=refs[0])], settings)
    shown, refused = [], []
    for ref in refs:
        try:
            one = msgspec.structs.replace(examine(ref), ref=ref)
        except RegraftError as error:
            refused.append(error)
            sys.stderr.write(error_as_text(error))
        else:
            settings.store.put_evidence(one.evidence)  # at once: an interruption keeps what was finished
            shown.append(one)
    status = emit(shown, settings, named=True, keep=False) if shown else 0
    if settings.format == "json" and settings.output is None:
        sys.stdout.writelines(map(error_as_json, refused))
    return 2 if refused else status


def emit(shown: Sequence[Shown], settings: Settings, *, named: bool = False, keep: bool = True) -> int:
    """Record evidence in the store, print or write it; returns the exit status of the combined verdict.

    Args:
        named: say which subject each result is about: several were asked for.
        keep: False where the store has it already, or is what cannot be used.
    """
    for one in shown if keep else ():
        settings.store.put_evidence(one.evidence)
    text = _render(shown, settings, named=named)
    if settings.output is None:
        sys.stdout.write(text)
    else:
        write_atomically(settings.output, text.encode())
        if not settings.quiet:
            sys.stderr.write(f"written: {settings.output}\n")
    return combine(one.evidence.verdict for one in shown).exit_code


def _render(shown: Sequence[Shown], settings: Settings, *, named: bool) -> str:
    records = [one.evidence for one in shown]
    if settings.format == "json":
        if len(records) == 1 and not named:
            return visible_json(msgspec.json.format(records[0].to_json(), indent=2).decode()) + "\n"
        return "".join(visible_json(record.to_json().decode()) + "\n" for record in records)
    if settings.format == "sarif":
        from regraft.report.sarif import sarif

        return visible_json(sarif(*records))
    if settings.format == "markdown":
        from regraft.report.markdown import markdown

        return "\n".join(markdown(record, verbose=settings.verbose) for record in records)
    if settings.format == "html":
        from regraft.report.html import evidence_page

        return "".join(one.page or evidence_page(one.evidence) for one in shown)
    from regraft.report.human import human_text, verdict_line

    if settings.quiet:
        names = [f"{visible(one.ref or '')}: " if named else "" for one in shown]
        return "".join(f"{name}{verdict_line(one.evidence)}\n" for name, one in zip(names, shown, strict=True))
    names = [f"{visible(one.ref or '')}:\n" if named else "" for one in shown]
    texts = [human_text(one.evidence, verbose=settings.verbose, reference=one.ref) for one in shown]
    return "\n".join(name + text for name, text in zip(names, texts, strict=True))


def _dry_run(ref: str, settings: Settings) -> int:
    """Say what a verb would look at: the pinned reference, the files, the bytes."""
    options = SourceOptions(offline=settings.offline, store=settings.store)
    with open_package(ref, options=options) as package:
        total = sum(entry.size_bytes for entry in package.entries)
        pinned = visible(str(package.ref))
        sys.stdout.write(f"{pinned}: {len(package.entries)} files, {total:,} bytes; nothing was done\n")
    return 0


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; a device, a pipe or a terminal that stands there takes the data as it comes.

    Raises:
        UsageError: the folder does not exist.
        AccessDenied: it cannot be written, or the disk is full.
    """
    if not path.parent.is_dir():
        raise UsageError("the folder to write to does not exist", where=str(path), hint=f"mkdir -p {path.parent}")
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(data)
            return
        path = path.resolve()  # a link stays one: what is replaced is the file that it leads to
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
    """An error as `--json` prints it."""
    body = {"code": error.code, "what": error.what, "where": error.where, "hint": error.hint}
    return visible_json(msgspec.json.encode({"error": body}).decode()) + "\n"
