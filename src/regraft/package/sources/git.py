"""Git repositories at a commit: objects are fetched and read, nothing is checked out and nothing is run."""

from __future__ import annotations

import posixpath
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

from regraft.errors import LimitExceeded, NotFound
from regraft.package.limits import MAX_MEMBERS
from regraft.package.reader import Reader
from regraft.package.reference import ModelRef
from regraft.package.sources.address import check_address
from regraft.package.sources.download import SpooledReader
from regraft.package.sources.git_lfs import LfsObject, LfsPointer, ask_for_objects, parse_pointer
from regraft.package.sources.git_program import GitRepository
from regraft.package.sources.http import HttpClient, client_of
from regraft.package.sources.http_reader import HttpReader
from regraft.package.sources.interface import Entry, SourceOptions, Tree
from regraft.package.sources.listed_tree import ListedTree

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_POINTER_BYTES = 1024
_MAX_LINKS = 20
_LINK, _SUBMODULE = "120000", "160000"


class _Object(msgspec.Struct, frozen=True):
    """One line of a git tree: mode, object name, and size once it is known."""

    mode: str
    oid: str
    size_bytes: int = 0


class GitSource:
    """`git+https://host/repository@commit`; large files come through LFS where the server offers it."""

    def origin(self, ref: ModelRef) -> str:
        """See `RemoteSource.origin`: the address itself says whom."""
        return ""

    def is_exact(self, ref: ModelRef) -> bool:
        """A commit is exact, a branch or tag is not."""
        return ref.revision is not None and _COMMIT.fullmatch(ref.revision) is not None

    def open_tree(self, ref: ModelRef, options: SourceOptions) -> Tree:
        """Fetch the commit, its folders, and the files that the reference names.

        Raises:
            NotFound: no such repository or revision. AccessDenied: it is private.
            NetworkFailure: the server cannot be asked. MissingExtra: there is no git program.
            LimitExceeded: more files or bytes than the bounds allow.
        """
        client = client_of(options.traffic, offline=options.offline, where=str(ref))
        url = f"{ref.scheme.removeprefix('git+')}://{ref.location}"
        check_address(url)
        folder = tempfile.TemporaryDirectory(prefix="regraft-git-")
        try:
            repository = GitRepository(Path(folder.name), url, where=str(ref), traffic=options.traffic)
            commit = repository.fetch_commit(ref.revision or "HEAD")
            objects = _parse_tree(repository.list_tree(commit), ref)
            return _list(
                msgspec.structs.replace(ref, revision=commit), _sized(repository, commit, _below(objects, ref)),
                repository=repository, client=client, url=url, folder=folder,
            )  # fmt: skip
        except BaseException:
            folder.cleanup()
            raise


def _list(
    ref: ModelRef,
    objects: Mapping[str, _Object],
    *,
    repository: GitRepository,
    client: HttpClient,
    url: str,
    folder: tempfile.TemporaryDirectory[str],
) -> Tree:
    texts = _small_contents(repository, objects)
    pointers = {path: p for path, o in objects.items() if (p := parse_pointer(texts.get(o.oid, b""))) is not None}
    offered = ask_for_objects(client, url, set(pointers.values())) if pointers else {}
    contents: dict[str, str | LfsPointer] = {}
    entries: list[Entry] = []
    for path, listed in objects.items():
        end = _follow(path, objects, texts)
        found = objects.get(end) if end is not None else None
        pointer = pointers.get(end) if end is not None else None
        if found is None or found.mode == _SUBMODULE:
            what = (
                "a submodule: another repository"
                if listed.mode == _SUBMODULE
                else "a link that leads to no file inside"
            )
            entries.append(Entry(path, 0, obstacle=what))
        elif pointer is None:
            contents[path] = found.oid
            entries.append(Entry(path, found.size_bytes))
        else:
            contents[path] = pointer
            obstacle = None if pointer in offered else "kept in LFS, and the server does not offer it"
            entries.append(Entry(path, pointer.size_bytes, pointer.sha256, obstacle))

    def open_entry(entry: Entry) -> Reader:
        content = contents[entry.path]
        if isinstance(content, LfsPointer):
            return _lfs_reader(client, offered[content], entry)
        file, size = repository.content(content)
        return SpooledReader(file, size, where=entry.path)

    return ListedTree(ref, entries, open_entry, on_close=folder.cleanup)


def _lfs_reader(client: HttpClient, offered: LfsObject, entry: Entry) -> Reader:
    return HttpReader(client, offered.url, headers=offered.headers, where=entry.path, size=entry.size_bytes)


def _parse_tree(listing: bytes, ref: ModelRef) -> dict[str, _Object]:
    """`ls-tree -r -z`: mode, type, object and path of each file."""
    objects: dict[str, _Object] = {}
    for record in listing.split(b"\x00"):
        if not record:
            continue
        if len(objects) >= MAX_MEMBERS:
            raise LimitExceeded(f"more than {MAX_MEMBERS} files", where=str(ref), hint="name a part of it after #")
        fields, _, name = record.partition(b"\t")
        mode, _, oid = fields.decode("ascii").split(" ")
        objects[name.decode("utf-8", "surrogateescape")] = _Object(mode, oid)
    return objects


def _below(objects: Mapping[str, _Object], ref: ModelRef) -> Mapping[str, _Object]:
    """The files that are asked for. All of them when links lead elsewhere: those need what they point to."""
    if ref.inside is None:
        return objects
    wanted = ref.inside.rstrip("/")
    found = {path: o for path, o in objects.items() if path == wanted or path.startswith(wanted + "/")}
    if not found:
        raise NotFound(
            f"the commit has no file or folder {wanted!r}", where=str(ref), hint=f"it has {len(objects)} files"
        )
    return objects if any(o.mode == _LINK for o in found.values()) else found


def _sized(repository: GitRepository, commit: str, objects: Mapping[str, _Object]) -> dict[str, _Object]:
    """The same objects with their sizes, for which their content has to be fetched: git has no other way."""
    oids = {o.oid for o in objects.values() if o.mode != _SUBMODULE}
    repository.fetch_objects(commit, oids)
    sizes = repository.sizes(oids)
    return {path: msgspec.structs.replace(o, size_bytes=sizes.get(o.oid, 0)) for path, o in objects.items()}


def _small_contents(repository: GitRepository, objects: Mapping[str, _Object]) -> dict[str, bytes]:
    """Contents that may be links or LFS pointers, by object."""
    wanted = {o.oid for o in objects.values() if o.mode != _SUBMODULE and o.size_bytes <= _POINTER_BYTES}
    return repository.small_contents(wanted)


def _follow(path: str, objects: Mapping[str, _Object], texts: Mapping[str, bytes]) -> str | None:
    """Where a path ends when links inside the commit are followed; None when that is nowhere inside."""
    for _ in range(_MAX_LINKS):
        found = objects.get(path)
        if found is None or found.mode != _LINK:
            return path if found is not None else None
        target = texts.get(found.oid, b"").decode("utf-8", "surrogateescape")
        if not target or target.startswith("/"):
            return None
        path = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    return None
