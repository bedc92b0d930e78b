"""Calls of an exported torch program with other settings, another operator, or other operands."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from regraft.errors import Unsupported

if TYPE_CHECKING:
    import torch


def settings_of(place: torch.fx.Node) -> dict[str, Any]:
    """What a call is told besides its tensors: argument → value, defaults of the schema included."""
    return {name: value for name, value in _arguments(place).items() if not _has_node(value)}


def changed_call(
    place: torch.fx.Node, *, operator: str | None = None, settings: Mapping[str, Any] | None = None
) -> Callable[..., Any]:
    """A call with some of its settings changed, as a function of (args, kwargs) as the node has them.

    Args:
        place: the node.
        operator: to call in its place (`aten.relu.default`). What it takes under the names of our arguments it is
            given; tensors that it calls otherwise follow in order.
        settings: argument → value.
    Raises:
        Unsupported: there is no such operator, or it has no such argument.
    """
    target: Any = place.target if operator is None else _operator(operator)
    own = [argument.name for argument in _schema(place.target)]
    known = {argument.name for argument in _schema(target)}
    foreign = set(settings or ()) - known
    if foreign:
        raise Unsupported(f"{target} has no argument {min(foreign)!r}")

    def call(*args: Any, **kwargs: Any) -> Any:
        given = {**dict(zip(own, args, strict=False)), **kwargs}
        if target is not place.target:
            given = _fitting(given, [argument.name for argument in _schema(target)])
        return target(**{**given, **(settings or {})})

    return call


def _fitting(given: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    fits = {name: value for name, value in given.items() if name in names}
    tensors = [value for name, value in given.items() if name not in names and hasattr(value, "dtype")]
    free = [name for name in names if name not in fits]
    return {**fits, **dict(zip(free, tensors, strict=False))}


@functools.cache
def _operator(name: str) -> Any:
    import torch

    try:
        return functools.reduce(getattr, name.split("."), torch.ops)
    except AttributeError as error:
        raise Unsupported(f"torch has no operator {name}") from error


def _schema(target: Any) -> Sequence[Any]:
    schema = getattr(target, "_schema", None)
    return () if schema is None else schema.arguments


def _arguments(place: torch.fx.Node) -> dict[str, Any]:
    found = {}
    for position, argument in enumerate(_schema(place.target)):
        if position < len(place.args):
            found[argument.name] = place.args[position]
        elif argument.name in place.kwargs:
            found[argument.name] = place.kwargs[argument.name]
        elif argument.has_default_value() and "Tensor" not in str(argument.type):
            found[argument.name] = argument.default_value
    return found


def _has_node(value: Any) -> bool:
    import torch

    if isinstance(value, list | tuple):
        return any(map(_has_node, value))
    return isinstance(value, torch.fx.Node)
