"""`regraft fetch`: pin a reference and keep everything that later `--offline` calls need."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import msgspec

from regraft.errors import DigestMismatch
from regraft.package.manifest import Manifest, ManifestEntry, build_manifest
from regraft.package.package import Package
from regraft.package.reader import Reader
from regraft.package.reference import ModelRef, parse_reference
from regraft.package.sources import open_tree, source_of
from regraft.package.sources.interface import Entry, RemoteSource, SourceOptions, Tree
from regraft.package.sources.kept import Obstructed, Pinned, fetch_key, open_kept_tree
from regraft.progress import progress
from regraft.record.digest import Digest, package_digest
from regraft.record.evidence import JSON, Artifact, DigestKind, Draft, Evidence, Finding, Severity, Where
from regraft.record.store import Store, open_store


def fetch(ref: str | os.PathLike[str] | ModelRef, *, store: Store | None = None, offline: bool = False) -> Evidence:
    """Pin a reference, keep its bytes in the store, and note which content it led to.

    Archives are kept as they are, other files one by one. Everything is checked against the digests that
    its index declares before it is kept. An interrupted call leaves nothing that a later one would take for
    complete. Local files are hashed, not kept: they are there.

    Args:
        ref: a reference as a user writes it, or a parsed one.
        store: default: the user's.
        offline: no network: confirm that the store has it, hashing all of it.
    Returns:
        evidence of kind `fetch`: subject are the package and its files, all with computed digests;
        inconclusive when some files cannot be read.
    Raises:
        ReferenceSyntaxError, NotFound, AccessDenied, NetworkFailure, AmbiguousReference, MissingExtra: see
            the sources. DigestMismatch: the bytes are not the declared ones. StoreError: they cannot be kept.
        Offline: `offline` is set and the store does not have all of it.
    """
    store = store or open_store()
    asked = _whole_file(ref if isinstance(ref, ModelRef) else parse_reference(ref))
    source = source_of(asked)
    remote = source if isinstance(source, RemoteSource) else None
    options = SourceOptions(offline=offline, store=store, keep=True)
    draft = Draft("fetch")
    kept = _kept_tree(asked, remote, options) if remote is not None else None
    with Package(kept or source.open_tree(asked, options)) as package:
        tree_ref = package.ref
        is_archive = tree_ref.archive is not None and tree_ref.sha256 is not None
        if kept is not None or remote is None or is_archive:
            manifest = _hash_files(package, draft)
        else:
            manifest = _keep_files(package, store)
        if is_archive:
            draft.artifacts.append(Artifact(str(tree_ref.archive), Digest(str(tree_ref.sha256))))
        elif remote is not None:
            draft.artifacts.extend(Artifact(entry.path, entry.sha256) for entry in manifest.entries)
        _note_obstacles(package.entries, draft)
        draft.subject = package.subjects(manifest)
        draft.parameters = {"ref": str(asked), "pinned": _pinned(package)}
    draft.measure("bytes_fetched", options.traffic.bytes_read, "bytes")
    draft.measure("package_size", sum(entry.size_bytes for entry in manifest.entries), "bytes")
    evidence = _finish(draft, is_remote=remote is not None)
    if remote is not None:
        digest = store.put_evidence(evidence)
        if kept is None:
            for named in dict.fromkeys((asked, tree_ref)):
                store.set_step(fetch_key(named, remote.origin(named)), digest)
    return evidence


def _kept_tree(ref: ModelRef, remote: RemoteSource, options: SourceOptions) -> Tree | None:
    """What the store has, when that settles it: offline, or an exact reference whose bytes are intact.

    Raises:
        Offline: the network is forbidden, and the store does not have it.
        DigestMismatch: the same, and what the store has is damaged; online it is fetched again.
    """
    assert options.store is not None
    if options.offline:
        return open_tree(ref, options)
    if not remote.is_exact(ref):
        return None
    try:
        tree = open_kept_tree(ref, remote.origin(ref), options.store)
    except DigestMismatch:
        return None
    is_damaged = (
        tree is not None and tree.ref.archive is None and build_manifest(tree.entries, tree.open, compute=True).flaws
    )
    return None if is_damaged else tree


def _whole_file(ref: ModelRef) -> ModelRef:
    """An address with something inside is kept as the file that it is."""
    return msgspec.structs.replace(ref, inside=None) if ref.scheme in ("https", "http") else ref


def _hash_files(package: Package, draft: Draft) -> Manifest:
    """Digest of every file that can be read; a flaw becomes a finding, and the file is left out."""
    manifest = package.manifest()
    for flaw in manifest.flaws:
        rule = "RGF-FILE-001" if flaw.declared is None else "RGF-FILE-003"
        draft.find(_finding(rule, flaw.path, flaw.what))
    differing = {flaw.path for flaw in manifest.flaws}
    return _manifest([entry for entry in manifest.entries if entry.path not in differing])


def _keep_files(package: Package, store: Store) -> Manifest:
    """Put every file that can be read into the store, checked against its declared digest."""
    kept: list[ManifestEntry] = []
    for entry in package.entries:
        if entry.obstacle is not None:
            continue
        reader = package.open(entry.path)
        try:
            digest = store.put_blob(_announced(reader, entry.path), expected=entry.sha256)
        finally:
            reader.close()
        kept.append(ManifestEntry(entry.path, reader.size, digest, DigestKind.COMPUTED))
    return _manifest(kept)


def _announced(reader: Reader, path: str) -> Iterator[bytes]:
    with progress(f"fetching {path}", total=reader.size) as advance:
        for piece in reader.chunks():
            advance(len(piece))
            yield piece


def _manifest(entries: Sequence[ManifestEntry]) -> Manifest:
    digest = package_digest((entry.path, entry.sha256) for entry in entries)
    return Manifest(tuple(entries), digest, DigestKind.COMPUTED)


def _note_obstacles(entries: Sequence[Entry], draft: Draft) -> None:
    for entry in entries:
        if entry.obstacle is not None:
            draft.find(_finding("RGF-FILE-002", entry.path, f"it is listed and cannot be read: {entry.obstacle}"))


def _finding(rule: str, path: str, message: str) -> Finding:
    return Finding(rule, Severity.UNKNOWN, f"{path!r}: {message}", Where(file=path))


def _pinned(package: Package) -> JSON:
    is_archive = package.ref.archive is not None
    pinned = Pinned(
        revision=package.ref.revision,
        archive=package.ref.archive,
        sha256=package.ref.sha256,
        obstructed=()
        if is_archive
        else tuple(Obstructed(e.path, e.size_bytes, e.obstacle) for e in package.entries if e.obstacle is not None),
    )
    built: JSON = msgspec.to_builtins(pinned)
    return built


def _finish(draft: Draft, *, is_remote: bool) -> Evidence:
    count = len(draft.subject) - 1
    noun = "1 file" if count == 1 else f"{count} files"
    missing = f"; {len(draft.findings)} cannot be read" if draft.findings else ""
    return draft.finish(
        outcome="incomplete" if draft.findings else "fetched" if is_remote else "local",
        summary=f"{noun} {'kept in the store' if is_remote else 'hashed where they are'}{missing}",
    )
