"""Local files and folders."""

from __future__ import annotations

import difflib
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from regraft.errors import AccessDenied, NotFound
from regraft.package.reader import FileReader, Reader
from regraft.package.reference import ModelRef
from regraft.package.sources.interface import Entry, SourceOptions, Tree

_SPECIAL = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
)


class PathSource:
    """A file, a folder, or an archive with something inside named (`a.whl#b/c.onnx`)."""

    def open_tree(self, ref: ModelRef, options: SourceOptions) -> Tree:
        """List what lies at a path. Network and store are not touched.

        Raises:
            NotFound: nothing is there; the hint names the nearest sibling.
            AccessDenied: no permission, a device, or links in a loop.
            LimitExceeded: more than `MAX_MEMBERS` files and folders.
        """
        path = Path(ref.location)
        mode = _mode(path)
        if stat.S_ISDIR(mode):
            from regraft.package.sources.folder import FolderTree

            return FolderTree(ref, path)
        if not stat.S_ISREG(mode):
            raise AccessDenied(f"this is {kind_of(mode)}, no file", where=str(path), hint="name a file or a folder")
        if ref.scheme == "trace":
            raise NotFound("a trace is a folder, this is a file", where=str(path))
        if ref.inside is None:
            return FileTree(ref, path)
        from regraft.package.sources.archive_tree import open_archive_tree

        return open_archive_tree(ref, open_local(path))


class FileTree:
    """A package of one local file. See `Tree`.

    Args:
        ref: the reference, pinned.
        path: the file.
        entry: how it is listed; default: by its name, with nothing declared.
    """

    def __init__(self, ref: ModelRef, path: Path, *, entry: Entry | None = None) -> None:
        self.ref = ref
        self._path = path
        if entry is None:
            reader = open_local(path)
            entry = Entry(path.name, reader.size)
            reader.close()
        self.entries: Sequence[Entry] = (entry,)

    def open(self, path: str) -> Reader:
        """See `Tree.open`."""
        if path != self.entries[0].path:
            raise NotFound(f"the package has no file {path!r}", where=str(self.ref))
        return open_local(self._path, where=path)

    def close(self) -> None:
        """See `Tree.close`."""


def open_local(path: Path, *, where: str | None = None) -> FileReader:
    """A reader over a file that exists.

    Raises:
        NotFound, AccessDenied: it vanished, or may not be read.
    """
    try:
        return FileReader(path, where=where or str(path))
    except FileNotFoundError:
        raise NotFound("the file is not there any more", where=str(path)) from None
    except OSError as error:
        raise AccessDenied(
            f"the file cannot be read: {error.strerror}", where=str(path), hint=f"ls -l {str(path)!r} shows who may"
        ) from error


def kind_of(mode: int) -> str:
    """What a file that is neither regular nor a folder is, in words."""
    return next((words for is_kind, words in _SPECIAL if is_kind(mode)), "something special")


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound("there is nothing at this path", where=str(path), hint=_nearest_sibling(path)) from None
    except ValueError as error:  # an embedded NUL
        raise NotFound(f"this cannot be a path: {error}", where=repr(str(path))) from error
    except OSError as error:
        raise AccessDenied(f"the path cannot be looked at: {error.strerror}", where=str(path)) from error


def _nearest_sibling(path: Path) -> str:
    """A name that exists near a path that does not."""
    parent = path.parent
    while not parent.is_dir() and parent != parent.parent:
        path, parent = parent, parent.parent
    try:
        with os.scandir(parent) as children:
            names = [child.name for _, child in zip(range(10_000), children, strict=False)]
    except OSError:
        return ""
    close = difflib.get_close_matches(path.name, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean {str(parent / close[0])!r}?"
    return f"the nearest folder that exists is {str(parent.absolute())!r}; ls lists it"
