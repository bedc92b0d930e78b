"""The files below a local folder. Links are followed inside it alone, and no opening can be raced out of it."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from regraft.errors import AccessDenied, Damaged, LimitExceeded, NotFound
from regraft.package.limits import MAX_MEMBERS, MAX_NESTING
from regraft.package.reader import Reader, holds_more
from regraft.package.reference import ModelRef
from regraft.package.sources.interface import Entry
from regraft.package.sources.path import kind_of

_PASS = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_HUB_REPOSITORIES = ("models--", "datasets--", "spaces--")
_MAX_HELD = 256
"""Descriptors that the readers of one tree keep; further readers open their file for each read."""


class _Place(msgspec.Struct, frozen=True):
    """Where something really lies: below the root or, for links of a hub cache, below its repository folder."""

    parts: tuple[str, ...]
    in_hub: bool = False

    def __truediv__(self, name: str) -> _Place:
        return _Place((*self.parts, name), self.in_hub)


class _Folder(msgspec.Struct, frozen=True):
    """A folder to list: its path in the package, where it really lies, and the folders around it."""

    path: str
    place: _Place
    around: frozenset[_Place] = frozenset()


class _ObstacleError(Exception):
    """Why something that was found cannot be a file of the package; the text is the obstacle."""


class FolderTree:
    """A package that is a folder. See `Tree`.

    `.git` at the top is skipped. Opening walks down from the root's descriptor and follows no link on
    the way, so a path that was swapped after it was listed is refused, not followed. A snapshot of a
    hub cache may link into its own repository folder: `snapshots/<revision>/x → ../../blobs/…`.
    """

    def __init__(self, ref: ModelRef, root: Path) -> None:
        self.ref = ref
        self._root = Path(os.path.realpath(root))
        self._hub = _hub_repository(self._root)
        self._anchors: dict[bool, int] = {}
        self._places: dict[str, _Place] = {}
        self._lock = threading.Lock()
        self._held = 0
        try:
            self._anchors[False] = _open_root(self._root)
            if self._hub is not None:
                self._anchors[True] = _open_root(self._hub)
            found = list(self._walk())
        except BaseException:
            self.close()
            raise
        self.entries: Sequence[Entry] = sorted(found, key=lambda entry: entry.path.split("/"))

    def open(self, path: str) -> Reader:
        """See `Tree.open`.

        Raises:
            NotFound: it is not listed.
            AccessDenied: it has an obstacle, or became something else since it was listed.
        """
        if path not in self._places:
            obstacle = next((entry.obstacle for entry in self.entries if entry.path == path), None)
            if obstacle is None:
                raise NotFound(f"the package has no file {path!r}", where=str(self.ref))
            raise AccessDenied(obstacle, where=path)
        return _TreeFile(self, path)

    def descriptor(self, path: str) -> int:
        """A new descriptor of a listed file; the caller closes it."""
        place = self._places[path]
        if not self._anchors:
            raise AccessDenied("the package was closed", where=path)
        try:
            descriptor = _open_beneath(self._anchors[place.in_hub], place.parts, _READ)
        except OSError as error:
            raise AccessDenied(f"the file cannot be opened: {error.strerror}", where=path) from error
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            raise AccessDenied("it is no regular file any more", where=path)
        if status.st_size == 0 and holds_more(descriptor):
            os.close(descriptor)
            raise AccessDenied("it does not tell its size, as files of /proc do", where=path)
        return descriptor

    def may_hold(self) -> bool:
        """Count a descriptor that a reader wants to keep; False when there are enough of them."""
        with self._lock:
            if self._held >= _MAX_HELD:
                return False
            self._held += 1
            return True

    def let_go(self) -> None:
        """Uncount a descriptor."""
        with self._lock:
            self._held -= 1

    def close(self) -> None:
        """See `Tree.close`; closing twice is harmless."""
        while self._anchors:
            os.close(self._anchors.popitem()[1])

    def _walk(self) -> Iterator[Entry]:
        pending = [_Folder("", _Place(()))]
        count = 0
        while pending:
            folder = pending.pop()
            try:
                names = self._names(folder.place)
            except OSError as error:
                if not folder.path:
                    raise AccessDenied(f"it cannot be listed: {error.strerror}", where=str(self._root)) from error
                yield Entry(folder.path, 0, obstacle=f"a folder that cannot be listed: {error.strerror}")
                continue
            for name in names:
                count += 1
                if count > MAX_MEMBERS:
                    raise LimitExceeded(
                        f"more than {MAX_MEMBERS} files and folders",
                        where=str(self._root),
                        hint="name the model's own folder",
                    )
                if name == ".git" and not folder.path and (self._root / name).is_dir():
                    continue
                path = f"{folder.path}/{name}" if folder.path else name
                try:
                    found = self._look(path, folder.place / name, folder)
                except _ObstacleError as obstacle:
                    yield Entry(path, 0, obstacle=str(obstacle))
                    continue
                if isinstance(found, Entry):
                    yield found
                else:
                    pending.append(found)

    def _names(self, place: _Place) -> list[str]:
        descriptor = _open_beneath(self._anchors[place.in_hub], place.parts, _LIST)
        try:
            with os.scandir(descriptor) as children:
                return [child.name for _, child in zip(range(MAX_MEMBERS + 1), children, strict=False)]
        finally:
            os.close(descriptor)

    def _look(self, path: str, place: _Place, folder: _Folder) -> Entry | _Folder:
        place, status = self._resolve(place)
        if stat.S_ISDIR(status.st_mode):
            around = folder.around | {folder.place}
            if place in around:
                raise _ObstacleError("a link to a folder around it: a loop")
            if len(around) >= MAX_NESTING or len(place.parts) > MAX_NESTING:
                raise _ObstacleError(f"nested more than {MAX_NESTING} folders deep")
            return _Folder(path, place, around)
        if not stat.S_ISREG(status.st_mode):
            raise _ObstacleError(f"{kind_of(status.st_mode)}, no file")
        if not os.access("/".join(place.parts), os.R_OK, dir_fd=self._anchors[place.in_hub]):
            raise _ObstacleError("no permission to read it")
        self._places[path] = place
        return Entry(path, status.st_size)

    def _resolve(self, place: _Place) -> tuple[_Place, os.stat_result]:
        """What lies at a place; a link is followed to its end if that is inside."""
        base = self._hub if place.in_hub and self._hub is not None else self._root
        path = base.joinpath(*place.parts)
        try:
            status = path.lstat()
            if not stat.S_ISLNK(status.st_mode):
                return place, status
            text = str(path.readlink())
            end = Path(os.path.realpath(path, strict=True))
            status = end.lstat()
        except FileNotFoundError:
            raise _ObstacleError("a link to nothing") from None
        except OSError as error:
            raise _ObstacleError(f"it cannot be looked at: {error.strerror}") from error
        if end.is_relative_to(self._root):
            return _Place(end.relative_to(self._root).parts), status
        if self._hub is not None and end.is_relative_to(self._hub):
            return _Place(end.relative_to(self._hub).parts, in_hub=True), status
        raise _ObstacleError(f"a link that leads out of the package, to {text!r}")


class _TreeFile(Reader):
    """A file of a folder. It keeps its descriptor while the tree has few of them, else opens for each read."""

    def __init__(self, tree: FolderTree, path: str) -> None:
        self._tree = tree
        self._path = path
        self._held = -1
        descriptor = tree.descriptor(path)
        status = os.fstat(descriptor)
        self._identity = _identity(status)
        super().__init__(status.st_size, where=path)
        if tree.may_hold():
            self._held = descriptor
        else:
            os.close(descriptor)

    def _fetch(self, offset: int, length: int) -> bytes:
        if self._held >= 0:
            return _read(self._held, offset, length, self.where)
        descriptor = self._tree.descriptor(self._path)
        try:
            if _identity(os.fstat(descriptor)) != self._identity:
                raise Damaged("the file was changed while it was read", where=self.where)
            return _read(descriptor, offset, length, self.where)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        if self._held >= 0:
            held, self._held = self._held, -1
            os.close(held)
            self._tree.let_go()

    def __del__(self) -> None:
        if getattr(self, "_held", -1) >= 0:
            self.close()


def _identity(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _open_root(path: Path) -> int:
    try:
        return os.open(path, _PASS)
    except OSError as error:
        raise AccessDenied(f"the folder cannot be entered: {error.strerror}", where=str(path)) from error


def _open_beneath(anchor: int, parts: Sequence[str], flags: int) -> int:
    """Open what lies at `parts` below a folder, following no link on the way or at the end."""
    if not parts:
        return os.open(".", flags, dir_fd=anchor)
    folder = anchor
    try:
        for part in parts[:-1]:
            inner = os.open(part, _PASS, dir_fd=folder)
            if folder != anchor:
                os.close(folder)
            folder = inner
        return os.open(parts[-1], flags, dir_fd=folder)
    finally:
        if folder != anchor:
            os.close(folder)


def _read(descriptor: int, offset: int, length: int, where: str) -> bytes:
    data = b""
    try:
        while len(data) < length:
            more = os.pread(descriptor, length - len(data), offset + len(data))
            if not more:
                raise Damaged("the file shrank while it was read", where=where)
            data += more
    except OSError as error:
        raise Damaged(f"the file cannot be read here: {error.strerror}", where=where) from error
    return data


def _hub_repository(root: Path) -> Path | None:
    """The repository folder of the hub cache that a snapshot folder, or a folder inside one, belongs to."""
    for folder in (root, *root.parents):
        repository = folder.parent.parent
        if folder.parent.name == "snapshots" and repository.name.startswith(_HUB_REPOSITORIES):
            return repository
    return None
