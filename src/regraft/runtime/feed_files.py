"""Feeds from the user's files: .npz, .safetensors, or a table of numbers. Pickled arrays are refused."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from regraft.errors import Damaged, MissingExtra, NotFound, UsageError
from regraft.package.limits import MAX_EXPANDED_BYTES, MAX_TEXT_BYTES
from regraft.runtime.feeds import FeedCase
from regraft.runtime.interface import Signature

if TYPE_CHECKING:
    from regraft.runtime.interface import Array

ARRAY_FILES = (".npz", ".safetensors")
"""Endings of files that hold arrays by name."""


def feeds_from_file(path: Path, signature: Signature) -> FeedCase:
    """One case from the user's data.

    Args:
        path: `.safetensors` or `.npz` with an array for each input, or `.csv` of numbers for a model with one
            input of two axes (a header line is skipped).
        signature: dtypes are converted where no value changes.
    Raises:
        UsageError: another kind of file, or arrays that do not fit.
        Damaged: the file cannot be read.
    """
    if path.suffix == ".csv":
        if len(signature.inputs) != 1:
            raise UsageError("a table feeds models with one input", where=str(path), hint="use .npz or .safetensors")
        arrays = {signature.inputs[0].name: _array_from_csv(path)}
    elif path.suffix in ARRAY_FILES:
        arrays = arrays_from_file(path)
    else:
        raise UsageError(f"feeds are .npz, .safetensors or .csv, not {path.suffix!r}", where=str(path))
    dtypes = {port.name: port.dtype for port in signature.inputs}
    missing = [name for name in dtypes if name not in arrays]
    if missing:
        raise UsageError(f"no array for {', '.join(missing)}; it holds {', '.join(arrays)}", where=str(path))
    feeds = {name: _converted(arrays[name], dtype, f"{path}: {name}") for name, dtype in dtypes.items()}
    return FeedCase(path.name, feeds, "data")


def arrays_from_file(path: Path) -> dict[str, Array]:
    """All arrays of a `.npz` or `.safetensors` file by name.

    Raises:
        NotFound: there is no such file.
        Damaged: the file cannot be read.
    """
    if not path.is_file():
        raise NotFound("there is no such file", where=str(path))
    return _arrays_from_npz(path) if path.suffix == ".npz" else _arrays_from_safetensors(path)


def _converted(array: Array, dtype: str, where: str) -> Array:
    import numpy as np

    wanted = "float32" if dtype == "bfloat16" else dtype
    if str(array.dtype) == wanted or wanted == "string":
        return array
    try:
        converted = array.astype(wanted)
    except (TypeError, ValueError):
        raise UsageError(f"{array.dtype} cannot become {wanted}", where=where) from None
    same = np.array_equal(converted.astype(array.dtype), array, equal_nan=array.dtype.kind == "f")
    if not same and not (array.dtype.kind == "f" and converted.dtype.kind == "f"):
        raise UsageError(f"{array.dtype} cannot become {wanted} without changing values", where=where)
    return converted


def _arrays_from_safetensors(path: Path) -> dict[str, Array]:
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file
    except ImportError as error:
        raise MissingExtra("safetensors", extra="text", where=str(path)) from error
    try:
        arrays: dict[str, Array] = load_file(path)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise Damaged(f"safetensors: {error}", where=str(path)) from error
    return arrays


def _arrays_from_npz(path: Path) -> dict[str, Array]:
    """Arrays of numbers only: the members are read one by one, and a pickled one is refused."""
    import zipfile

    from numpy.lib.format import read_array

    arrays: dict[str, Array] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > MAX_EXPANDED_BYTES:
                raise Damaged("its arrays are too large", where=str(path))
            for name in archive.namelist():
                with archive.open(name) as file:
                    arrays[name.removesuffix(".npy")] = read_array(file, allow_pickle=False)
    except (zipfile.BadZipFile, ValueError, OSError, EOFError, KeyError, NotImplementedError) as error:
        raise Damaged(f"not an .npz of numbers: {error}", where=str(path)) from error
    return arrays


def _array_from_csv(path: Path) -> Array:
    import csv

    import numpy as np

    try:
        if path.stat().st_size > MAX_TEXT_BYTES:
            raise Damaged(f"{path.stat().st_size} bytes; .safetensors is for tables of that size", where=str(path))
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if row]
        if rows and not _is_number(rows[0][0]):
            rows = rows[1:]
        return np.array(rows, dtype=np.float64)
    except (OSError, ValueError, csv.Error, UnicodeDecodeError) as error:
        raise Damaged(f"not a table of numbers: {error}", where=str(path)) from error


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
