"""Weights as a torch state_dict: of safetensors or of a torch file. The only `torch.load`, of tensors alone."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.errors import AmbiguousReference, Damaged, MissingExtra, Unsupported
from regraft.package.formats.unpickle import Record
from regraft.package.limits import MAX_TEXT_BYTES
from regraft.runtime.torch_tensors import import_torch

if TYPE_CHECKING:
    import torch

    from regraft.package.package import Package
    from regraft.runtime.verified import VerifiedFiles

TORCH_FORMATS = frozenset({"torch-zip", "torch-legacy", "torch-tar"})
WEIGHT_FORMATS = TORCH_FORMATS | {"safetensors", "weight-index"}
_WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "net", "params_ema", "params", "generator")
_MAX_SHARDS = 10_000


class Weights(msgspec.Struct, frozen=True):
    """What was taken out of a file of weights.

    Attributes:
        tensors: tensor name → tensor on the CPU, of the state dict; empty where the file has none.
        values: all that the file holds, as `values_from_files` returns it.
        left: names that stand beside the tensors in the state dict and are none.
    """

    tensors: dict[str, torch.Tensor]
    values: Any
    left: tuple[str, ...] = ()


def weights_path(package: Package) -> str:
    """The file of weights that a package has.

    Raises:
        Unsupported: it has none.
        AmbiguousReference: it has several.
    """
    readable = [entry.path for entry in package.entries if entry.obstacle is None]
    kinds = {path: kind.name for path in readable if (kind := package.probe(path)[1]) is not None}
    found = [path for path, kind in kinds.items() if kind in WEIGHT_FORMATS]
    if not found:
        held = ", ".join(sorted(set(kinds.values()))[:12]) or "nothing known"
        raise Unsupported(f"no file of weights for torch; found: {held}", where=str(package.ref))
    if len(found) > 1:
        raise AmbiguousReference(
            f"{len(found)} files of weights could be meant: {', '.join(found[:12])}",
            where=str(package.ref),
            hint=f"name one: {package.ref}#{found[0]}",
        )
    return found[0]


def weights_from_files(files: VerifiedFiles, path: str) -> Weights:
    """Tensors and values of one file.

    Raises:
        As `values_from_files`.
    """
    import torch

    values = values_from_files(files, path)
    model = _model_in(values)
    if isinstance(model, Record):
        return Weights(_module_tensors(model), values)
    named = model if isinstance(model, Mapping) else {}
    tensors = {str(name): value for name, value in named.items() if isinstance(value, torch.Tensor)}
    left = tuple(str(name) for name, value in named.items() if not isinstance(value, torch.Tensor))
    return Weights(tensors, values, left)


def state_dict_from_files(files: VerifiedFiles, path: str) -> dict[str, torch.Tensor]:
    """Tensor name → tensor on the CPU, of one file or of the shards that an index names.

    Of a checkpoint that keeps more, the state dict; of a pickled `torch.nn.Module`, its state dict.

    Raises:
        Unsupported: no weights.
        RefusedGlobal: a pickle names something that was not reviewed and that no loading policy has.
        Damaged: the bytes are not what the format wants.
        PermitRefused: a pickle, and no permit covers the package.
        MissingExtra: torch or safetensors is not installed.
    """
    return _tensors_in(values_from_files(files, path), path)


def values_from_files(files: VerifiedFiles, path: str) -> Any:
    """All that a file of weights holds: dicts, lists, numbers, texts, tensors; a `Record` in the place of an object.

    Raises:
        As `state_dict_from_files`.
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


def _from_torch(files: VerifiedFiles, path: str) -> Any:
    """By `torch.load` where there are only tensors, else by the restricted unpickler."""
    import torch

    if files.is_values_only:
        return _restricted(files.read_opaque(path), files, path)
    content = files.read(path)
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        return _restricted(content, files, path)
    except (RuntimeError, EOFError, ValueError, KeyError, TypeError, AttributeError, LookupError, OSError) as error:
        raise Damaged(f"torch cannot read it: {_first_line(error)}", where=path) from error


def _restricted(content: bytes, files: VerifiedFiles, path: str) -> Any:
    from regraft.runtime.torch_pickles import values_of_torch_file

    return values_of_torch_file(content, files.format_of(path), path, is_reviewed=not files.is_values_only)


def _tensors_in(loaded: Any, path: str) -> dict[str, torch.Tensor]:
    import torch

    found = _model_in(loaded)
    if isinstance(found, Record) and (tensors := _module_tensors(found)):
        return tensors
    if isinstance(found, Mapping) and found and all(isinstance(value, torch.Tensor) for value in found.values()):
        return {str(name): tensor for name, tensor in found.items()}
    loaded = found
    held = ", ".join(map(str, list(loaded)[:8])) if isinstance(loaded, Mapping) else type(loaded).__name__
    raise Unsupported(f"no state_dict in it; it holds {held}", where=path, hint="load it in your own factory")


def _model_in(loaded: Any) -> Any:
    """What a checkpoint keeps under the name of its state dict, or itself."""
    for _ in range(len(_WRAPPERS)):
        if not isinstance(loaded, Mapping):
            break
        inner = next((loaded[key] for key in _WRAPPERS if isinstance(loaded.get(key), Mapping | Record)), None)
        if inner is None:
            break
        loaded = inner
    return loaded


def _module_tensors(record: Record) -> dict[str, torch.Tensor]:
    from regraft.runtime.torch_pickles import state_dict_of

    return state_dict_of(record)


def state_dict_in(path: Path) -> dict[str, torch.Tensor]:
    """The state dict of a local torch file, by `torch.load` and its own allow-list; mapped where torch can map it.

    Raises:
        Unsupported: no state dict is in it.
        What torch raises: `pickle.UnpicklingError` where there is more than tensors.
    """
    import torch

    with path.open("rb") as handle:
        is_zip = handle.read(4) == b"PK\x03\x04"
    loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    return _tensors_in(loaded, str(path))


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0][:300]
