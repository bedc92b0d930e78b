"""What a source is: it turns a reference into a pinned tree of files that can be range-read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import msgspec

from regraft.package.reader import Meter, Reader
from regraft.package.reference import ModelRef
from regraft.record.digest import Digest
from regraft.record.store import Store


class Entry(msgspec.Struct, frozen=True):
    """One file of a package as its source lists it.

    Attributes:
        path: relative POSIX path, without `..`, as it is listed (may contain odd characters).
        size_bytes: size of the content.
        sha256: digest that an index declares, None when nobody does.
        obstacle: why the content cannot be read (a link that leaves the root, a device, no permission);
            such an entry is listed, never opened.
    """

    path: str
    size_bytes: int
    sha256: Digest | None = None
    obstacle: str | None = None


class Tree(Protocol):
    """The files behind one pinned reference."""

    @property
    def ref(self) -> ModelRef:
        """The reference, pinned: revision, archive name and digest filled in as far as they exist."""

    @property
    def entries(self) -> Sequence[Entry]:
        """Every file, sorted by path components."""

    def open(self, path: str) -> Reader:
        """A range reader over one file of `entries`."""

    def close(self) -> None:
        """Release connections and descriptors."""


class SourceOptions(msgspec.Struct, frozen=True):
    """What a source may do.

    Attributes:
        offline: no network; only what the store has.
        store: where fetched archives are looked up and kept; None: nothing is looked up or kept.
        keep: fetch the content whole and keep it in the store (`regraft fetch`).
        traffic: counts the bytes that are received over the network.
    """

    offline: bool = False
    store: Store | None = None
    keep: bool = False
    traffic: Meter = msgspec.field(default_factory=Meter)


class Source(Protocol):
    """A family of references, by scheme. One module a member, listed in `sources/__init__.py`."""

    def open_tree(self, ref: ModelRef, options: SourceOptions) -> Tree:
        """Pin the reference and list its files.

        Raises:
            NotFound, AccessDenied, NetworkFailure, Offline, AmbiguousReference, MissingExtra.
        """


@runtime_checkable
class RemoteSource(Source, Protocol):
    """A source that asks the network: what it answered may be kept in the store and found there again."""

    def origin(self, ref: ModelRef) -> str:
        """Whom it would ask, without credentials: another registry may give another answer."""

    def is_exact(self, ref: ModelRef) -> bool:
        """Whether the reference can mean only one content for ever, so that a kept one needs no asking."""
