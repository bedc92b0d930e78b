"""What was fetched before: the step that a reference leaves in the store, and the tree that it gives back."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

from regraft.errors import DigestMismatch
from regraft.package.reference import ModelRef
from regraft.package.sources.archive_tree import open_archive_tree
from regraft.package.sources.interface import Entry, Tree
from regraft.package.sources.listed_tree import ListedTree
from regraft.package.sources.path import open_local
from regraft.record.digest import Digest, digest_file
from regraft.record.evidence import JSON, Evidence
from regraft.record.steps import step_key
from regraft.record.store import Store

STEP_VERSION = 1
_FILE_SCHEMES = frozenset({"https", "http"})
"""References to one file, which may be an archive with something inside."""
_ARCHIVE_SCHEMES = _FILE_SCHEMES | {"pypi", "npm"}
_hashed: dict[tuple[int, int, int, int, int], Digest] = {}
"""Blobs that this process has hashed: device, inode, size, and times of content and inode → digest."""


class Obstructed(msgspec.Struct, frozen=True):
    """A file that was listed and could not be read when the package was fetched."""

    path: str
    size_bytes: int
    obstacle: str


class Pinned(msgspec.Struct, frozen=True):
    """What `parameters["pinned"]` of fetch evidence says: enough to open the package again.

    Attributes:
        revision, archive, sha256: as in `ModelRef`.
        obstructed: files without content.
    """

    revision: str | None = None
    archive: str | None = None
    sha256: str | None = None
    obstructed: tuple[Obstructed, ...] = ()


def fetch_key(ref: ModelRef, origin: str) -> Digest:
    """The key under which the store notes what a reference led to.

    Args:
        ref: as the user wrote it, or pinned. A part of an archive is kept with all of it.
        origin: see `RemoteSource.origin`.
    """
    is_part_of_archive = ref.scheme in _ARCHIVE_SCHEMES and ref.inside is not None
    plain = msgspec.structs.replace(ref, inside=None) if is_part_of_archive else ref
    named: dict[str, JSON] = {"ref": str(plain), "origin": origin}
    return step_key("fetch", version=STEP_VERSION, subjects=(), parameters=named)


def open_kept_tree(ref: ModelRef, origin: str, store: Store) -> Tree | None:
    """The package as it was fetched, without network; None when the store does not have all of it.

    An archive is hashed the first time that a process opens it (again when its inode changed). Files that
    were fetched one by one are listed with the digest they had, against which whoever hashes them compares.

    Raises:
        DigestMismatch: an archive is not the bytes that were fetched.
    """
    whole = msgspec.structs.replace(ref, inside=None)
    for candidate in (whole, ref) if ref.inside is not None else (whole,):
        step = store.step(fetch_key(candidate, origin))
        if step is None:
            continue
        evidence = store.evidence(step)
        with contextlib.suppress(msgspec.ValidationError, KeyError):
            pinned = msgspec.convert(evidence.parameters["pinned"], Pinned)
            return _tree(ref, pinned, evidence, store)
    return None


def _tree(ref: ModelRef, pinned: Pinned, evidence: Evidence, store: Store) -> Tree | None:
    sha256 = Digest(pinned.sha256) if pinned.sha256 else None
    ref = msgspec.structs.replace(ref, revision=pinned.revision, archive=pinned.archive, sha256=sha256)
    blobs = {artifact.name: (artifact.sha256, store.blob_path(artifact.sha256)) for artifact in evidence.artifacts}
    paths = {name: path for name, (_, path) in blobs.items() if path is not None}
    if len(paths) < len(blobs):
        return None  # somebody removed blobs: fetch again
    if pinned.archive is not None or (ref.scheme in _FILE_SCHEMES and ref.inside is not None and len(paths) == 1):
        name, path = next(iter(paths.items()))
        _require_digest(path, blobs[name][0], str(ref))
        return open_archive_tree(ref, open_local(path, where=name))
    entries = [Entry(name, path.stat().st_size, blobs[name][0]) for name, path in paths.items()]
    entries += [Entry(item.path, item.size_bytes, obstacle=item.obstacle) for item in pinned.obstructed]
    return ListedTree(ref, entries, lambda entry: open_local(paths[entry.path], where=entry.path))


def _require_digest(path: Path, expected: Digest, where: str) -> None:
    status = path.stat()
    identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    if identity not in _hashed:
        _hashed[identity] = digest_file(path)
    if _hashed[identity] != expected:
        raise DigestMismatch(
            "the store does not hold the bytes that were fetched",
            where=where,
            hint=f"remove the file and fetch it again: rm -f {os.fspath(path)!r} && regraft fetch {where}",
        )
