"""The manifest: path, size and digest of every file of a package, and one digest for all of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import msgspec

from regraft.errors import DigestMismatch
from regraft.package.reader import Reader
from regraft.package.sources.interface import Entry
from regraft.progress import progress
from regraft.record.digest import Digest, digest_chunks, package_digest
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
    hasher = _Hasher(open_file)
    hashed = hasher.computed(readable) if compute else [hasher.declared_or_partial(entry) for entry in readable]
    by_path = {entry.path: entry for entry in hashed}
    files = tuple(by_path[entry.path] for entry in readable)
    return Manifest(files, package_digest((f.path, f.sha256) for f in files), _weakest(files))


class _Hasher:
    """Hashes files on as many threads as there are cores; an interrupt stops all of them at the next piece."""

    def __init__(self, open_file: Callable[[str], Reader]) -> None:
        self._open = open_file
        self._is_stopped = False

    def computed(self, entries: Sequence[Entry]) -> list[ManifestEntry]:
        by_size = sorted(entries, key=lambda entry: -entry.size_bytes)
        pool = ThreadPoolExecutor(max_workers=os.cpu_count() or 1)
        with progress("hashing", total=sum(entry.size_bytes for entry in entries)) as advance:
            try:
                return list(pool.map(lambda entry: self._compute(entry, advance), by_size))
            finally:
                self._is_stopped = True
                pool.shutdown(cancel_futures=True)

    def declared_or_partial(self, entry: Entry) -> ManifestEntry:
        if entry.sha256 is not None:
            return ManifestEntry(entry.path, entry.size_bytes, entry.sha256, DigestKind.DECLARED)
        with closing(self._open(entry.path)) as reader:
            return ManifestEntry(entry.path, reader.size, reader.fingerprint(), DigestKind.PARTIAL)

    def _compute(self, entry: Entry, advance: Callable[[int], None]) -> ManifestEntry:
        with closing(self._open(entry.path)) as reader:
            computed = digest_chunks(self._pieces(reader, advance))
        if entry.sha256 is not None and entry.sha256 != computed:
            raise DigestMismatch(
                f"the bytes hash to {computed[:12]}…, its index declares {entry.sha256[:12]}…",
                where=entry.path,
                hint="the file was changed after it was published: do not use it, fetch it again",
            )
        return ManifestEntry(entry.path, reader.size, computed, DigestKind.COMPUTED)

    def _pieces(self, reader: Reader, advance: Callable[[int], None]) -> Iterator[bytes]:
        for piece in reader.chunks():
            if self._is_stopped:
                return
            yield piece
            advance(len(piece))


def _weakest(files: Sequence[ManifestEntry]) -> DigestKind:
    kinds = {entry.digest_kind for entry in files}
    for kind in (DigestKind.PARTIAL, DigestKind.DECLARED):
        if kind in kinds:
            return kind
    return DigestKind.COMPUTED
