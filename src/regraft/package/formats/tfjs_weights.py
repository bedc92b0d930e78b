"""Weights of TensorFlow.js models as arrays: shards joined, quantised ones as the numbers that they stand for.

Source: tfjs-core `io_utils.ts` (`decodeWeights`): weights lie one behind the other in the order of the manifest; what
is quantised to 8 or 16 bits is `q · scale + min`, a text is four bytes of length and UTF-8.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from regraft.errors import Damaged, Unsupported
from regraft.package.limits import MAX_TENSORS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_PLAIN = {
    "float32": "<f4", "int32": "<i4", "uint8": "u1", "uint16": "<u2", "float16": "<f2", "bool": "?", "complex64": "<c8",
}  # fmt: skip
_QUANTISED = ("uint8", "uint16")


def shards(manifest: Any) -> Iterator[str]:
    """Names of the files with weights, relative to that of the manifest.

    Raises:
        Damaged: one leads out of the folder, or the manifest is none.
    """
    for group in _groups(manifest):
        for path in group["paths"]:
            if not isinstance(path, str) or posixpath.isabs(path) or ".." in path.split("/"):
                raise Damaged(f"a shard lies outside of the model's folder: {str(path)[:100]!r}")
            yield path


def weights_of(manifest: Any, read: Callable[[str], bytes]) -> dict[str, NDArray[np.generic]]:
    """Every weight of a manifest.

    Args:
        manifest: `weightsManifest` of a `model.json`: groups of `paths` and `weights`.
        read: name of a shard → its bytes.
    Returns:
        name → array in the dtype that it has in the network; texts are arrays of `bytes` objects.
    Raises:
        Damaged: shards are shorter or longer than the manifest says, or the manifest is none.
        Unsupported: a dtype or a quantisation that is not known.
    """
    found: dict[str, NDArray[np.generic]] = {}
    for group in _groups(manifest):
        content = memoryview(b"".join(map(read, group["paths"])))
        at = 0
        for entry in group["weights"]:
            name, shape = _entry(entry)
            found[name], at = _weight(entry, shape, content, at)
        if at != len(content):
            raise Damaged(
                f"{len(content)} bytes of weights, and the manifest describes {at}", where=str(group["paths"][0])
            )
    return found


def _groups(manifest: Any) -> Sequence[Mapping[str, Any]]:
    groups = manifest if isinstance(manifest, list) else []
    for group in groups:
        if not isinstance(group, dict) or not all(isinstance(group.get(key), list) for key in ("paths", "weights")):
            raise Damaged("a group of the weight manifest has no paths or no weights")
        if len(group["weights"]) > MAX_TENSORS:
            raise Damaged(f"more than {MAX_TENSORS} weights")
    return groups


def _entry(entry: Any) -> tuple[str, tuple[int, ...]]:
    if (
        not isinstance(entry, dict)
        or not isinstance(entry.get("name"), str)
        or not isinstance(entry.get("shape"), list)
    ):
        raise Damaged("an entry of the weight manifest has no name or shape")
    if not all(type(extent) is int and extent >= 0 for extent in entry["shape"]):
        raise Damaged("a weight's shape is none", where=entry["name"])
    return entry["name"], tuple(entry["shape"])


def _weight(
    entry: Mapping[str, Any], shape: tuple[int, ...], content: memoryview, at: int
) -> tuple[NDArray[np.generic], int]:
    """The array, and where the next one begins."""
    import math

    import numpy as np

    name, dtype = entry["name"], entry.get("dtype")
    count = math.prod(shape)
    if dtype == "string":
        return _texts(content, at, count, shape, name)
    quantised = entry.get("quantization")
    stored = quantised.get("dtype") if isinstance(quantised, dict) else dtype
    if stored not in _PLAIN or dtype not in _PLAIN:
        raise Unsupported(f"weights of {dtype} that are stored as {stored} are not known", where=name)
    layout = np.dtype(_PLAIN[stored])
    end = at + count * layout.itemsize
    if end > len(content):
        raise Damaged(f"the weights end {end - len(content)} bytes early", where=name)
    values: NDArray[np.generic] = np.frombuffer(content[at:end], layout).reshape(shape)
    if isinstance(quantised, dict):
        values = _real_numbers(values, quantised, dtype, name)
    return values, end


def _real_numbers(
    values: NDArray[np.generic], quantised: Mapping[str, Any], dtype: str, name: str
) -> NDArray[np.generic]:
    """As tfjs computes them: in double precision, then rounded to the dtype of the weight."""
    import numpy as np

    if values.dtype == np.float16:
        return values.astype(_PLAIN[dtype])
    scale, least = quantised.get("scale"), quantised.get("min")
    if (
        quantised.get("dtype") not in _QUANTISED
        or not isinstance(scale, int | float)
        or not isinstance(least, int | float)
    ):
        raise Unsupported("a quantisation without scale and min is not known", where=name)
    real = values.astype(np.float64) * scale + least
    return (np.rint(real) if dtype == "int32" else real).astype(_PLAIN[dtype])


def _texts(
    content: memoryview, at: int, count: int, shape: tuple[int, ...], name: str
) -> tuple[NDArray[np.generic], int]:
    import numpy as np

    found: list[bytes] = []
    for _ in range(count):
        size = int.from_bytes(content[at : at + 4], "little")
        if at + 4 + size > len(content):
            raise Damaged("the weights end within a text", where=name)
        found.append(bytes(content[at + 4 : at + 4 + size]))
        at += 4 + size
    return np.array(found, dtype=object).reshape(shape), at
