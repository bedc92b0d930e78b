"""Weights as a torch state_dict: safetensors, or a torch file without anything but tensors. The only `torch.load`."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from regraft.errors import Damaged, MissingExtra, Unsupported
from regraft.package.limits import MAX_TEXT_BYTES
from regraft.runtime.torch_tensors import import_torch

if TYPE_CHECKING:
    import torch

    from regraft.runtime.verified import VerifiedFiles

TORCH_FORMATS = frozenset({"torch-zip", "torch-legacy", "torch-tar"})
WEIGHT_FORMATS = TORCH_FORMATS | {"safetensors", "weight-index"}
_WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "net", "params_ema", "params", "generator")
_MAX_SHARDS = 10_000


def state_dict_from_files(files: VerifiedFiles, path: str) -> dict[str, torch.Tensor]:
    """Tensor name → tensor on the CPU, of one file or of the shards that an index names.

    Raises:
        Unsupported: no weights, or a pickle that holds more than tensors.
        Damaged: the bytes are not what the format wants.
        PermitRefused: a pickle, and no permit covers the package.
        MissingExtra: torch or safetensors is not installed.
    """
    import_torch(path)
    kind = files.format_of(path)
    if kind == "safetensors":
        return _from_safetensors(files, path)
    if kind == "weight-index":
        return _from_shards(files, path)
    if kind in TORCH_FORMATS:
        return _from_torch(files, path)
    raise Unsupported(f"no weights for torch: the format is {kind or 'unknown'}", where=path)


def stored_precision(state_dict: Mapping[str, torch.Tensor]) -> str:
    """The floating-point dtype that most elements are stored in; float32 when there are none."""
    sizes: dict[str, int] = {}
    for tensor in state_dict.values():
        if tensor.is_floating_point():
            name = str(tensor.dtype).removeprefix("torch.")
            sizes[name] = sizes.get(name, 0) + tensor.numel()
    return max(sizes, key=lambda name: sizes[name]) if sizes else "float32"


def _from_safetensors(files: VerifiedFiles, path: str) -> dict[str, torch.Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load
    except ImportError as error:
        raise MissingExtra("safetensors", extra="torch", where=path) from error
    try:
        tensors: dict[str, torch.Tensor] = load(files.read(path))
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise Damaged(f"safetensors: {error}", where=path) from error
    return tensors


def _from_shards(files: VerifiedFiles, path: str) -> dict[str, torch.Tensor]:
    try:
        weight_map = json.loads(files.text(path, limit=MAX_TEXT_BYTES))["weight_map"]
        names = sorted({str(name) for name in weight_map.values()})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Damaged(f"not an index of weights: {error}", where=path) from None
    if len(names) > _MAX_SHARDS:
        raise Damaged(f"the index names {len(names)} files", where=path)
    merged: dict[str, torch.Tensor] = {}
    for name in names:
        shard = files.beside(path, name)
        if shard is None or files.format_of(shard) == "weight-index":
            raise Damaged(f"the index names {name[:200]!r}, which is no weights file of the package", where=path)
        merged |= state_dict_from_files(files, shard)
    return merged


def _from_torch(files: VerifiedFiles, path: str) -> dict[str, torch.Tensor]:
    import torch

    try:
        loaded = torch.load(io.BytesIO(files.read(path)), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise Unsupported(
            f"the pickle holds more than tensors, and only tensors are loaded: {_first_line(error)}",
            where=path,
            hint="convert it to safetensors where it was made, or load it in a factory of yours: regraft.load('py:…')",
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, TypeError, AttributeError, LookupError, OSError) as error:
        raise Damaged(f"torch cannot read it: {_first_line(error)}", where=path) from error
    return _tensors_in(loaded, path)


def _tensors_in(loaded: Any, path: str) -> dict[str, torch.Tensor]:
    import torch

    for _ in range(len(_WRAPPERS)):
        if not isinstance(loaded, Mapping):
            break
        if loaded and all(isinstance(value, torch.Tensor) for value in loaded.values()):
            return {str(name): tensor for name, tensor in loaded.items()}
        inner = next((loaded[key] for key in _WRAPPERS if isinstance(loaded.get(key), Mapping)), None)
        if inner is None:
            break
        loaded = inner
    held = ", ".join(map(str, list(loaded)[:8])) if isinstance(loaded, Mapping) else type(loaded).__name__
    raise Unsupported(f"no state_dict in it; it holds {held}", where=path, hint="load it in your own factory")


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0][:300]
