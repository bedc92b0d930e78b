"""Do these arrays fit this signature? One clear error before a runtime gives an obscure one."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from regraft.errors import BadFeeds
from regraft.package.formats import Port
from regraft.runtime.interface import Signature

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from regraft.runtime.interface import Array, Feeds, Model


def checked_feeds(signature: Signature, feeds: Feeds, *, where: str, allows_nan: bool = False) -> dict[str, Array]:
    """The feeds in the order of the signature.

    Args:
        signature: symbolic dimensions of one name must agree across the inputs.
        feeds: input name → array. Nothing is converted: a wrong dtype is an error.
        where: how the error names the model.
        allows_nan: let NaN through; infinities always pass, masks are made of them.
    Raises:
        BadFeeds: missing or unknown input, no array, wrong dtype, rank or fixed size, or NaN.
    """
    names = [port.name for port in signature.inputs]
    missing = [name for name in names if name not in feeds]
    unknown = [name for name in feeds if name not in names]
    if missing or unknown:
        raise _misnamed(names, missing, unknown, where)
    sizes: dict[str, tuple[int, str]] = {}
    for port in signature.inputs:
        _check(port, feeds[port.name], sizes, where, allows_nan=allows_nan)
    return {name: feeds[name] for name in names}


def feeds_for(model: Model, feeds: Feeds) -> dict[str, Any]:
    """The feeds in the dtypes that the model's inputs have: floating-point arrays are cast, integers kept where legal.

    Raises:
        BadFeeds: from the model, when what results does not fit.
    """
    import numpy as np

    wanted = {port.name: port.dtype for port in model.signature.inputs}
    result = {}
    for name, value in feeds.items():
        dtype = wanted.get(name, str(value.dtype))
        dtype = "float32" if dtype == "bfloat16" else dtype
        numeric = value.dtype.kind in "fiub" and dtype not in ("string", str(value.dtype))
        same_kind = numeric and (np.dtype(dtype).kind == "f") == (value.dtype.kind == "f")
        result[name] = value.astype(dtype) if same_kind else value
    return result


def _misnamed(names: list[str], missing: list[str], unknown: list[str], where: str) -> BadFeeds:
    parts = []
    if missing:
        parts.append(f"missing: {', '.join(missing)}")
    for name in unknown:
        close = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
        parts.append(f"unknown: {name!r}" + (f" (did you mean {close[0]!r}?)" if close else ""))
    return BadFeeds(
        f"the feeds do not name the model's inputs; {'; '.join(parts)}",
        where=where,
        hint=f"it wants: {', '.join(names)}",
    )


def _check(port: Port, value: Array, sizes: dict[str, tuple[int, str]], where: str, *, allows_nan: bool) -> None:
    import numpy as np

    if not isinstance(value, np.ndarray | np.generic):
        raise BadFeeds(f"input {port.name!r} is {type(value).__name__}, not a numpy array", where=where)
    given = "string" if value.dtype.kind in "UO" else str(value.dtype)
    if port.dtype != given and not (port.dtype == "bfloat16" and given == "float32"):
        raise BadFeeds(
            f"input {port.name!r} is {given}, the model wants {port.dtype}",
            where=where,
            hint=f"feeds[{port.name!r}].astype({port.dtype!r})",
        )
    _check_shape(port, value.shape, sizes, where)
    if not allows_nan and value.dtype.kind == "f" and _has_nan(value):
        raise BadFeeds(
            f"input {port.name!r} holds NaN",
            where=where,
            hint="put a number in its place; in Python, model.allows_nan = True lets it through",
        )


def _check_shape(port: Port, shape: tuple[int, ...], sizes: dict[str, tuple[int, str]], where: str) -> None:
    if port.shape is None:
        return
    if len(shape) != len(port.shape):
        raise BadFeeds(f"input {port.name!r} has shape {shape}, the model wants {_shape_text(port)}", where=where)
    for axis, (extent, declared) in enumerate(zip(shape, port.shape, strict=True)):
        if isinstance(declared, int) and extent != declared:
            raise BadFeeds(
                f"input {port.name!r} has shape {shape}, the model wants {_shape_text(port)}: axis {axis} is fixed",
                where=where,
            )
        if (
            isinstance(declared, str) and declared.isidentifier()
        ):  # exporters write `?` and `-1` for sizes without a name
            wanted, first = sizes.setdefault(declared, (extent, port.name))
            if wanted != extent:
                raise BadFeeds(
                    f"{declared!r} is {wanted} in {first!r} and {extent} in {port.name!r}, shape {shape}", where=where
                )


def _has_nan(value: NDArray[np.generic]) -> bool:
    import numpy as np

    return value.size > 0 and bool(np.isnan(np.min(value)))


def _shape_text(port: Port) -> str:
    return "(" + ", ".join("?" if extent is None else str(extent) for extent in port.shape or ()) + ")"
