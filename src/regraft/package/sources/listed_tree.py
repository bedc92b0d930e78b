"""A package whose files a source has listed one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from regraft.errors import AccessDenied, NotFound
from regraft.package.reader import Reader
from regraft.package.reference import ModelRef
from regraft.package.sources.interface import Entry


class ListedTree:
    """See `Tree`.

    Args:
        ref: the reference, pinned.
        entries: the files, in any order.
        open_entry: gives a reader over one of them.
        on_close: what is to be released with the tree.
    """

    def __init__(
        self,
        ref: ModelRef,
        entries: Iterable[Entry],
        open_entry: Callable[[Entry], Reader],
        *,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self.ref = ref
        self.entries = sorted(entries, key=lambda entry: entry.path.split("/"))
        self._by_path = {entry.path: entry for entry in self.entries}
        self._open_entry = open_entry
        self._on_close = on_close

    def open(self, path: str) -> Reader:
        """See `Tree.open`.

        Raises:
            NotFound, AccessDenied: not listed, or listed with an obstacle; or what the source raises.
        """
        entry = self._by_path.get(path)
        if entry is None:
            raise NotFound(f"the package has no file {path!r}", where=str(self.ref))
        if entry.obstacle is not None:
            raise AccessDenied(entry.obstacle, where=path)
        return self._open_entry(entry)

    def close(self) -> None:
        """See `Tree.close`; closing twice is harmless."""
        if self._on_close is not None:
            on_close, self._on_close = self._on_close, None
            on_close()
