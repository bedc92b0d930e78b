"""The manifest: path, size and digest of every file of a package, and one digest for all of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from regraft.errors import DigestMismatch
from regraft.package.reader import Reader
from regraft.package.sources.interface import Entry
from regraft.record.digest import Digest, package_digest
from regraft.record.evidence import DigestKind


class ManifestEntry(msgspec.Struct, frozen=True):
    """One file: relative POSIX path, size, SHA-256 and where that digest comes from."""

    path: str
    size_bytes: int
    sha256: Digest
    digest_kind: DigestKind


class Manifest(msgspec.Struct, frozen=True):
    """All files that could be read, and the package digest over them.

    `digest_kind` is the weakest kind among the entries: one partial digest makes the package partial.
    """

    entries: tuple[ManifestEntry, ...]
    digest: Digest
    digest_kind: DigestKind


def build_manifest(entries: Sequence[Entry], open_file: Callable[[str], Reader], *, compute: bool) -> Manifest:
    """Hash (or take the declared digests of) every readable file.

    Files are hashed as many at once as there are cores, the largest first: hashlib releases the
    interpreter lock. An entry with an obstacle is left out: its bytes cannot be seen.

    Raises:
        DigestMismatch: a computed digest is not the declared one.
    """
    readable = [entry for entry in entries if entry.obstacle is None]
    by_size = sorted(readable, key=lambda entry: -entry.size_bytes)
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        hashed = list(pool.map(lambda entry: _digest(entry, open_file, compute=compute), by_size))
    by_path = {entry.path: entry for entry in hashed}
    files = tuple(by_path[entry.path] for entry in readable)
    return Manifest(files, package_digest((f.path, f.sha256) for f in files), _weakest(files))


def _digest(entry: Entry, open_file: Callable[[str], Reader], *, compute: bool) -> ManifestEntry:
    if not compute and entry.sha256 is not None:
        return ManifestEntry(entry.path, entry.size_bytes, entry.sha256, DigestKind.DECLARED)
    reader = open_file(entry.path)
    try:
        if not compute:
            return ManifestEntry(entry.path, reader.size, reader.fingerprint(), DigestKind.PARTIAL)
        computed = reader.sha256()
    finally:
        reader.close()
    if entry.sha256 is not None and entry.sha256 != computed:
        raise DigestMismatch(
            f"the bytes hash to {computed[:12]}…, its index declares {entry.sha256[:12]}…",
            where=entry.path,
            hint="the file was changed after it was published: do not use it, fetch it again",
        )
    return ManifestEntry(entry.path, reader.size, computed, DigestKind.COMPUTED)


def _weakest(files: Sequence[ManifestEntry]) -> DigestKind:
    kinds = {entry.digest_kind for entry in files}
    for kind in (DigestKind.PARTIAL, DigestKind.DECLARED):
        if kind in kinds:
            return kind
    return DigestKind.COMPUTED
