"""GGUF: unquantised tensors as they are, blocks of quantised ones decoded to float32 as ggml defines them."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.deployment.convert.weights.bits import carrier
from regraft.deployment.convert.weights.interface import LeftOut, Stored, Weights, Written
from regraft.errors import MissingExtra
from regraft.package.formats.gguf import GGML_TYPES, tensor_places
from regraft.record.digest import digest_bytes

if TYPE_CHECKING:
    from regraft.deployment.convert.weights.interface import Bits
    from regraft.package.formats import Tensor
    from regraft.package.reader import Reader

_PLAIN = frozenset({"float16", "float32", "float64", "bfloat16", "int8", "int16", "int32", "int64"})
_MAX_NAME_BYTES = 63
"""ggml refuses longer names (GGML_MAX_NAME is 64, with its end)."""
_NUMBERS = {word: number for number, (word, _, _) in GGML_TYPES.items()}


class GgufFile:
    """Places are read here, blocks decoded and files written by the `gguf` package, which is the second reader too."""

    form = "gguf"
    formats: tuple[str, ...] = ("gguf",)
    file = "model.gguf"
    dtypes = _PLAIN
    keeps_sharing = False

    def read(self, reader: Reader, path: Path, kind: str) -> Weights:
        """See `Container.read`."""
        places = tensor_places(reader)
        decodable = {name: row for name, row in places.items() if row[0].dtype in _PLAIN or _is_decodable(row[0].dtype)}
        left_out = tuple(
            LeftOut(name, f"its blocks are {tensor.dtype}, which are not decoded", is_weight=True)
            for name, (tensor, _) in places.items()
            if name not in decodable
        )

        def values(name: str) -> Bits:
            tensor, offset = decodable[name]
            return _values(reader.read_exactly(offset, tensor.size_bytes or 0), tensor)

        tensors = tuple(_stored(tensor.name, tensor.dtype, tensor.shape) for tensor, _ in decodable.values())
        return Weights(tensors, values, lambda: None, left_out=left_out)

    def read_by_library(self, path: Path, kind: str) -> Weights | None:
        """By the `gguf` package."""
        try:
            import gguf
        except ImportError:
            return None
        try:
            found = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
        except (ValueError, KeyError, IndexError, OverflowError, UnicodeDecodeError):
            return None
        tensors, contents = [], {}
        for name, entry in found.items():
            word = GGML_TYPES.get(int(entry.tensor_type), ("", 0, 0))[0]
            shape = tuple(int(extent) for extent in reversed(entry.shape))
            if word in _PLAIN or (word and _is_decodable(word)):
                tensors.append(_stored(name, word, shape))
                contents[name] = (entry, word, shape)

        def values(name: str) -> Bits:
            import numpy as np

            entry, word, shape = contents[name]
            if word == "bfloat16":
                return np.ascontiguousarray(entry.data).view(np.uint16).reshape(shape)
            if word in _PLAIN:
                return np.ascontiguousarray(entry.data).reshape(shape)
            return gguf.dequantize(entry.data, entry.tensor_type).reshape(shape)

        return Weights(tuple(tensors), values, lambda: None, versions={"gguf": _version()})

    def legal_name(self, name: str, taken: frozenset[str]) -> str:
        """At most 63 bytes; longer ones keep their beginning, and a digest of the whole."""
        content = name.encode()
        if len(content) <= _MAX_NAME_BYTES and name:
            return name
        mark = digest_bytes(content)[:10]
        return content[: _MAX_NAME_BYTES - len(mark) - 1].decode("utf-8", "ignore") + "~" + mark

    def write(self, path: Path, tensors: Sequence[Written], metadata: Mapping[str, str]) -> dict[str, str]:
        """Nothing is quantised. No metadata of an architecture: a container of weights, which llama.cpp cannot run.

        Raises:
            MissingExtra: the `gguf` package is not installed.
        """
        gguf = _gguf(str(path))
        import numpy as np

        writer = gguf.GGUFWriter(path, "unknown")
        for key, value in metadata.items():
            writer.add_string(f"regraft.{key}", value)
        for item in tensors:
            dtype, shape = carrier(item.stored.dtype), item.stored.shape
            raw = gguf.GGMLQuantizationType(_NUMBERS[item.stored.dtype])
            writer.add_tensor_info(item.stored.name, shape, dtype, math.prod(shape) * dtype.itemsize, raw_dtype=raw)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for item in tensors:
            writer.write_tensor_data(np.ascontiguousarray(item.read()))
        writer.close()
        return {"gguf": _version()}


def _gguf(where: str) -> Any:
    try:
        import gguf
    except ImportError as error:
        raise MissingExtra("gguf", extra="weights", where=where) from error
    return gguf


def _version() -> str:
    from importlib.metadata import version

    return version("gguf")


@functools.cache
def _is_decodable(word: str) -> bool:
    """Does the library decode this block format? It says so of a block of zeros."""
    gguf = _gguf(word)
    import numpy as np

    try:
        kind = gguf.GGMLQuantizationType(_NUMBERS[word])
        gguf.dequantize(np.zeros(gguf.GGML_QUANT_SIZES[kind][1], np.uint8), kind)
    except (NotImplementedError, ValueError, KeyError):
        return False
    return True


def _stored(name: str, word: str, shape: tuple[int, ...]) -> Stored:
    return Stored(name, word, shape) if word in _PLAIN else Stored(name, "float32", shape, word)


def _values(content: bytes, tensor: Tensor) -> Bits:
    import numpy as np

    if tensor.dtype in _PLAIN:
        return np.frombuffer(content, dtype=carrier(tensor.dtype)).reshape(tensor.shape)
    gguf = _gguf(tensor.name)
    kind = gguf.GGMLQuantizationType(_NUMBERS[tensor.dtype])
    decoded: Bits = gguf.dequantize(np.frombuffer(content, dtype=np.uint8), kind)
    return decoded.reshape(tensor.shape)
