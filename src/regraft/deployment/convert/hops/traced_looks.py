"""Where a network looks at the values of its inputs while it is traced: a trace would keep what it saw."""

from __future__ import annotations

import contextlib
import itertools
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_LOOKS = ("__bool__", "__int__", "__float__", "__complex__", "__index__", "item", "tolist", "numpy", "__array__")
"""Methods by which a tensor becomes a number of Python's."""
_COUNTS = ("__len__", "__iter__")
"""Methods that look at a size."""
_COMPARISONS = ("equal", "allclose", "is_nonzero")
"""Functions of tensors that answer with a boolean of Python's."""
_OPERATORS = (*_COMPARISONS, "item", "_local_scalar_dense")
"""Registered operators that do, or with a number."""
_SIZES = frozenset({"aten::size", "aten::dim", "aten::numel", "aten::len"})
_SIZED_BY_VALUES = frozenset(
    f"aten::{name}"
    for name in "nonzero nonzero_numpy masked_select _unique _unique2 unique_dim unique_consecutive bincount "
    "repeat_interleave where index".split()
)
"""Operators whose result may be as large as the values of an operand say."""
_MASKS = frozenset(
    f"aten::{name}"
    for name in "eq ne lt le gt ge isclose isnan isinf isfinite isin logical_and logical_or logical_xor logical_not "
    "__and__ __or__ __xor__ bitwise_and bitwise_or bitwise_xor bitwise_not to".split()
)
_PACKAGE = str(Path(__file__).parents[3])


@contextlib.contextmanager
def traced_looks() -> Iterator[list[str]]:
    """While a network is traced: the places where Python looks at a value that comes from an input.

    Sizes are values to the tracer, too. A branch that they decide is no reason to refuse: that it is taken at every
    size is proven by running them. The methods of `torch.Tensor` are watched themselves, as a mode of torch's is off
    inside of functions that know modes, such as `torch.ops.higher_order.cond`.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    tensor: Any = torch.Tensor
    functions = {getattr(owner, name) for name in _COMPARISONS for owner in (torch, tensor)}
    functions |= {getattr(torch.ops.aten, name).default for name in _OPERATORS}
    own = {name: vars(tensor)[name] for name in (*_LOOKS, *_COUNTS) if name in vars(tensor)}
    found: list[str] = []

    def look(operands: Iterable[Any], *, at_size: bool = False) -> None:
        if any(isinstance(one, tensor) and _is_of_values(one, at_size=at_size) for one in operands):
            found.append(place_in(traceback.extract_stack()))

    class Watching(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if function in functions:
                look(args)
            return function(*args, **(kwargs or {}))

    def watched(method: Callable[..., Any], *, at_size: bool) -> Callable[..., Any]:
        def looking(one: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            look([one], at_size=at_size)
            return method(one, *args, **kwargs)

        return looking

    for name in (*_LOOKS, *_COUNTS):
        setattr(tensor, name, watched(getattr(tensor, name), at_size=name in _COUNTS))
    try:
        with Watching():
            yield found
    finally:
        for name in (*_LOOKS, *_COUNTS):
            setattr(tensor, name, own[name]) if name in own else delattr(tensor, name)


def place_in(frames: Iterable[traceback.FrameSummary]) -> str:
    """`file, line 12: its text` of the innermost frame that is the network's own code, else torch's.

    Args:
        frames: the outermost first, through this package into the network.
    """
    import torch

    libraries = str(Path(torch.__file__).parent)
    outside = [one for one in frames if one.filename != __file__]
    within = list(itertools.takewhile(lambda one: not one.filename.startswith(_PACKAGE), reversed(outside)))
    chosen = next((one for one in within if not one.filename.startswith(libraries)), within[0] if within else None)
    return f"{Path(chosen.filename).name}, line {chosen.lineno}: {chosen.line}" if chosen is not None else ""


def _is_of_values(tensor: torch.Tensor, *, at_size: bool) -> bool:
    """Does a tensor of the running trace, or its size, come from a value of an input, and not from sizes alone?"""
    import torch

    internal: Any = torch._C
    state = internal._get_tracing_state()
    if state is None:
        return False
    may_be_sized = any(state.graph().findNode(kind) is not None for kind in _SIZED_BY_VALUES)
    waiting = [(internal._get_value_trace(tensor).node(), at_size)]
    seen = set()
    while waiting:
        node, at_size = waiting.pop()
        kind = node.kind()
        if kind == "prim::Param" and not at_size:
            return True
        at_size = at_size or kind in _SIZES
        is_end = kind == "prim::GetAttr" or (at_size and not may_be_sized)  # weights are always the same
        if is_end or (node, at_size) in seen:
            continue
        seen.add((node, at_size))
        at_size = at_size and not _is_sized_by_values(node)
        waiting += [(value.node(), at_size) for value in node.inputs()]
    return False


def _is_sized_by_values(node: Any) -> bool:
    """A tensor of the running trace does not know its type: what is a mask, is told by the operator that made it."""
    inputs = list(node.inputs())
    if node.kind() == "aten::index":
        return any(value.node().kind() in _MASKS for indices in inputs[1:] for value in indices.node().inputs())
    return node.kind() in _SIZED_BY_VALUES and (node.kind() != "aten::where" or len(inputs) == 1)
