"""From a package to described files: each is recognised by content and its header read, one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from regraft.errors import RegraftError
from regraft.package.archive import open_archive
from regraft.package.formats import Description, Probe, Role, recognise
from regraft.package.limits import MAX_TEXT_BYTES
from regraft.package.package import Package
from regraft.package.reader import Reader
from regraft.package.sources.interface import Entry
from regraft.progress import progress
from regraft.workflow.facts.block_reader import BlockReader
from regraft.workflow.facts.card import is_card_name
from regraft.workflow.facts.config import NAMES as CONFIG_NAMES
from regraft.workflow.facts.index import is_index_file
from regraft.workflow.facts.interface import InspectedFile
from regraft.workflow.facts.plain import clean

_LICENCE_WORDS = ("license", "licence", "copying", "unlicense")
_MAX_DEPTH = 2
"""Archives are opened this deep: a wheel given as a file, and one archive in it."""


def examine(package: Package) -> Iterator[InspectedFile]:
    """Describe every file of a package, and the members of plain archives in it (`a.whl!b/model.onnx`).

    A file that cannot be read or is damaged is described as such; it never ends the examination.
    """
    with progress("inspecting", total=len(package.entries), unit="files") as advance:
        for entry in package.entries:
            yield from _entry(package, entry)
            advance(1)


def _entry(package: Package, entry: Entry) -> Iterator[InspectedFile]:
    path = clean(entry.path)
    if entry.obstacle is not None:
        yield InspectedFile(path, entry.size_bytes, damage=entry.obstacle)
        return
    try:
        reader = BlockReader(package.open(entry.path))
    except (RegraftError, OSError) as error:
        yield InspectedFile(path, entry.size_bytes, damage=_reason(error))
        return
    try:
        yield from _content(Probe(reader, entry.path), path, depth=0)
    finally:
        reader.close()


def _content(probe: Probe, path: str, *, depth: int) -> Iterator[InspectedFile]:
    size = probe.reader.size
    try:
        member = recognise(probe)
    except (RegraftError, OSError) as error:
        yield InspectedFile(path, size, damage=_reason(error))
        return
    role = member.role if member else Role.OTHER
    description: Description | None = None
    damage = None
    if member is not None:
        try:
            description = member.describe(probe)
        except (RegraftError, OSError) as error:
            damage = _reason(error)
    try:
        document, text = _contents(probe, path)
    except (RegraftError, OSError) as error:
        document, text, damage = None, None, damage or _reason(error)
    yield InspectedFile(
        path,
        size,
        member.name if member else None,
        member.title if member else None,
        role,
        member.suffixes if member else (),
        description,
        damage,
        document,
        text,
    )
    if role is Role.ARCHIVE and depth < _MAX_DEPTH:
        yield from _members(probe.reader, path, depth)
    elif role is Role.ARCHIVE:
        yield InspectedFile(f"{path}!", 0, role=role, damage=f"not opened: archives {depth + 1} deep")


def _members(reader: Reader, path: str, depth: int) -> Iterator[InspectedFile]:
    try:
        archive = open_archive(reader)
    except (RegraftError, OSError) as error:
        yield InspectedFile(f"{path}!", 0, damage=_reason(error))
        return
    for member in archive.members if archive is not None else ():
        if member.is_directory or member.is_link or member.is_special or archive is None:
            continue
        inside = f"{path}!{clean(member.name)}"
        try:
            opened = archive.open(member)
        except (RegraftError, OSError) as error:
            yield InspectedFile(inside, member.size_bytes, damage=_reason(error))
            continue
        try:
            yield from _content(Probe(opened, member.name), inside, depth=depth + 1)
        finally:
            opened.close()


def _contents(probe: Probe, path: str) -> tuple[Any, str | None]:
    """Parsed JSON and text of the files that facts are taken from; of no other."""
    name = path.rsplit("/", 1)[-1].rsplit("!", 1)[-1]
    inner = path.rsplit("!", 1)[-1]
    if probe.reader.size > MAX_TEXT_BYTES:
        return None, None
    if name in CONFIG_NAMES or (name == "package.json" and is_index_file(inner)):
        return probe.json, probe.text if name == "vocab.txt" else None
    if is_index_file(inner) or is_card_name(name) or is_licence_name(name):
        return None, probe.text
    return None, None


def is_licence_name(basename: str) -> bool:
    """Whether a file of this name is where a licence text is looked for."""
    lowered = basename.lower()
    return lowered.startswith(_LICENCE_WORDS) and not lowered.endswith((".py", ".json", ".js"))


def _reason(error: RegraftError | OSError) -> str:
    return error.what if isinstance(error, RegraftError) else f"{type(error).__name__}: {error.strerror or error}"
