"""What an operator does with the tensors that it takes, in words that all frameworks share."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from regraft.runtime.operator_graph import OperatorGraph, OperatorNode

OUT, IN, SPACE, EXPERT, NONE = "OISE."
"""Letters for the axes of a weight: makes channels, is summed over with channels, with places, is a batch, is nothing.

`OISS` is a convolution of torch, `SSIO` one of TensorFlow, `IOO` a projection to several heads.
"""


class Operand(msgspec.Struct, frozen=True):
    """A tensor that an operator takes in a role that weights have.

    Attributes:
        tensor: its name in the graph.
        role: `contract`, `recur`, `bias`, `scale`, `shift`, `centre`, `variance`, `table`, `join`, …
        letters: one for each axis of the tensor, see `OUT`; empty where its shape says it all.
        is_flipped: it is used with its places in reverse (a transposed convolution).
        cell: group of operands of one recurrent layer; empty for others.
        data: tensor that it is applied to, of an operator that takes several; empty for all of them.
        follows: position in `Reading.operands` of the operand whose result it is applied to; None for the data.
    """

    tensor: str
    role: str
    letters: str = ""
    is_flipped: bool = False
    cell: str = ""
    data: str = ""
    follows: int | None = None


class Body(msgspec.Struct, frozen=True):
    """The operators inside of a loop.

    Attributes:
        graph: of one round.
        inputs: tensor inside → tensor outside that it is, or is a slice of.
        carried: tensors inside that the round before made.
        outputs: result of the loop → tensor inside.
    """

    graph: Any
    inputs: dict[str, str]
    carried: frozenset[str]
    outputs: dict[str, str]


class Reading(msgspec.Struct, frozen=True):
    """What one operator does.

    Attributes:
        kind: `move` (the numbers stay, their places change), `elementwise`, `unary`, `roles` (it takes weights in the
            roles of `operands`), `size` (it makes no numbers of the network), `state` (it makes zeros), `loop`,
            `other`.
        operands: those in a role; for the others of `elementwise` and `unary` all that it takes, in order.
        word: what it does: `add`, `sub`, `mul`, `div`, `neg`, `rsqrt`; for a move how: `permute`, `reshape`, …
        move: what the move needs to know: the order of axes, the slice, the axes that are reversed.
        body: of a loop.
        epsilon: of a norm whose statistics are weights; None for all else.
    """

    kind: str
    operands: tuple[Operand, ...] = ()
    word: str = ""
    move: tuple[Any, ...] = ()
    body: Body | None = None
    epsilon: float | None = None


class Reader(Protocol):
    """A family member: knows the operators of one framework. One module a framework."""

    graph: OperatorGraph

    def read(self, node: OperatorNode) -> Reading:
        """What an operator does."""

    def shape(self, tensor: str) -> tuple[int, ...]:
        """Extents of a tensor; -1 for one that differs between passes."""
