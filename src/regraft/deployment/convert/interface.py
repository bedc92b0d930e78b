"""What a converter is: one hop from one form of a network to another."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from regraft.errors import LimitExceeded, Unsupported

if TYPE_CHECKING:
    from regraft.runtime.interface import Feeds, Model
    from regraft.runtime.verified import VerifiedFiles

_MAX_COPIED_BYTES = 16 << 30


class Source(msgspec.Struct, frozen=True):
    """What a converter starts from.

    Attributes:
        model: the loaded model; None where no runtime here executes it, as for weights without an architecture.
        feeds: example inputs of several sizes; the first has every symbolic dimension at 2 or more.
        files: the bytes of the package, as scanned; None for a model that never was a file.
        path: of the model file in the package.
        where: how errors name it.
        given: how many of the feeds are the user's own; they come first.
    """

    model: Model | None
    feeds: Sequence[Feeds] = ()
    files: VerifiedFiles | None = None
    path: str = ""
    where: str = ""
    given: int = 0

    def loaded(self) -> Model:
        """The model.

        Raises:
            Unsupported: there is none.
        """
        if self.model is None:
            raise Unsupported("no runtime here executes it, and this converter needs it loaded", where=self.where)
        return self.model

    def content(self) -> bytes:
        """The bytes of the model file.

        Raises:
            Unsupported: it never was a file.
        """
        if self.files is None:
            raise Unsupported("it is a model in memory, and this converter reads a file", where=self.where)
        return self.files.read(self.path)

    def copy_to(self, folder: Path) -> Path:
        """Copy the model file and everything beside and below it; the originals stay out of a converter's reach.

        Returns:
            the path of the model file's copy.
        Raises:
            Unsupported: it never was a file.
            LimitExceeded: it is larger than 16 GiB.
        """
        if self.files is None:
            raise Unsupported("it is a model in memory, and this converter reads files", where=self.where)
        root = posixpath.dirname(self.path)
        inside = [
            entry
            for entry in self.files.package.entries
            if entry.obstacle is None and (not root or entry.path.startswith(f"{root}/"))
        ]
        if sum(entry.size_bytes for entry in inside) > _MAX_COPIED_BYTES:
            raise LimitExceeded(f"its folder holds more than {_MAX_COPIED_BYTES >> 30} GiB", where=self.where)
        for entry in inside:
            place = folder / posixpath.relpath(entry.path, root or ".")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(self.files.read_opaque(entry.path))
        return folder / posixpath.relpath(self.path, root or ".")


class Hop(msgspec.Struct, frozen=True):
    """The result of one hop.

    Attributes:
        files: file name → bytes; the first is the one that a runtime loads.
        runtime: the runtime that executes it; empty for weights, which nothing executes.
        notes: what a user should know: a dimension that had to be fixed, an opset.
        versions: library → version that did the work.
        precision: that the runtime is to be told to compute in, when the product is loaded; None leaves it alone.
        is_compiled: it is native code that this very hop compiled from a network that is loaded already. Of the
            project's own converters this is believed, and the library run to verify it; a scan could never pass it.
        is_one_size: the converter fixed sizes that its source leaves free, and would on any other way.
    """

    files: dict[str, bytes]
    runtime: str
    notes: tuple[str, ...] = ()
    versions: dict[str, str] = {}
    precision: str | None = "float32"
    is_compiled: bool = False
    is_one_size: bool = False


class Converter(Protocol):
    """A family member. One module a converter, `<target>_from_<source>`, listed in `convert/members.py`."""

    name: str
    source: str
    """Form of the model that it takes (`forms.py`)."""
    target: str
    """Form that it makes, as a user says it after `--to`."""
    cost: int
    """What it takes and risks, beside the others: 1 rewrites a graph, 3 follows code by tracing it, 5 loses precision
    by intent, 10 works in another environment. The cheapest path is tried first."""

    def obstacle(self) -> str:
        """Why it cannot work here (a library, an environment, hardware that is missing), empty when it can.

        Answered without importing anything heavy.
        """

    def convert(self, source: Source) -> Hop:
        """Convert a model.

        Raises:
            Unsupported: the library cannot; the message is its own, and names operators where it knows them.
            MissingExtra: the library is not installed.
        """
