"""The roles of the axes of an einsum's operands."""

from __future__ import annotations

from collections.abc import Sequence

from regraft.compare.weight_map.interface import EXPERT, IN, OUT, Operand


def einsum_operands(equation: str, tensors: Sequence[str], shapes: Sequence[tuple[int, ...]]) -> tuple[Operand, ...]:
    """Letters for the axes of two operands, each seen as the weight; nothing for other equations.

    Args:
        equation: as `bld,dhk->blhk`; an ellipsis stands for batches.
        tensors: names.
        shapes: of the operands.
    """
    left, _, result = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != 2 or len(tensors) != 2 or not result:
        return ()
    found = []
    for i, term in enumerate(terms):
        other = terms[1 - i]
        plain = term.replace("...", "")
        letters = "".join(EXPERT if a in result and a in other else IN if a in other else OUT for a in plain)
        missing = len(shapes[i]) - len(plain)
        found.append(Operand(tensors[i], "contract", EXPERT * missing + letters))
    return tuple(found)
