"""npz: a zip of arrays. numpy has no bfloat16 and no float8; these are widened."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from regraft.deployment.convert.weights.bits import NUMPY_DTYPES, carrier
from regraft.deployment.convert.weights.interface import LeftOut, Stored, Weights, Written
from regraft.errors import Damaged
from regraft.package.archive import name_problems, open_zip
from regraft.package.formats.numpy import ArrayHeader, read_header
from regraft.package.reader import Reader

if TYPE_CHECKING:
    from regraft.deployment.convert.weights.interface import Bits

_SUFFIX = ".npy"
_MAY_BE_WEIGHTS = frozenset({"object", "void", "struct", "longdouble"})
"""What cannot be read and may be weights all the same: lists of arrays, the bfloat16 of ml_dtypes."""
_FIRST_YEAR = (1980, 1, 1, 0, 0, 0)
"""Of every member: the same weights give the same bytes."""


class NpzFile:
    """Read here; written by numpy, which is the second reader too."""

    form = "npz"
    formats: tuple[str, ...] = ("npz", "numpy")
    file = "weights.npz"
    dtypes = NUMPY_DTYPES
    keeps_sharing = False

    def read(self, reader: Reader, path: Path, kind: str) -> Weights:
        """See `Container.read`. Arrays of objects would be unpickled, and are left out."""
        if kind == "numpy":
            content = {path.stem: reader}
        else:
            archive = open_zip(reader)
            content = {member.name.removesuffix(_SUFFIX): archive.open(member) for member in archive.members}
            if len(content) < len(archive.members):
                raise Damaged("two arrays have the same name", where=reader.where)
        headers = {name: read_header(inner) for name, inner in content.items()}
        left_out = [
            LeftOut(name, _why_left_out(header.dtype), is_weight=header.dtype in _MAY_BE_WEIGHTS)
            for name, header in headers.items()
            if header.dtype not in NUMPY_DTYPES
        ]
        tensors = tuple(
            Stored(name, header.dtype, header.shape) for name, header in headers.items() if header.dtype in NUMPY_DTYPES
        )
        return Weights(
            tensors, lambda name: _values(headers[name], content[name]), lambda: None, left_out=tuple(left_out)
        )

    def read_by_library(self, path: Path, kind: str) -> Weights | None:
        """By numpy, without objects."""
        import numpy as np

        if kind == "numpy":
            return None
        archive = zipfile.ZipFile(path)
        names = {name.removesuffix(_SUFFIX): name for name in archive.namelist()}

        def values(name: str) -> Bits:
            with archive.open(names[name]) as handle:
                found = np.lib.format.read_array(handle, allow_pickle=False)
            return np.ascontiguousarray(found, dtype=found.dtype.newbyteorder("<")).reshape(found.shape)

        tensors = []
        for name, member in names.items():
            with archive.open(member) as handle:
                shape, dtype = _header(handle)
            if dtype.name in NUMPY_DTYPES:
                tensors.append(Stored(name, dtype.name, shape))
        return Weights(tuple(tensors), values, archive.close, versions={"numpy": np.__version__})

    def legal_name(self, name: str, taken: frozenset[str]) -> str:
        """Names become members of a zip: none may lead out of a folder or look otherwise than it is."""
        wrong = {kind for kind, _ in name_problems(name)} - {"undecodable-name"}
        if not wrong and "\\" not in name and ":" not in name:
            return name
        kept = "_-" if set(name) <= set("./\\") else "._-"
        return "".join(char if char.isalnum() or char in kept else f"%{ord(char):02X}" for char in name) or "%"

    def write(self, path: Path, tensors: Sequence[Written], metadata: Mapping[str, str]) -> dict[str, str]:
        """Uncompressed, so that members can be mapped and read by range."""
        import numpy as np

        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for item in tensors:
                member = zipfile.ZipInfo(item.stored.name + _SUFFIX, _FIRST_YEAR)
                with archive.open(member, "w", force_zip64=True) as handle:
                    np.lib.format.write_array(cast("Any", handle), item.read(), allow_pickle=False)
        return {"numpy": np.__version__}


def _why_left_out(dtype: str) -> str:
    if dtype == "object":
        return "its elements are pickled objects"
    return f"its type is {dtype}"


def _values(header: ArrayHeader, reader: Reader) -> Bits:
    import numpy as np

    dtype = carrier(header.dtype)
    if header.is_big_endian:
        dtype = dtype.newbyteorder(">")
    content = reader.read_exactly(header.data_offset, header.size_bytes or 0)
    stored = np.frombuffer(content, dtype=dtype).reshape(header.shape, order="F" if header.is_fortran else "C")
    return np.ascontiguousarray(stored, dtype=carrier(header.dtype)).reshape(header.shape)


def _header(handle: Any) -> tuple[tuple[int, ...], Any]:
    import numpy as np

    version = np.lib.format.read_magic(handle)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(handle)
    return tuple(shape), dtype
