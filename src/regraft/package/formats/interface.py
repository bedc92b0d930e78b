"""What a format is: it recognises a file by its content and describes it from its header."""

from __future__ import annotations

import functools
import json
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from regraft.errors import Damaged
from regraft.package.limits import MAX_TEXT_BYTES
from regraft.package.reader import Reader

if TYPE_CHECKING:
    from regraft.package.archive import Archive

HEAD_BYTES = 4096
COMPILED_MODELS = frozenset({"iree", "tvm"})
"""Formats of networks that are native code and nothing else: a model for who looks for one, code for who judges it."""


class Role(StrEnum):
    """What a file is for within a package."""

    WEIGHTS = "weights"
    GRAPH = "graph"
    CONFIG = "config"
    TOKENIZER = "tokenizer"
    CARD = "card"
    LICENCE = "licence"
    CODE = "code"
    DATA = "data"
    ARCHIVE = "archive"
    OTHER = "other"


class Loading(StrEnum):
    """What the usual loader of a format does with its bytes."""

    INERT = "inert"
    """Parses data; cannot execute anything from the file."""
    CODE = "code"
    """May execute code that the file holds or names (pickle, Keras Lambda, Python source)."""
    UNKNOWN = "unknown"


class Tensor(msgspec.Struct, frozen=True):
    """One stored array. `dtype` in numpy/safetensors words in lower case: float32, bfloat16, int8, q4_1, …"""

    name: str
    dtype: str
    shape: tuple[int, ...]
    size_bytes: int | None = None

    @property
    def elements(self) -> int:
        """Number of elements; 1 for a scalar."""
        count = 1
        for extent in self.shape:
            count *= extent
        return count


class Port(msgspec.Struct, frozen=True):
    """A named input or output of a graph; a symbolic or unknown dimension is a str or None."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] | None = None


class Problem(msgspec.Struct, frozen=True):
    """Damage or inconsistency that did not stop the description.

    `kind` is a stable word for what sort of problem it is (`duplicate-name`, `crc-mismatch`, …), where rules need one.
    """

    what: str
    offset: int | None = None
    member: str | None = None
    kind: str | None = None


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """What a header says. None means unknown: the header does not say, or we cannot read it.

    Attributes:
        version: version of the file format itself.
        tensors: weights stored in the file.
        parameters: number of trained scalars, when it differs from the sum over `tensors` or they are unknown.
        operators: operator type → number of nodes, of a graph.
        opsets: operator set domain → version.
        inputs, outputs: I/O signature of a graph.
        loading: what the loader does with this very file, where that differs from its format's `loading`.
        metadata: flat facts that the file states about itself, under the format's own keys, values as text.
        problems: damage that was survived.
    """

    version: str | None = None
    tensors: tuple[Tensor, ...] | None = None
    parameters: int | None = None
    operators: dict[str, int] = {}
    opsets: dict[str, int] = {}
    inputs: tuple[Port, ...] = ()
    outputs: tuple[Port, ...] = ()
    loading: Loading | None = None
    metadata: dict[str, str] = {}
    problems: tuple[Problem, ...] = ()


class Probe:
    """One file under examination: its reader, its name as a hint, and lazily what recognition looks at.

    Attributes:
        reader: the content.
        name: path within the package or container; a hint only, never proof of a format.
    """

    def __init__(self, reader: Reader, name: str) -> None:
        self.reader = reader
        self.name = name

    @functools.cached_property
    def basename(self) -> str:
        """Last component of the name, lower case."""
        return self.name.replace("\\", "/").rsplit("/", 1)[-1].lower()

    @functools.cached_property
    def suffix(self) -> str:
        """Suffix of the name with its dot, lower case; empty when there is none."""
        dot = self.basename.rfind(".")
        return self.basename[dot:] if dot > 0 else ""

    @functools.cached_property
    def head(self) -> bytes:
        """The first 4 KiB."""
        return self.reader.read_at(0, HEAD_BYTES)

    @functools.cached_property
    def zip(self) -> Archive | None:
        """The zip directory, when the content is a zip archive with a readable directory."""
        from regraft.package.archive import open_zip

        try:
            return open_zip(self.reader)
        except Damaged:
            return None

    @functools.cached_property
    def text(self) -> str | None:
        """The content as UTF-8 text, None when it is not text or larger than 16 MiB."""
        if self.reader.size > MAX_TEXT_BYTES or b"\x00" in self.head:
            return None
        try:
            return self.reader.read_all(limit=MAX_TEXT_BYTES).decode("utf-8-sig")
        except UnicodeDecodeError:
            return None

    @functools.cached_property
    def json(self) -> Any:
        """The content parsed as JSON, None when it is not JSON."""
        if self.head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] not in (b"{", b"["):
            return None
        try:
            return None if self.text is None else json.loads(self.text)
        except (ValueError, RecursionError):
            return None


class Format(Protocol):
    """One file format. One module a format (or a family with one container), listed in `formats/__init__.py`.

    Attributes:
        name: short stable id, kebab case: `safetensors`, `torch-zip`.
        title: what a person calls it.
        role: what such a file is for.
        loading: what its usual loader does with the bytes.
        suffixes: usual file name suffixes; only used to name a contradiction, never to recognise.
    """

    name: str
    title: str
    role: Role
    loading: Loading
    suffixes: tuple[str, ...]

    def matches(self, probe: Probe) -> bool:
        """Is this content of this format? By content; must not raise on hostile bytes."""

    def describe(self, probe: Probe) -> Description:
        """What the header says, reading no more than metadata.

        Raises:
            Damaged: the content breaks its own format so that nothing can be said.
            LimitExceeded: it exceeds a bound of `package.limits`.
        """
