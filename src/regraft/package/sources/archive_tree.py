"""A package that is an archive: its members are listed and read where they lie, nothing is extracted."""

from __future__ import annotations

import base64
import csv
import posixpath
import re
from collections.abc import Mapping, Sequence

from regraft.errors import AccessDenied, Damaged, MissingExtra, NotFound, Unsupported
from regraft.package.archive import Archive, Member, name_problems, open_archive
from regraft.package.limits import MAX_TEXT_BYTES
from regraft.package.reader import Reader
from regraft.package.reference import ModelRef
from regraft.package.sources.interface import Entry
from regraft.record.digest import Digest

_RECORD = re.compile(r"[^/]+\.dist-info/RECORD")
_UNSAFE = frozenset({"traversal", "absolute-name", "empty-name"})
_MAX_LINKS = 20


class ArchiveTree:
    """The members of a wheel, zip, tarball or sdist as files. See `Tree`.

    Names are kept as they are stored (an npm tarball's `package/` too). A member whose name leads out of
    the archive, a link that does, a device, and all but the last of several members with one name are listed
    with an obstacle. A wheel's RECORD declares the digests of its members.

    Args:
        ref: the reference, pinned.
        archive: what to list; its reader is closed with the tree.
    """

    def __init__(self, ref: ModelRef, archive: Archive) -> None:
        self.ref = ref
        self.archive = archive
        self._contents: dict[str, Member] = {}
        declared = _record_digests(archive)
        entries = [self._list(member, declared) for member in archive.members if not member.is_directory]
        self.entries: Sequence[Entry] = sorted(entries, key=lambda entry: entry.path.split("/"))

    def open(self, path: str) -> Reader:
        """See `Tree.open`.

        Raises:
            NotFound, AccessDenied: not a member, or one with an obstacle.
            Damaged, LimitExceeded, Unsupported, MissingExtra: see `Archive.open`.
        """
        if path in self._contents:
            return self.archive.open_lazily(self._contents[path])
        obstacle = next((entry.obstacle for entry in self.entries if entry.path == path), None)
        if obstacle is None:
            raise NotFound(f"the archive has no member {path!r}", where=str(self.ref))
        raise AccessDenied(obstacle, where=path)

    def close(self) -> None:
        """See `Tree.close`."""
        self.archive.reader.close()

    def _list(self, member: Member, declared: Mapping[str, Digest]) -> Entry:
        obstacle = _obstacle(member, self.archive.by_name)
        content = None if obstacle else _follow(member, self.archive.by_name)
        if content is None:
            return Entry(member.name, member.size_bytes, obstacle=obstacle or f"a link to nothing: {member.target!r}")
        self._contents[member.name] = content
        return Entry(member.name, content.size_bytes, declared.get(member.name))


def open_archive_tree(ref: ModelRef, reader: Reader) -> ArchiveTree:
    """List an archive of whatever kind; the reader is closed with the tree, or here when this fails.

    Raises:
        NotFound: the content is no archive, so that nothing can be inside.
        Damaged, LimitExceeded, Unsupported, MissingExtra: see `open_archive`.
    """
    try:
        archive = open_archive(reader)
        if archive is None:
            raise NotFound("this is a file, no archive: there is nothing inside it", where=str(ref))
        return ArchiveTree(ref, archive)
    except BaseException:
        reader.close()
        raise


def _obstacle(member: Member, by_name: Mapping[str, Member]) -> str | None:
    """Why a member cannot be a file of the package, apart from where its link may lead."""
    unsafe = [what for kind, what in name_problems(member.name) if kind in _UNSAFE]
    if unsafe:
        return "; ".join(unsafe)
    if member.is_special:
        return "a device, pipe or socket, no file"
    if by_name[member.name] is not member:
        return "a later member has the same name"
    if member.is_link and member.target is None:
        return "a link inside a zip archive, which loaders treat differently"
    return None


def _follow(member: Member, by_name: Mapping[str, Member]) -> Member | None:
    """The member that holds the content; None when a link leads out of the archive or nowhere."""
    for _ in range(_MAX_LINKS):
        if not member.is_link:
            return None if member.is_directory or member.is_special else member
        target = member.target or ""
        beside = posixpath.normpath(posixpath.join(posixpath.dirname(member.name), target))
        found = by_name.get(beside) or by_name.get(target)  # a hard link counts from the top
        if target.startswith("/") or found is None:
            return None
        member = found
    return None


def _record_digests(archive: Archive) -> dict[str, Digest]:
    """Member name → SHA-256 from a wheel's RECORD; a RECORD that cannot be read declares nothing.

    Source: PyPA, Recording installed projects, "The RECORD file": `sha256=` and unpadded urlsafe base64.
    """
    records = [name for name in archive.by_name if _RECORD.fullmatch(name)] if archive.kind == "zip" else []
    if len(records) != 1:
        return {}
    try:
        text = archive.read(records[0], limit=MAX_TEXT_BYTES).decode("utf-8", "surrogateescape")
        rows = list(csv.reader(text.splitlines()))
    except (Damaged, Unsupported, MissingExtra, csv.Error):
        return {}
    return {row[0]: digest for row in rows if len(row) >= 2 and (digest := _digest(row[1])) is not None}


def _digest(field: str) -> Digest | None:
    algorithm, _, encoded = field.partition("=")
    if algorithm != "sha256" or not encoded.isascii():
        return None
    try:
        raw = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    except ValueError:
        return None
    return Digest(raw.hex()) if len(raw) == 32 else None
