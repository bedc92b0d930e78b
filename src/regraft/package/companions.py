"""What a model file is nothing without: its weights beside it, known by their names."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable

_SHARD = re.compile(r"group\d+-shard\d+of\d+(\.bin)?")
"""How TensorFlow.js's converter names the weights of a `model.json`."""
_SAVED_MODEL = "saved_model.pb"
_FOLDERS = ("variables/", "assets/")


def companions(path: str, among: Iterable[str]) -> list[str]:
    """Files that belong to a model file, so that a reference that names it names them, too.

    Args:
        path: `saved_model.pb` with its variables, OpenVINO's `x.xml` with `x.bin`, ONNX with external data, or a
            `model.json` of TensorFlow.js with its shards.
        among: all files of the package.
    Returns:
        those that are there, in the order of `among`.
    """
    folder, name = posixpath.split(path)
    inside = f"{folder}/" if folder else ""
    return [one for one in among if one.startswith(inside) and _belongs(one[len(inside) :], name)]


def _belongs(candidate: str, name: str) -> bool:
    stem, suffix = posixpath.splitext(name)
    if name == _SAVED_MODEL:
        return candidate.startswith(_FOLDERS)
    if suffix == ".xml":
        return candidate == f"{stem}.bin"
    if suffix == ".onnx":
        return candidate in (f"{name}.data", f"{name}_data")
    return suffix == ".json" and (candidate == f"{stem}.bin" or _SHARD.fullmatch(candidate) is not None)
