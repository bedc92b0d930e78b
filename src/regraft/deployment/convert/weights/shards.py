"""The files of a model's weights: one, or the shards that an index names, copied to where readers can have them."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from regraft.errors import Damaged
from regraft.package.limits import MAX_TEXT_BYTES

if TYPE_CHECKING:
    from regraft.runtime.verified import VerifiedFiles

_MAX_SHARDS = 10_000
_PICKLED = frozenset({"torch-zip", "torch-legacy", "torch-tar", "torchscript"})
_KERAS_MEMBER = "model.weights.h5"


class Part(msgspec.Struct, frozen=True):
    """One file.

    Attributes:
        path: of its copy.
        name: in the package.
        kind: its format.
        is_for_libraries: a library may open it; a pickle only with a permit.
    """

    path: Path
    name: str
    kind: str
    is_for_libraries: bool


@contextmanager
def parts_of(files: VerifiedFiles, path: str) -> Iterator[list[Part]]:
    """The files that hold the weights; their copies are gone with the block.

    Raises:
        Damaged: an index that names what is no weights file of the package.
        NotFound, DigestMismatch: as `VerifiedFiles.read`.
    """
    names = _shards(files, path) if files.format_of(path) == "weight-index" else [path]
    with tempfile.TemporaryDirectory(prefix="regraft-", ignore_cleanup_errors=True) as folder:
        parts = []
        for index, name in enumerate(names):
            place = Path(folder) / str(index)
            files.copy(name, place)
            kind = files.format_of(name)
            if kind == "keras-v3":
                place, kind = _unpacked(name, place), "hdf5"
            is_allowed = kind not in _PICKLED or (files.permit is not None and not files.is_values_only)
            parts.append(Part(place, name, kind, is_allowed))
        yield parts


def _shards(files: VerifiedFiles, path: str) -> list[str]:
    try:
        weight_map = json.loads(files.text(path, limit=MAX_TEXT_BYTES))["weight_map"]
        names = sorted({str(name) for name in weight_map.values()})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Damaged(f"not an index of weights: {error}", where=path) from None
    if len(names) > _MAX_SHARDS:
        raise Damaged(f"the index names {len(names)} files", where=path)
    found = [files.beside(path, name) for name in names]
    for name, shard in zip(names, found, strict=True):
        if shard is None or files.format_of(shard) == "weight-index":
            raise Damaged(f"the index names {name[:200]!r}, which is no weights file of the package", where=path)
    return [shard for shard in found if shard is not None]


def _unpacked(name: str, place: Path) -> Path:
    """The HDF5 file inside of a `.keras` archive."""
    from regraft.package.archive import open_zip
    from regraft.package.reader import FileReader

    reader = FileReader(place, where=name)
    try:
        archive = open_zip(reader)
        if _KERAS_MEMBER not in archive.by_name:
            raise Damaged(f"the archive has no member {_KERAS_MEMBER!r}", where=name)
        inner = place.with_name(f"{place.name}.h5")
        with archive.open(archive.by_name[_KERAS_MEMBER]).as_file() as source, inner.open("wb") as target:
            shutil.copyfileobj(source, target)
    finally:
        reader.close()
    return inner
