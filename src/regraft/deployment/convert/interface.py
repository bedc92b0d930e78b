"""What a converter is: one hop from one form of a network to another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from regraft.runtime.interface import Feeds, Model


class Source(msgspec.Struct, frozen=True):
    """What a converter starts from.

    Attributes:
        model: the loaded model.
        feeds: example inputs of several sizes; the first has every symbolic dimension at 2 or more.
    """

    model: Model
    feeds: Sequence[Feeds]


class Hop(msgspec.Struct, frozen=True):
    """The result of one hop.

    Attributes:
        files: file name → bytes; the first is the one that a runtime loads.
        runtime: the runtime that executes it.
        notes: what a user should know: a dimension that had to be fixed, an opset.
        versions: library → version that did the work.
    """

    files: dict[str, bytes]
    runtime: str
    notes: tuple[str, ...] = ()
    versions: dict[str, str] = {}


class Converter(Protocol):
    """A family member. One module a converter, `<target>_from_<source>`, listed in `convert/__init__.py`."""

    name: str
    source: str
    """Runtime of the model that it takes."""
    target: str
    """What it makes, as a user says it after `--to`."""

    def convert(self, source: Source) -> Hop:
        """Convert a model.

        Raises:
            Unsupported: the library cannot; the message is its own.
            MissingExtra: the library is not installed.
        """
