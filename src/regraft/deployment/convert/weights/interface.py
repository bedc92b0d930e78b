"""What a container of weights is: tensors by name, read and written one at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias

import msgspec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from regraft.package.reader import Reader

    Bits: TypeAlias = NDArray[np.generic]


class Stored(msgspec.Struct, frozen=True):
    """One tensor of a container.

    Attributes:
        name: as the container spells it.
        dtype: of its values: `float32`, `bfloat16`, `float8_e4m3fn`, `int64`, `bool`, …
        shape: extents; () for a scalar.
        encoded: block format that the values are decoded from, as `q4_1`; empty where they lie there as they are.
        identity: equal for two names of exactly the same elements; None where the container has no such thing.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    encoded: str = ""
    identity: tuple[object, ...] | None = None


class LeftOut(msgspec.Struct, frozen=True):
    """Something in a container that is not among its weights.

    Attributes:
        name: as the container spells it.
        why: a clause: `it is text`.
        is_weight: it may well be one, which cannot be read; False for what never belongs to a model.
    """

    name: str
    why: str
    is_weight: bool = False


class Weights(msgspec.Struct, frozen=True):
    """An open container.

    Attributes:
        tensors: in the order of the container, names unique.
        read: name → its values as a C-contiguous little-endian array; `bfloat16` as uint16, the float8 types as uint8,
            as numpy has no such types. One tensor is in memory at a time.
        close: gives files back.
        metadata: short facts that the container states about itself.
        left_out: what is in it and not among the tensors.
        versions: library → version that reads it; empty for the project's own readers.
    """

    tensors: tuple[Stored, ...]
    read: Callable[[str], Bits]
    close: Callable[[], None]
    metadata: Mapping[str, str] = {}
    left_out: tuple[LeftOut, ...] = ()
    versions: Mapping[str, str] = {}

    @property
    def by_name(self) -> dict[str, Stored]:
        """The tensors by their names."""
        return {stored.name: stored for stored in self.tensors}


class Written(msgspec.Struct, frozen=True):
    """A tensor as it is to be written: its new name, dtype and shape, and how its values are had."""

    stored: Stored
    read: Callable[[], Bits]


class Container(Protocol):
    """A family member: one module a container, listed in `weights/containers.py`."""

    form: str
    """Its form (`convert/forms.py`), as a user says it after `--to`."""
    formats: tuple[str, ...]
    """File formats (names of `package.formats`) that it is read from."""
    file: str
    """Name of the file that is written."""
    dtypes: frozenset[str]
    """That can be written; others are widened to one that can, without loss, or refused."""
    keeps_sharing: bool
    """Two names of the same elements are written once."""

    def read(self, reader: Reader, path: Path, kind: str) -> Weights:
        """Open a container with the project's own reader, where there is one.

        Args:
            reader: over the file.
            path: the same file.
            kind: its format.
        Raises:
            Damaged, LimitExceeded: the bytes are not what the format wants.
            Unsupported: what it holds cannot be read as weights.
            MissingExtra: the library that reads it is not installed.
        """

    def read_by_library(self, path: Path, kind: str) -> Weights | None:
        """Open it with the library that everyone else reads it with; None where that is not installed, or refuses."""

    def legal_name(self, name: str, taken: frozenset[str]) -> str:
        """The name under which a tensor can be written; itself, where the container allows it."""

    def write(self, path: Path, tensors: Sequence[Written], metadata: Mapping[str, str]) -> dict[str, str]:
        """Write a container, tensor by tensor.

        Returns:
            library → version that wrote it.
        """
