"""The exact run of a reference: float64 where every operator really computes in it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from regraft.compare.deviation import HUGE
from regraft.compare.recall import recalled
from regraft.errors import Unsupported

if TYPE_CHECKING:
    from regraft.runtime.interface import Array, Feeds, Model

_LISTED = 3
_IMPLAUSIBLE = 0.05
"""Relative difference of an output's largest numbers that no rounding of float32 makes in a usable network."""


def exact_model(reference: Model, feeds: Feeds) -> Model:
    """A copy of the reference in float64, after one pass in which every floating tensor was seen to be float64.

    Where the network's own code fixes a lower precision (a float32 island), its exported graph is tried: there
    those operators can be told otherwise.

    Args:
        reference: model to cast.
        feeds: one set of inputs that it accepts.
    Raises:
        Unsupported: the runtime has no float64, or an island remains; the message names it.
    """
    exact = reference.cast("float64")
    islands = lower_tensors(exact, feeds) or _differing(recalled(reference, feeds), recalled(exact, feeds))
    if not islands:
        return exact
    if type(reference).__name__ == "TorchModel":
        from regraft.runtime.torch_programs import program_of

        del exact  # two copies in float64 are as much as four in float32
        eager: Any = reference
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch 2.13 warns of itself when it copies a graph
            exact = program_of(eager, feeds).cast("float64")
        islands = lower_tensors(exact, feeds)
        if not islands:
            return exact
    raise Unsupported(f"float64 is not kept everywhere: {', '.join(islands[:_LISTED])}", where=reference.where)


def _differing(own: Mapping[str, Array], wide: Mapping[str, Array]) -> list[str]:
    """Outputs in which the two differ by more than rounding could: an operator means something else in float64."""
    import numpy as np

    found = []
    for name, value in own.items():
        other = wide.get(name)
        if other is None or value.dtype.kind != "f" or other.shape != value.shape:
            continue
        usable = np.isfinite(value) & np.isfinite(other) & (np.abs(other) < HUGE)
        error = np.abs(np.where(usable, other.astype(np.float64) - value.astype(np.float64), 0.0)).max(initial=0.0)
        if error > _IMPLAUSIBLE * np.abs(np.where(usable, other, 0.0)).max(initial=0.0):
            found.append(f"output {name} is another one in float64")
    return found


def lower_tensors(model: Model, feeds: Feeds) -> list[str]:
    """Operators and outputs of one pass whose floating-point result is not float64.

    In torch every operator is seen, also those inside of a module; elsewhere only the outputs are.
    """
    if model.runtime not in ("torch", "torch-cuda"):
        return _lower_outputs(model, feeds)
    from torch.utils._python_dispatch import TorchDispatchMode

    seen: dict[str, None] = {}

    class Dtypes(TorchDispatchMode):  # type: ignore[no-untyped-call]
        supports_higher_order_operators = True  # `torch.cond` is seen as one operator

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = function(*args, **(kwargs or {}))
            for tensor in result if isinstance(result, tuple | list) else (result,):
                dtype = str(getattr(tensor, "dtype", ""))
                if "float" in dtype and dtype != "torch.float64":
                    seen[f"{function} in {dtype.removeprefix('torch.')}"] = None
            return result

    try:
        with Dtypes():  # type: ignore[no-untyped-call]
            outputs = _lower_outputs(model, feeds)
    except Unsupported as error:  # operands of two precisions, where an operator wants one
        return [error.what]
    finally:
        _forget_compilation()
    return [*seen, *outputs]


def _forget_compilation() -> None:
    """What `torch.cond` compiled under a dispatch mode breaks its next call without one (torch 2.13)."""
    import sys

    dynamo = sys.modules.get("torch._dynamo")
    if dynamo is not None:
        dynamo.reset()


def _lower_outputs(model: Model, feeds: Feeds) -> list[str]:
    return [
        f"output {name} in {value.dtype}"
        for name, value in recalled(model, feeds, afresh=True).items()
        if value.dtype.kind == "f" and str(value.dtype) != "float64"
    ]


def array_dtype(value: Any, dtype: str | None) -> Any:
    """An array in another dtype, where that changes the precision of floating-point numbers only."""
    import numpy as np

    if dtype is None or not hasattr(value, "dtype") or str(value.dtype) == dtype or value.dtype.kind != "f":
        return value
    if dtype == "bfloat16":
        import ml_dtypes

        return value.astype(ml_dtypes.bfloat16)
    with np.errstate(over="ignore"):
        return value.astype(dtype) if dtype in ("float16", "float32", "float64") else value
