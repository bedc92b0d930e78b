"""HDF5: datasets in groups, as Keras and others keep weights. Datasets that lie in other files are refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.deployment.convert.weights.bits import NUMPY_DTYPES, carrier
from regraft.deployment.convert.weights.interface import LeftOut, Stored, Weights, Written
from regraft.errors import Damaged, MissingExtra, Unsupported
from regraft.package.formats.hdf5 import read_hdf5

if TYPE_CHECKING:
    from regraft.deployment.convert.weights.interface import Bits
    from regraft.package.reader import Reader

_BESIDE = ("optimizer_weights", "optimizer")
"""Groups that Keras keeps beside the model's."""


class Hdf5File:
    """Read and written by h5py; the project's own walk over the metadata is what its listing is held against."""

    form = "hdf5"
    formats: tuple[str, ...] = ("hdf5", "keras-h5")
    file = "weights.h5"
    dtypes = NUMPY_DTYPES
    keeps_sharing = False

    def read(self, reader: Reader, path: Path, kind: str) -> Weights:
        """See `Container.read`.

        Raises:
            Unsupported: also for data that lie in other files.
        """
        tree = read_hdf5(reader)
        if tree.external:
            raise Unsupported(f"its data lie in another file, {tree.external[0][:200]!r}", where=reader.where)
        if tree.problems:
            raise Damaged(tree.problems[0].what, where=reader.where)
        found = self.read_by_library(path, kind)
        if found is None:
            raise MissingExtra("h5py", extra="weights", where=reader.where)
        walked = {node.path: node.shape for node in tree.datasets}
        wrong = [stored.name for stored in found.tensors if walked.get(stored.name) != stored.shape]
        if wrong:
            found.close()
            raise Damaged(f"h5py sees {wrong[0][:200]!r} otherwise than its metadata say", where=reader.where)
        return found

    def read_by_library(self, path: Path, kind: str) -> Weights | None:
        """By h5py."""
        try:
            import h5py
        except ImportError:
            return None
        try:
            handle = h5py.File(path, "r")
        except OSError as error:
            raise Damaged(f"HDF5: {error}", where=path.name) from error
        datasets: dict[str, Any] = {}
        handle.visititems(lambda name, node: datasets.update({name: node}) if isinstance(node, h5py.Dataset) else None)
        tensors, left_out = [], []
        for name, node in datasets.items():
            why, is_weight = _obstacle(name, node)
            if why:
                left_out.append(LeftOut(name, why, is_weight))
            else:
                tensors.append(Stored(name, node.dtype.name, tuple(node.shape)))

        def values(name: str) -> Bits:
            import numpy as np

            node = datasets[name]
            return np.ascontiguousarray(node[()], dtype=carrier(node.dtype.name)).reshape(node.shape)

        versions = {"h5py": h5py.__version__}
        return Weights(tuple(tensors), values, handle.close, left_out=tuple(left_out), versions=versions)

    def legal_name(self, name: str, taken: frozenset[str]) -> str:
        """A slash makes groups; a name that would be a dataset and a group at once is written without."""
        parts = name.split("/")
        is_path = all(part not in ("", ".", "..") for part in parts) and "\0" not in name
        outer = {"/".join(parts[:depth]) for depth in range(1, len(parts))}
        inside = any(other.startswith(f"{name}/") for other in taken)
        if is_path and not inside and not outer & taken:
            return name
        plain = name.replace("%", "%25").replace("/", "%2F").replace("\0", "%00")
        return "%2E" * len(plain) or "%" if plain in ("", ".", "..") else plain

    def write(self, path: Path, tensors: Sequence[Written], metadata: Mapping[str, str]) -> dict[str, str]:
        """One dataset a tensor, contiguous.

        Raises:
            MissingExtra: h5py is not installed.
        """
        try:
            import h5py
        except ImportError as error:
            raise MissingExtra("h5py", extra="weights", where=str(path)) from error
        with h5py.File(path, "w") as handle:
            for key, value in metadata.items():
                handle.attrs[key] = value
            for item in tensors:
                handle.create_dataset(item.stored.name, data=item.read())
        return {"h5py": h5py.__version__}


def _obstacle(name: str, node: Any) -> tuple[str, bool]:
    """Why a dataset is no tensor, and whether it may be a weight all the same; empty when it is one."""
    if name.split("/", maxsplit=1)[0] in _BESIDE:
        return "it is the optimizer's", False
    if node.is_virtual or node.external:
        return "its data lie in another file", True
    if node.shape is None:
        return "it is empty", False
    if node.dtype.name not in NUMPY_DTYPES:
        return f"its type is {node.dtype.name}", node.dtype.kind not in "OSUV"
    return "", False
