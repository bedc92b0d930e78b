"""Which inputs of a TorchScript program are integers: its file does not say, the operators that they reach do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_INDICES = {
    "aten::embedding": (1,), "aten::embedding_bag": (1, 2), "aten::gather": (2,), "aten::index_select": (2,),
    "aten::scatter": (2,), "aten::scatter_add": (2,), "aten::take_along_dim": (1,), "aten::take": (1,),
    "aten::one_hot": (0,), "aten::bincount": (0,), "aten::__and__": (0, 1), "aten::__or__": (0, 1),
    "aten::__lshift__": (0,), "aten::__rshift__": (0,), "aten::bitwise_and": (0, 1), "aten::bitwise_or": (0, 1),
    "aten::bitwise_not": (0,),
}  # fmt: skip
"""Operator → its operands that are integers."""
_KEEPING = frozenset(
    f"aten::{name}"
    for name in (
        "view reshape unsqueeze squeeze expand expand_as slice select transpose permute contiguous clone detach "
        "flatten repeat narrow clamp clamp_min clamp_max flip roll add sub mul minimum maximum where masked_fill cat "
        "pad unflatten t alias"
    ).split()
)
"""Operators whose result has the dtype of their first operand."""
_CASTS = frozenset({"aten::to", "aten::_to_copy", "aten::type_as", "aten::float", "aten::bool", "aten::long"})
_EQUALITIES = frozenset({"aten::eq", "aten::ne"})
_WHOLE = frozenset({0, 1, 2, 3, 4, 11})
"""Numbers that programs have for uint8, int8, int16, int32, int64 and bool (c10::ScalarType)."""


def integer_inputs(graph: Any) -> frozenset[str]:
    """Names of the inputs that index tables or are worked on bit by bit; and of masks beside them.

    An input beside such indices counts as a mask where it is cast to booleans or integers, or compared for equality,
    before anything computes with it. A cast to floats says nothing: see `cast_inputs`.

    Args:
        graph: of a program, with its calls inlined (`torch.jit.ScriptModule.inlined_graph`).
    """
    uses = {value.debugName(): list(_uses(value)) for value in graph.inputs()}
    indices = {name for name, found in uses.items() if any(_is_index(node, offset) for node, offset in found)}
    if not indices:
        return frozenset()
    masks = {name for name, found in uses.items() if _is_mask([node for node, _ in found])}
    return frozenset(name.split(".")[0] for name in indices | masks)


def cast_inputs(graph: Any) -> frozenset[str]:
    """Names of the inputs that are cast before anything computes with them: any type of numbers does.

    Args:
        graph: as for `integer_inputs`.
    """
    uses = {value.debugName(): [node.kind() for node, _ in _uses(value)] for value in graph.inputs()}
    return frozenset(name.split(".")[0] for name, found in uses.items() if found and _CASTS.issuperset(found))


def _is_mask(nodes: list[Any]) -> bool:
    if not all(node.kind() in _CASTS | _EQUALITIES for node in nodes):
        return False
    return any(node.kind() in _EQUALITIES or _is_cast_to_whole(node) for node in nodes)


def _is_cast_to_whole(node: Any) -> bool:
    if node.kind() in ("aten::bool", "aten::long"):
        return True
    kinds = [operand.toIValue() for operand in node.inputs() if str(operand.type()) == "int"]
    return bool(kinds) and kinds[0] in _WHOLE


def _is_index(node: Any, offset: int) -> bool:
    return offset in _INDICES.get(node.kind(), ()) or (node.kind() == "aten::index" and offset == 1)


def _uses(value: Any) -> Iterator[tuple[Any, int]]:
    """Operators that a value reaches unchanged in its type, and as which operand."""
    waiting: list[Any] = [value]
    seen: set[str] = set()
    while waiting:
        for use in waiting.pop().uses():
            node = use.user
            if node.kind() in _KEEPING or node.kind() == "prim::ListConstruct":
                made = [one for one in node.outputs() if one.debugName() not in seen]
                seen.update(one.debugName() for one in made)
                waiting += made
            else:
                yield node, use.offset
