"""What facts are made of: files as they were described, and claims that somebody makes about a model."""

from __future__ import annotations

import re
from enum import StrEnum

import msgspec

from regraft.package.formats import COMPILED_MODELS, Description, Role
from regraft.record.evidence import JSON

_BUFFER = re.compile(
    r"(?:^|[./])(?:running_mean|running_var|num_batches_tracked|position_ids|token_type_ids|relative_position_index|"
    r"inv_freq|masked_bias|\w*_buffer)$"
)
_INDEX_DTYPES = frozenset({"int64", "uint64", "bool"})


class Origin(StrEnum):
    """Who makes a claim, the most trustworthy first: what the bytes are weighs more than what is said of them."""

    HEADER = "header"
    CONFIG = "config"
    CARD = "card"
    INDEX = "index"
    LICENCE_TEXT = "licence text"
    FILE_NAME = "file name"


class InspectedFile(msgspec.Struct, frozen=True):
    """One file as its header describes it.

    Attributes:
        format: short id of the format, None when the content is of no known format.
        title: what a person calls the format.
        suffixes: usual suffixes of the format, to name a contradiction.
        description: None when the format is unknown or the content too damaged to be described.
        damage: why the content could not be read or described; None when it could.
        document: parsed JSON, of the small configuration files that facts are taken from.
        text: text of the small files that facts are taken from (card, METADATA, licence).
    """

    path: str
    size_bytes: int
    format: str | None = None
    title: str | None = None
    role: Role = Role.OTHER
    suffixes: tuple[str, ...] = ()
    description: Description | None = None
    damage: str | None = None
    document: JSON = None
    text: str | None = None

    @property
    def basename(self) -> str:
        """Last component of the path, within its archive."""
        return re.split(r"[/!]", self.path)[-1]

    @property
    def suffix(self) -> str:
        """Suffix of the name with its dot, lower case; empty when there is none."""
        dot = self.basename.rfind(".")
        return self.basename[dot:].lower() if dot > 0 else ""

    @property
    def folder(self) -> str:
        """The path without its last component; empty at the top. An archive counts as a folder."""
        return self.path[: -len(self.basename) - 1] if self.basename != self.path else ""

    @property
    def is_model(self) -> bool:
        """Whether it holds weights or a graph, or what one was compiled to."""
        return self.role in (Role.WEIGHTS, Role.GRAPH) or self.format in COMPILED_MODELS

    @property
    def stored(self) -> int | None:
        """Scalars that the file stores in tensors of its own; None when the header does not say."""
        if self.description is None:
            return None
        if self.description.parameters is not None:
            return self.description.parameters
        return sum(tensor.elements for tensor in self.description.tensors) if self.description.tensors else None

    @property
    def buffers(self) -> int:
        """Stored scalars that no training changes by gradient: running statistics, position ids, index tables."""
        tensors = (self.description and self.description.tensors) or ()
        return sum(t.elements for t in tensors if t.dtype in _INDEX_DTYPES or _BUFFER.search(t.name))

    @property
    def parameters(self) -> int | None:
        """Trained scalars: what is stored, without buffers; None when the header does not say."""
        stored = self.stored
        return None if stored is None else max(0, stored - self.buffers)

    @property
    def dtypes(self) -> dict[str, int]:
        """dtype → number of elements stored in it, the most common first."""
        counts: dict[str, int] = {}
        for tensor in (self.description and self.description.tensors) or ():
            counts[tensor.dtype] = counts.get(tensor.dtype, 0) + tensor.elements
        return dict(sorted(counts.items(), key=lambda item: -item[1]))


class Claim(msgspec.Struct, frozen=True):
    """One statement: this field has this value, says this place.

    Attributes:
        value: normalised, so that equal statements compare equal.
        said: the words of the source, where they differ from the value.
        key: field within the file.
    """

    field: str
    value: JSON
    origin: Origin
    file: str
    key: str | None = None
    said: str | None = None
