"""What a kind of fault is: a mistake of converters, and the function that makes it at one node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx
from benchmarks.mutations.graph import Graph


@dataclass(frozen=True)
class Planted:
    """A fault that was planted.

    Attributes:
        origin: reference nodes, each of which alone is where it lies; empty for the node that was asked for.
        equivalent: why no input tells the networks apart; empty when some do.
    """

    origin: tuple[str, ...] = ()
    equivalent: str = ""


Plant = Callable[[Graph, onnx.NodeProto], Planted | None]
"""Edits the graph at the node; None where the fault cannot be made there (the graph is thrown away then)."""


@dataclass(frozen=True)
class Kind:
    """A mistake that converters make.

    Attributes:
        name: unique.
        cause: the word for what is wrong.
        operators: at which it can be made; empty for all.
        plant: makes it.
        also: other words that describe it as well.
    """

    name: str
    cause: str
    operators: tuple[str, ...]
    plant: Plant
    also: tuple[str, ...] = ()


class Family:
    """Kinds of one module, in the order in which they were written."""

    def __init__(self) -> None:
        self.kinds: list[Kind] = []

    def kind(self, name: str, *operators: str, cause: str, also: tuple[str, ...] = ()) -> Callable[[Plant], Plant]:
        """Register a function as a kind of fault."""

        def register(plant: Plant) -> Plant:
            self.kinds.append(Kind(name, cause, operators, plant, also))
            return plant

        return register
