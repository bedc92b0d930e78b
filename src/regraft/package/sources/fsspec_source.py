"""Any other scheme, through fsspec: object stores, SFTP, in-memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from regraft.errors import (
    AccessDenied,
    LimitExceeded,
    MissingExtra,
    NetworkFailure,
    NotFound,
    ReferenceSyntaxError,
    RegraftError,
    Unsupported,
)
from regraft.package.limits import MAX_MEMBERS
from regraft.package.reader import Reader
from regraft.package.reference import ModelRef
from regraft.package.sources.archive_tree import open_archive_tree
from regraft.package.sources.http import client_of
from regraft.package.sources.interface import Entry, SourceOptions, Tree
from regraft.package.sources.listed_tree import ListedTree

_REFUSED = frozenset(
    (
        "async_wrapper asynclocal asyncwrapper blockcache cached dask data dir dvc file filecache generic git "
        "jlab jupyter libarchive local pyscript reference simplecache tar zip"
    ).split()
)
"""fsspec protocols that wrap others, follow addresses out of their content, or read local files unguarded."""


class FsspecSource:
    """`scheme://location`: a file, or everything below a prefix."""

    def origin(self, ref: ModelRef) -> str:
        """See `RemoteSource.origin`: the reference itself says whom."""
        return ""

    def is_exact(self, ref: ModelRef) -> bool:
        """What an object store holds may change."""
        return False

    def open_tree(self, ref: ModelRef, options: SourceOptions) -> Tree:
        """List what lies there.

        Raises:
            ReferenceSyntaxError: no file system of that name. MissingExtra, Unsupported: its package is not installed.
            NotFound, AccessDenied, NetworkFailure: what the file system says.
            LimitExceeded: more than `MAX_MEMBERS` files.
        """
        client_of(options.traffic, offline=options.offline, where=str(ref))
        with _told(ref):
            system, root = _file_system(ref)
            info = system.info(root)
            if info["type"] == "directory":
                found = {name: int(i["size"] or 0) for name, i in system.find(root, detail=True).items()}
            else:
                found = {root: int(info["size"] or 0)}
        if len(found) > MAX_MEMBERS:
            raise LimitExceeded(f"more than {MAX_MEMBERS} files", where=str(ref))
        if info["type"] != "directory" and ref.inside is not None:
            return open_archive_tree(ref, _FsspecReader(system, root, found[root], ref, options))
        places = {_relative(name, root): name for name in found}
        entries = [_entry(path, found[name]) for path, name in places.items()]
        return ListedTree(
            ref,
            entries,
            lambda entry: _FsspecReader(system, places[entry.path], entry.size_bytes, ref, options, where=entry.path),
        )


class _FsspecReader(Reader):
    def __init__(
        self, system: Any, path: str, size: int, ref: ModelRef, options: SourceOptions, *, where: str | None = None
    ) -> None:
        super().__init__(size, where=where or str(ref))
        self._system = system
        self._path = path
        self._ref = ref
        self._options = options

    def _fetch(self, offset: int, length: int) -> bytes:
        with _told(self._ref):
            data: bytes = self._system.cat_file(self._path, start=offset, end=offset + length)
        if len(data) != length:
            raise NetworkFailure("the file changed while it was read", where=self.where, hint="run the command again")
        self._options.traffic.bytes_read += length
        return data


def _file_system(ref: ModelRef) -> tuple[Any, str]:
    try:
        import fsspec
    except ImportError as error:
        raise MissingExtra("fsspec", extra="fsspec", where=str(ref)) from error
    if ref.scheme in _REFUSED or "::" in ref.location:
        raise ReferenceSyntaxError(
            "file systems that wrap others or read this machine are not opened through fsspec",
            where=str(ref),
            hint="name a local file or folder by its path",
        )
    if ref.scheme not in fsspec.available_protocols():
        known = "pypi, npm, hf, https, git+https and those of fsspec"
        raise ReferenceSyntaxError(f"no source handles {ref.scheme}://", where=str(ref), hint=f"known: {known}")
    try:
        system, path = fsspec.core.url_to_fs(f"{ref.scheme}://{ref.location}")
    except ImportError as error:
        raise Unsupported(
            f"fsspec needs another package for {ref.scheme}://: {error}",
            where=str(ref),
            hint="install the package that the message names",
        ) from error
    return system, str(path)


def _relative(name: str, root: str) -> str:
    if name == root:
        return PurePosixPath(name).name
    return name.removeprefix(root).lstrip("/")


def _entry(path: str, size: int) -> Entry:
    if ".." in path.split("/") or not path:
        return Entry(path, size, obstacle="the name leads out of the folder")
    return Entry(path, size)


@contextlib.contextmanager
def _told(ref: ModelRef) -> Iterator[None]:
    """Turn what a file system raises into errors that say what to do."""
    try:
        yield
    except RegraftError:
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound("there is nothing at this address", where=str(ref)) from error
    except PermissionError as error:
        raise AccessDenied(f"the file system refuses: {error}", where=str(ref), hint="check its credentials") from error
    except Exception as error:  # each file system has errors of its own
        raise NetworkFailure(f"the file system {ref.scheme} failed: {error}", where=str(ref)) from error
