"""torch's checkpoints: zip, legacy and tar files, TorchScript archives; nothing is unpickled to read them."""

from __future__ import annotations

import importlib.util
import pickle
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.deployment.convert.weights.bits import NUMPY_DTYPES, carrier
from regraft.deployment.convert.weights.interface import LeftOut, Stored, Weights, Written
from regraft.errors import MissingExtra, Unsupported
from regraft.package.formats import Probe
from regraft.package.formats.torch_places import View, torch_views

if TYPE_CHECKING:
    import torch

    from regraft.deployment.convert.weights.interface import Bits
    from regraft.package.reader import Reader

_FLOAT8 = frozenset({"float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"})
_ALIGNMENT = 64
_DTYPES = NUMPY_DTYPES | _FLOAT8 | {"bfloat16"}


class TorchFile:
    """Read here; written by torch, which is the second reader too."""

    form = "torch-weights"
    formats: tuple[str, ...] = ("torch-zip", "torch-legacy", "torch-tar", "torchscript")
    file = "pytorch_model.bin"
    dtypes = _DTYPES
    keeps_sharing = True

    def read(self, reader: Reader, path: Path, kind: str) -> Weights:
        """See `Container.read`. Of a checkpoint that holds more, the state dict."""
        checkpoint = torch_views(Probe(reader, path.name), kind)
        views = {view.name: view for view in checkpoint.views if view.storage is not None and view.dtype in _DTYPES}
        left_out = [LeftOut(name, "it belongs to no state dict") for name in checkpoint.beside]
        for view in checkpoint.views:
            if view.name not in views:
                why = f"its type {view.dtype} is not read" if view.storage is not None else "it is no dense tensor"
                left_out.append(LeftOut(view.name, why, is_weight=True))
        tensors = tuple(Stored(view.name, view.dtype, view.shape, "", view.identity) for view in views.values())
        return Weights(tensors, lambda name: _values(views[name]), lambda: None, left_out=tuple(left_out))

    def read_by_library(self, path: Path, kind: str) -> Weights | None:
        """By `torch.load` with `weights_only`, where that takes the file."""
        if not has_torch() or kind == "torchscript":
            return None
        import torch

        from regraft.runtime.torch_weights import state_dict_in

        try:
            found = state_dict_in(path)
        except (pickle.UnpicklingError, Unsupported, RuntimeError, ValueError, KeyError, TypeError, EOFError, OSError):
            return None
        tensors = tuple(
            Stored(name, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))
            for name, tensor in found.items()
            if tensor.layout is torch.strided and not tensor.is_quantized
        )
        return Weights(
            tensors,
            lambda name: bits_of_tensor(found[name]),
            found.clear,
            versions={"torch": str(torch.__version__)},
        )

    def legal_name(self, name: str, taken: frozenset[str]) -> str:
        """Any text."""
        return name

    def write(self, path: Path, tensors: Sequence[Written], metadata: Mapping[str, str]) -> dict[str, str]:
        """By `torch.save`, from a mapped file beside it, so that no more than a tensor is held; shared ones stay so.

        Raises:
            MissingExtra: torch is not installed.
        """
        if not has_torch():
            raise MissingExtra("torch", extra="torch", where=str(path))
        import torch

        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".regraft-") as folder:
            mapped = Path(folder) / "bits"
            places = _spilled(mapped, tensors)
            storages = {place: _mapped(mapped, *place) for place in set(places.values())}
            found = {
                item.stored.name: storages[places[item.stored.name]]
                .view(getattr(torch, item.stored.dtype))
                .reshape(item.stored.shape)
                for item in tensors
            }
            torch.save(found, path)
        return {"torch": str(torch.__version__)}


def has_torch() -> bool:
    """Is torch installed? Without importing it."""
    return importlib.util.find_spec("torch") is not None


def bits_of_tensor(tensor: torch.Tensor) -> Bits:
    """The values of a tensor on the CPU, as `Weights.read` hands them out."""
    import torch

    plain = tensor.detach().resolve_conj().resolve_neg().contiguous()
    name = str(plain.dtype).removeprefix("torch.")
    if name == "bfloat16":
        plain = plain.view(torch.uint16)
    elif name.startswith("float8_"):
        plain = plain.view(torch.uint8)
    found: Bits = plain.numpy()
    return found


def _spilled(path: Path, tensors: Sequence[Written]) -> dict[str, tuple[int, int]]:
    """Write the bits of all tensors into one file, shared ones once. Returns name → (first byte, bytes)."""
    places: dict[str, tuple[int, int]] = {}
    shared: dict[tuple[object, ...], tuple[int, int]] = {}
    with path.open("wb") as handle:
        for item in tensors:
            identity = item.stored.identity
            place = shared.get(identity) if identity is not None else None
            if place is None:
                content = item.read().data
                handle.write(bytes(-handle.tell() % _ALIGNMENT))
                place = (handle.tell(), content.nbytes)
                handle.write(content)
            if identity is not None:
                shared[identity] = place
            places[item.stored.name] = place
    return places


def _mapped(path: Path, start: int, size: int) -> Any:
    """Bytes of a file as a tensor, (size,) uint8; pages come and go as they are needed."""
    import numpy as np
    import torch

    if not size:
        return torch.empty(0, dtype=torch.uint8)
    return torch.from_numpy(np.memmap(path, np.uint8, "c", start, (size,)))


def _values(view: View) -> Bits:
    """The elements of a view, C-contiguous: only the bytes that it reaches are read."""
    import numpy as np

    dtype = carrier(view.dtype)
    if view.is_big_endian:
        dtype = dtype.newbyteorder(">")
    if view.storage is None or 0 in view.shape:
        return np.empty(view.shape, dtype=carrier(view.dtype))
    reach = 1 + sum((extent - 1) * step for extent, step in zip(view.shape, view.stride, strict=True))
    content = view.storage.read_exactly(view.start * dtype.itemsize, reach * dtype.itemsize)
    flat = np.frombuffer(content, dtype=dtype)
    strides = [step * dtype.itemsize for step in view.stride]
    strided = np.lib.stride_tricks.as_strided(flat, view.shape, strides, writeable=False)
    return np.ascontiguousarray(strided, dtype=carrier(view.dtype)).reshape(view.shape)
