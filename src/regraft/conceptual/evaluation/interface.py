"""What an evaluation is: data and a model in, targets and scores out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import msgspec

from regraft.errors import Damaged, NotFound, UsageError
from regraft.package.limits import MAX_TEXT_BYTES
from regraft.package.package import Package
from regraft.record.digest import Digest, digest_bytes, package_digest
from regraft.record.evidence import JSON, DigestKind, Subject

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from regraft.runtime.interface import Model
    from regraft.runtime.text import TextEncoder


ENCODINGS = {"utf-8": "utf-8-sig", "latin-1": "latin-1"}
"""What texts of data sets are written in → its codec."""


class Scores(msgspec.Struct, frozen=True):
    """What a model said about data, beside what is right.

    Attributes:
        targets: (N,) what is right: 0 and 1, class numbers, or human ratings.
        scores: (N,) what the model said, as numbers.
        decisions: (N,) the same as classes; None where there are none.
        groups: (N,) items of one group depend on each other, as neighbouring frames do.
        unit: what one item is, in the plural: `frames`.
        facts: about the data, for a human.
    """

    targets: NDArray[np.generic]
    scores: NDArray[np.floating]
    decisions: NDArray[np.generic] | None
    groups: NDArray[np.generic]
    unit: str
    facts: dict[str, JSON] = {}


class LoadedModel(Protocol):
    """The model of a claim, loaded when it is asked for."""

    def model(self) -> Model:
        """With its task head, as arrays in and out."""

    def encoder(self) -> TextEncoder:
        """As text encoder: strings to vectors."""

    def classifier(self) -> TextEncoder:
        """With its task head behind its own tokenizer."""


class DataFiles:
    """Reads files of a data package and remembers what was read: only that is material of the evidence."""

    def __init__(self, package: Package) -> None:
        self.package = package
        self._digests: dict[str, Digest] = {}

    def find(self, name: JSON, *suffixes: str) -> list[str]:
        """The files that a claim's scoring names, or all with a suffix when it names none.

        Raises:
            NotFound: there is none.
        """
        paths = [entry.path for entry in self.package.entries if entry.obstacle is None]
        if name is None:
            found = [path for path in paths if path.lower().endswith(suffixes)]
        else:
            found = [path for path in paths if path == name or path.endswith(f"/{name}")]
        if not found:
            wanted = f"no file {name!r}" if name is not None else f"no file that ends in {' or '.join(suffixes)}"
            raise NotFound(f"the data has {wanted}", where=str(self.package.ref))
        return found

    def one(self, name: JSON, *suffixes: str) -> str:
        """As `find`, for a single file.

        Raises:
            NotFound: there is none.
            UsageError: there are several.
        """
        found = self.find(name, *suffixes)
        if len(found) > 1:
            raise UsageError(
                f"the data has {len(found)} such files: {', '.join(found[:8])}",
                where=str(self.package.ref),
                hint="name one after # in the reference of the data",
            )
        return found[0]

    def read(self, path: str, *, limit: int) -> bytes:
        """All bytes of a file.

        Raises:
            LimitExceeded, Damaged: they cannot be had.
        """
        reader = self.package.open(path)
        try:
            content = reader.read_all(limit=limit)
        finally:
            reader.close()
        self._digests[path] = digest_bytes(content)
        return content

    def text(self, path: str, *, encoding: JSON = "utf-8") -> str:
        """A file as text.

        Args:
            encoding: one of `ENCODINGS`.
        Raises:
            UsageError: another encoding.
            LimitExceeded, Damaged: it is too large, or no text.
        """
        if encoding not in ENCODINGS:
            raise UsageError(f"the encoding {encoding!r} is not one of {', '.join(ENCODINGS)}", where=path)
        try:
            return self.read(path, limit=MAX_TEXT_BYTES).decode(ENCODINGS[str(encoding)])
        except UnicodeDecodeError as error:
            raise Damaged(
                f"not {encoding} at byte {error.start}", where=path, hint="scoring: {encoding: latin-1}"
            ) from None

    @property
    def subject(self) -> Subject:
        """The files that were read, as evidence names them."""
        return Subject(self.package.name, package_digest(sorted(self._digests.items())), DigestKind.COMPUTED)


class Evaluation(Protocol):
    """A family member that scores a model on data. One module a member, listed in `evaluation/__init__.py`."""

    name: str
    """What claims call it."""
    metrics: tuple[str, ...]
    """Which of `conceptual.metrics.METRICS` make sense for it."""
    scoring: Mapping[str, JSON]
    """The choices that it leaves, with their defaults."""

    def score(self, model: LoadedModel, data: DataFiles, scoring: Mapping[str, JSON]) -> Scores:
        """Run the model on the data.

        Args:
            model: loaded at the first call.
            data: what it reads is remembered.
            scoring: every key of `self.scoring`.
        Raises:
            UsageError: a choice makes no sense.
            Damaged, NotFound: the data is not what it should be.
            Unsupported, BadFeeds: the model does not fit.
        """
