"""What a compiled network says of itself, as its converter wrote it down: JSON that comes from a stranger's file."""

from __future__ import annotations

import json
from typing import Annotated

import msgspec

from regraft.errors import Damaged
from regraft.package.formats import Port
from regraft.package.formats.array_types import TORCH_SCALAR_TYPES
from regraft.runtime.interface import Signature

_Extent = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)] | str | None
_Ends = list[tuple[str, str, tuple[_Extent, ...] | None]]
_DTYPES = frozenset(TORCH_SCALAR_TYPES.values())
_PRECISIONS = _DTYPES | {"mixed", "tensorfloat32"}


class _Stated(msgspec.Struct, frozen=True):
    inputs: _Ends
    precision: str
    outputs: _Ends = []
    ranges: dict[str, tuple[int, int]] = {}


def read_signature(text: str | bytes, where: str, *, is_fixed: bool = False) -> tuple[Signature, str]:
    """Ports and precision from `{"inputs": [[name, dtype, shape], …], "outputs": …, "ranges": …, "precision": …}`.

    Args:
        text: the JSON.
        where: how errors name the file.
        is_fixed: every size has to be a number.
    Raises:
        Damaged: it is something else, names a dtype that there is not, or two ports alike.
    """
    try:
        stated = msgspec.json.decode(text, type=_Stated)
        signature = Signature(_ports(stated.inputs), _ports(stated.outputs), stated.ranges)
        if stated.precision not in _PRECISIONS:
            raise ValueError(f"there is no precision {stated.precision!r}")
        for ports in (signature.inputs, signature.outputs):
            if len({port.name for port in ports}) < len(ports):
                raise ValueError("two of its inputs or outputs have one name")
        for port in (*signature.inputs, *signature.outputs) if is_fixed else ():
            if port.shape is None or not all(isinstance(extent, int) for extent in port.shape):
                raise ValueError(f"{port.name!r} has no fixed shape")
    except (ValueError, RecursionError) as error:  # msgspec's own errors are ValueErrors
        said = str(error)[:200]
        raise Damaged(f"what it says of its own signature cannot be read: {said}", where=where) from None
    return signature, stated.precision


def stated_signature(signature: Signature, precision: str) -> str:
    """What a compiled network is to say of itself, as `read_signature` reads it."""
    inputs, outputs = (
        [[port.name, port.dtype, None if port.shape is None else list(port.shape)] for port in ports]
        for ports in (signature.inputs, signature.outputs)
    )
    ranges = {name: list(limits) for name, limits in signature.ranges.items()}
    return json.dumps({"inputs": inputs, "outputs": outputs, "ranges": ranges, "precision": precision})


def _ports(ends: _Ends) -> tuple[Port, ...]:
    for _, dtype, _ in ends:
        if dtype not in _DTYPES:
            raise ValueError(f"there is no dtype {dtype!r}")
    return tuple(Port(name, dtype, shape) for name, dtype, shape in ends)
