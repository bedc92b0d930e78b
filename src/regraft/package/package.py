"""A package: the files of a pre-trained model behind one reference. Opening it runs none of its code."""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from regraft.errors import NotFound
from regraft.package.companions import companions
from regraft.package.formats import Format, Probe, recognise
from regraft.package.manifest import Manifest, build_manifest
from regraft.package.reader import Meter, Reader
from regraft.package.reference import ModelRef, parse_reference
from regraft.package.sources import open_tree
from regraft.package.sources.interface import Entry, SourceOptions, Tree
from regraft.record.evidence import Subject

if TYPE_CHECKING:
    from regraft.package.archive import Archive
    from regraft.record.store import Store


class Package:
    """Files with a pinned reference. Use as a context manager, or `close` it.

    Attributes:
        ref: the reference, pinned.
        entries: files of the package below `ref.inside`, sorted by path components.
        meter: counts the bytes that were read from the package so far.
    """

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self.ref: ModelRef = tree.ref
        self.entries: Sequence[Entry] = _below(tree.entries, tree.ref)
        self.meter = Meter()
        self._probes: dict[str, tuple[Probe, Format | None]] = {}

    @property
    def container(self) -> Archive | None:
        """The archive that the files lie in (a wheel, a tarball); None for a folder or a listing."""
        from regraft.package.sources.archive_tree import ArchiveTree

        return self._tree.archive if isinstance(self._tree, ArchiveTree) else None

    @property
    def name(self) -> str:
        """What a person would call it: the last part of the reference."""
        inside = self.ref.inside
        return inside.rstrip("/").rsplit("/", 1)[-1] if inside else self.ref.name

    def open(self, path: str) -> Reader:
        """A range reader over one file; its reads count on `meter`."""
        reader = self._tree.open(path)
        reader.meter = self.meter
        return reader

    def probe(self, path: str) -> tuple[Probe, Format | None]:
        """The file as a `Probe` and its format, recognised by content; None for an unknown format."""
        if path not in self._probes:
            probe = Probe(self.open(path), path)
            self._probes[path] = (probe, recognise(probe))
        return self._probes[path]

    def manifest(self, *, compute: bool = True) -> Manifest:
        """Path, size and digest of every file, and one digest for all of them.

        Args:
            compute: hash all the bytes; otherwise take what the source declares, or a fingerprint
                of size, head and tail where nobody declares anything.
        """
        return build_manifest(self.entries, self.open, compute=compute)

    def subjects(self, manifest: Manifest) -> list[Subject]:
        """The package and its files as evidence names them: `subject[0]` is the package."""
        return [
            Subject(self.name, manifest.digest, manifest.digest_kind),
            *(Subject(entry.path, entry.sha256, entry.digest_kind) for entry in manifest.entries),
        ]

    def close(self) -> None:
        """Release every descriptor and connection."""
        for probe, _ in self._probes.values():
            probe.reader.close()
        self._probes.clear()
        self._tree.close()

    def __enter__(self) -> Package:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Package({str(self.ref)!r}, {len(self.entries)} files)"


def open_package(ref: str | os.PathLike[str] | ModelRef | Package, *, options: SourceOptions | None = None) -> Package:
    """Open a package by reference; nothing of it is imported, unpickled or executed.

    Args:
        ref: a reference as a user writes it, a parsed one, or an open package (returned as it is).
        options: network and store to use; default: online, nothing kept.
    Raises:
        ReferenceSyntaxError, NotFound, AccessDenied, NetworkFailure, Offline, AmbiguousReference.
    """
    if isinstance(ref, Package):
        return ref
    parsed = ref if isinstance(ref, ModelRef) else parse_reference(ref)
    return Package(open_tree(parsed, options or SourceOptions()))


def open_by_reference(
    ref: str | os.PathLike[str] | ModelRef | Package, *, store: Store | None = None, offline: bool = False
) -> Package:
    """Open a package; nothing of it is imported, unpickled or executed.

    Args:
        ref: a reference as a user writes it, a parsed one, or an open package (returned as it is).
        store: where fetched content is looked up; None: nothing is looked up.
        offline: no network.
    Raises:
        See `open_package`.
    """
    return open_package(ref, options=SourceOptions(offline=offline, store=store))


def _below(entries: Sequence[Entry], ref: ModelRef) -> Sequence[Entry]:
    if ref.inside is None:
        return entries
    wanted = ref.inside.rstrip("/")
    kept = {wanted, *companions(wanted, (entry.path for entry in entries))}
    found = [entry for entry in entries if entry.path in kept or entry.path.startswith(wanted + "/")]
    if not found:
        raise NotFound(
            f"the package has no file or folder {wanted!r}",
            where=str(ref),
            hint=_nearest(wanted, [entry.path for entry in entries]),
        )
    return found


def _nearest(wanted: str, paths: Sequence[str]) -> str:
    import difflib

    close = difflib.get_close_matches(wanted, paths, n=3, cutoff=0.4)
    return "nearest: " + ", ".join(close) if close else f"it has {len(paths)} files; regraft inspect lists them"
