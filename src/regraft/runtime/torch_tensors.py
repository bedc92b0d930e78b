"""Between torch tensors and numpy arrays, and the names of tensors in whatever a module returns."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from regraft.errors import MissingExtra, Unsupported
from regraft.package.formats import Port

if TYPE_CHECKING:
    import types

    import torch

    from regraft.runtime.interface import Array


def import_torch(where: str = "") -> types.ModuleType:
    """The torch module.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingExtra("torch", extra="torch", where=where) from error
    return torch


def torch_dtype(name: str) -> torch.dtype:
    """The torch dtype of a numpy-style name.

    Raises:
        Unsupported: torch has no such dtype.
    """
    import torch

    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise Unsupported(f"torch has no dtype {name!r}")
    return found


def dtype_name(dtype: torch.dtype) -> str:
    """The numpy-style name of a torch dtype: `float32`."""
    return str(dtype).removeprefix("torch.")


def array_from_tensor(tensor: torch.Tensor) -> Array:
    """A numpy array that may share memory; bfloat16, which numpy lacks, becomes float32 without loss."""
    import torch

    plain = tensor.detach().cpu()
    result: Array = (plain.float() if plain.dtype is torch.bfloat16 else plain).numpy()
    return result


def tensor_from_array(array: Array, dtype: str) -> torch.Tensor:
    """A tensor of the given dtype, sharing memory where it can."""
    import numpy as np
    import torch

    writable = array if array.flags.writeable and array.flags.c_contiguous else np.array(array)
    return torch.from_numpy(np.asarray(writable)).to(torch_dtype(dtype))


def input_from_array(array: Array, dtype: str) -> torch.Tensor:
    """The same in memory of its own: a network may work in place on what it is given."""
    return tensor_from_array(array, dtype).clone()


def named_tensors(result: Any, prefix: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Tensors in whatever a module returned, by field name or position: `output_0`, `hidden.1`."""
    import torch

    if isinstance(result, torch.Tensor):
        yield prefix or "output_0", result
    elif isinstance(result, Mapping):
        for key, value in result.items():
            yield from named_tensors(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(result, tuple | list):
        names = getattr(result, "_fields", None) or [str(i) if prefix else f"output_{i}" for i in range(len(result))]
        for name, value in zip(names, result, strict=True):
            yield from named_tensors(value, f"{prefix}.{name}" if prefix else name)


def precision_of(tensors: Iterator[torch.Tensor]) -> str:
    """The dtype of the floating-point tensors, `mixed` when they differ, float32 when there are none."""
    found = {dtype_name(tensor.dtype) for tensor in tensors if tensor.is_floating_point()}
    return found.pop() if len(found) == 1 else ("mixed" if found else "float32")


def cast_port(port: Port, dtype: str) -> Port:
    """The port with its dtype replaced, when that is a floating-point one."""
    return Port(port.name, dtype if "float" in port.dtype else port.dtype, port.shape)


@contextlib.contextmanager
def running_with(threads: int | None) -> Iterator[None]:
    """Without gradients, on so many intra-op threads; torch knows only one number for the whole process."""
    import torch

    before = torch.get_num_threads()
    change = threads is not None and threads != before
    if change:
        torch.set_num_threads(threads or 1)
    try:
        with torch.inference_mode():
            yield
    finally:
        if change:
            torch.set_num_threads(before)
