"""The manifest: path, size and digest of every file of a package, and one digest for all of them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import msgspec

from regraft.errors import AccessDenied, Damaged, MissingExtra, NotFound, Unsupported
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


class Flaw(msgspec.Struct, frozen=True):
    """A file whose bytes are not what they should be.

    Attributes:
        path: of the file.
        what: what is wrong, for a human.
        declared: the digest that its index declares, when the bytes have another one; None when they
            cannot be read at all, and the file is then not among the entries.
        computed: the digest that the bytes have.
    """

    path: str
    what: str
    declared: Digest | None = None
    computed: Digest | None = None


class Manifest(msgspec.Struct, frozen=True):
    """All files that could be read, and the package digest over them.

    Attributes:
        digest_kind: the weakest kind among the entries: one partial digest makes the package partial.
        flaws: files that could not be read, or whose bytes have another digest than their index declares;
            what that means is for the verb to say.
    """

    entries: tuple[ManifestEntry, ...]
    digest: Digest
    digest_kind: DigestKind
    flaws: tuple[Flaw, ...] = ()


def build_manifest(entries: Sequence[Entry], open_file: Callable[[str], Reader], *, compute: bool) -> Manifest:
    """Hash (or take the declared digests of) every readable file.

    Files are hashed as many at once as there are cores, the largest first: hashlib releases the
    interpreter lock. An entry with an obstacle is left out: its bytes cannot be seen. One damaged file
    never spoils the rest: it becomes a flaw.
    """
    readable = [entry for entry in entries if entry.obstacle is None]
    results = _Hasher(open_file).run(readable, compute=compute)
    order = {entry.path: i for i, entry in enumerate(readable)}
    files = sorted((entry for entry, _ in results if entry is not None), key=lambda entry: order[entry.path])
    flaws = sorted((flaw for _, flaw in results if flaw is not None), key=lambda flaw: order[flaw.path])
    digest = package_digest((file.path, file.sha256) for file in files)
    return Manifest(tuple(files), digest, _weakest(files), tuple(flaws))


_SMALL_BYTES = 256 << 10
"""Handing a file of this size to another thread costs more than hashing it."""
_MAX_BATCH = 64


def _batches(entries: Sequence[Entry], workers: int) -> Iterator[Sequence[Entry]]:
    """The largest first, one by one; small ones together, with something to do for every worker."""
    by_size = sorted(entries, key=lambda entry: -entry.size_bytes)
    small = [entry for entry in by_size if entry.size_bytes <= _SMALL_BYTES]
    yield from ((entry,) for entry in by_size[: len(by_size) - len(small)])
    step = max(1, min(_MAX_BATCH, -(-len(small) // workers)))
    yield from (small[at : at + step] for at in range(0, len(small), step))


class _Hasher:
    """Hashes files on as many threads as there are cores; an interrupt stops all of them at the next piece."""

    def __init__(self, open_file: Callable[[str], Reader]) -> None:
        self._open = open_file
        self._is_stopped = False

    def run(self, entries: Sequence[Entry], *, compute: bool) -> list[tuple[ManifestEntry | None, Flaw | None]]:
        if not compute:
            return [_or_flaw(entry, self._look) for entry in entries]
        workers = os.cpu_count() or 1
        pool = ThreadPoolExecutor(max_workers=workers)
        with progress("hashing", total=sum(entry.size_bytes for entry in entries)) as advance:

            def hashed(batch: Sequence[Entry]) -> list[tuple[ManifestEntry | None, Flaw | None]]:
                return [_or_flaw(entry, lambda one: self._hash(one, advance)) for entry in batch]

            try:
                return list(itertools.chain.from_iterable(pool.map(hashed, _batches(entries, workers))))
            finally:
                self._is_stopped = True
                pool.shutdown(cancel_futures=True)

    def _look(self, entry: Entry) -> ManifestEntry:
        if entry.sha256 is not None:
            return ManifestEntry(entry.path, entry.size_bytes, entry.sha256, DigestKind.DECLARED)
        with closing(self._open(entry.path)) as reader:
            return ManifestEntry(entry.path, reader.size, reader.fingerprint(), DigestKind.PARTIAL)

    def _hash(self, entry: Entry, advance: Callable[[int], None]) -> ManifestEntry:
        with closing(self._open(entry.path)) as reader:
            computed = digest_chunks(self._pieces(reader, advance))
        return ManifestEntry(entry.path, reader.size, computed, DigestKind.COMPUTED)

    def _pieces(self, reader: Reader, advance: Callable[[int], None]) -> Iterator[bytes]:
        for piece in reader.chunks():
            if self._is_stopped:
                return
            yield piece
            advance(len(piece))


def _or_flaw(entry: Entry, digest: Callable[[Entry], ManifestEntry]) -> tuple[ManifestEntry | None, Flaw | None]:
    try:
        found = digest(entry)
    except (Damaged, Unsupported, MissingExtra, NotFound, AccessDenied) as error:
        return None, Flaw(entry.path, error.what)
    if found.digest_kind is DigestKind.COMPUTED and entry.sha256 not in (None, found.sha256):
        what = f"the bytes hash to {found.sha256[:12]}…, its index declares {str(entry.sha256)[:12]}…"
        return found, Flaw(entry.path, what, declared=entry.sha256, computed=found.sha256)
    return found, None


def _weakest(files: Sequence[ManifestEntry]) -> DigestKind:
    kinds = {entry.digest_kind for entry in files}
    for kind in (DigestKind.PARTIAL, DigestKind.DECLARED):
        if kind in kinds:
            return kind
    return DigestKind.COMPUTED
