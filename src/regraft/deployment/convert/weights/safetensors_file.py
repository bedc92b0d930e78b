"""safetensors: a header with the place of every tensor, then their bytes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.deployment.convert.weights.bits import carrier
from regraft.deployment.convert.weights.interface import Stored, Weights, Written
from regraft.package.formats.safetensors import tensor_places

if TYPE_CHECKING:
    from regraft.deployment.convert.weights.interface import Bits
    from regraft.package.reader import Reader

_CODES = {
    "bool": "BOOL", "uint8": "U8", "int8": "I8", "uint16": "U16", "int16": "I16", "uint32": "U32", "int32": "I32",
    "uint64": "U64", "int64": "I64", "float16": "F16", "bfloat16": "BF16", "float32": "F32", "float64": "F64",
    "complex64": "C64", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "float8_e8m0fnu": "F8_E8M0",
    "float8_e4m3fnuz": "F8_E4M3FNUZ", "float8_e5m2fnuz": "F8_E5M2FNUZ",
}  # fmt: skip
_RESERVED = "__metadata__"
_ALIGNMENT = 8


class SafetensorsFile:
    """Read and written here; the library is the second reader."""

    form = "safetensors"
    formats: tuple[str, ...] = ("safetensors",)
    file = "model.safetensors"
    dtypes = frozenset(_CODES)
    keeps_sharing = False

    def read(self, reader: Reader, path: Path, kind: str) -> Weights:
        """See `Container.read`."""
        import numpy as np

        places = tensor_places(reader)

        def values(name: str) -> Bits:
            tensor, offset = places[name]
            content = reader.read_exactly(offset, tensor.size_bytes or 0)
            return np.frombuffer(content, dtype=carrier(tensor.dtype)).reshape(tensor.shape)

        tensors = tuple(Stored(name, tensor.dtype, tensor.shape) for name, (tensor, _) in places.items())
        return Weights(tensors, values, lambda: None)

    def read_by_library(self, path: Path, kind: str) -> Weights | None:
        """Through torch where that is installed: numpy alone has no bfloat16."""
        try:
            import safetensors
        except ImportError:
            return None
        from regraft.deployment.convert.weights.torch_file import bits_of_tensor, has_torch

        framework = "pt" if has_torch() else "np"
        try:
            handle: Any = safetensors.safe_open(str(path), framework=framework)
            names = list(handle.keys())
            slices = {name: handle.get_slice(name) for name in names}
        except (safetensors.SafetensorError, KeyError, ValueError):
            return None
        words = {code: word for word, code in _CODES.items()}
        tensors = tuple(
            Stored(name, words.get(part.get_dtype(), "unknown"), tuple(part.get_shape()))
            for name, part in slices.items()
        )
        if framework == "np" and any(stored.dtype.startswith(("bfloat", "float8")) for stored in tensors):
            return None

        def values(name: str) -> Bits:
            found = handle.get_tensor(name)
            return bits_of_tensor(found) if framework == "pt" else found

        return Weights(tensors, values, lambda: None, versions={"safetensors": safetensors.__version__})

    def legal_name(self, name: str, taken: frozenset[str]) -> str:
        """Any text but the one that the header keeps for itself."""
        return f"{name}_" if name == _RESERVED else name

    def write(self, path: Path, tensors: Sequence[Written], metadata: Mapping[str, str]) -> dict[str, str]:
        """The widest elements first, so that each begins at a multiple of its size.

        Source: the format section of github.com/huggingface/safetensors.
        """
        ordered = sorted(tensors, key=lambda item: -carrier(item.stored.dtype).itemsize)
        header: dict[str, object] = {_RESERVED: dict(metadata)} if metadata else {}
        offset = 0
        for item in ordered:
            size = carrier(item.stored.dtype).itemsize * math.prod(item.stored.shape)
            header[item.stored.name] = {
                "dtype": _CODES[item.stored.dtype],
                "shape": list(item.stored.shape),
                "data_offsets": [offset, offset + size],
            }
            offset += size
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        text += b" " * (-len(text) % _ALIGNMENT)
        with path.open("wb") as handle:
            handle.write(len(text).to_bytes(8, "little") + text)
            for item in ordered:
                handle.write(item.read().data)
        return {}
