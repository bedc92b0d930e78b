"""Branches and loops: a branch that sizes decide is taken at once, one that data decides becomes `torch.cond`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from regraft.deployment.convert.operators.known_numbers import is_symbolic, only
from regraft.deployment.convert.operators.network import Call, Stored, free_names, graphs_of, numbers_of
from regraft.errors import Unsupported

if TYPE_CHECKING:
    import onnx

    from regraft.deployment.convert.operators.network import Environment, Value

_MAX_STEPS = 512
"""Passes of a loop that is unrolled."""
_SPELLED = 64
"""Elements of an integer constant that a branch writes itself."""
_REFUSED = "this branch cannot be computed at the sizes that the program was exported for"


def _graph(call: Call, name: str) -> onnx.GraphProto:
    graphs: dict[str, onnx.GraphProto] = {attribute.name: attribute.g for attribute in call.node.attribute}
    return graphs[name]


def _attribute(call: Call, name: str, default: Any) -> Any:
    from onnx import helper

    found = [helper.get_attribute_value(item) for item in call.node.attribute if item.name == name]
    return found[0] if found else default


def _outputs(call: Call, graph: onnx.GraphProto, environment: Environment) -> list[Value]:
    done = call.network.run(graph, environment)
    return [done[value.name] for value in graph.output]


def branch(call: Call, values: Sequence[Value]) -> Sequence[Value]:
    """If."""
    (condition,) = values
    then, otherwise = _graph(call, "then_branch"), _graph(call, "else_branch")
    known = numbers_of(condition)
    if known is not None:
        return _outputs(call, then if bool(only(known)) else otherwise, call.outer)
    predicate = call.network.tensor(condition).reshape(())
    sides = _Sides(call, (then, otherwise))
    try:
        return sides.chosen(predicate, sides.computes(then), sides.computes(otherwise))
    except Unsupported:
        if not torch.compiler.is_exporting():
            raise
    # the branch that the example does not take may want other sizes, and ONNX runtimes refuse it only when it is taken
    fits = otherwise if sides.unfit[0] is then else then
    return sides.chosen(predicate, *(sides.computes(fits, is_refused=graph is not fits) for graph in (then, otherwise)))


class _Sides:
    """The graphs of a branch as functions of the tensors that they use, all of which `torch.cond` wants handed in.

    `unfit` has the graphs that could not be computed.
    """

    def __init__(self, call: Call, graphs: Sequence[onnx.GraphProto]) -> None:
        self.unfit: list[onnx.GraphProto] = []
        self._call = call
        self._captured = {
            name: value
            for name in dict.fromkeys(name for graph in graphs for name in free_names(graph))
            if isinstance(value := call.outer.get(name), torch.Tensor)
        }
        self._constants = {stored.attribute: call.network.tensor(stored) for stored in _constants(call, graphs)}

    def chosen(self, predicate: torch.Tensor, then: Any, otherwise: Any) -> list[Value]:
        """The results of the side that the predicate says."""
        operands = (*self._captured.values(), *self._constants.values())
        return list(torch.ops.higher_order.cond(predicate, then, otherwise, operands))

    def computes(self, graph: onnx.GraphProto, *, is_refused: bool = False) -> Any:
        """A graph as a function; one that is refused stops the program, and has the results of `graph` in shape."""
        network = self._call.network

        def compute(*operands: torch.Tensor) -> tuple[torch.Tensor, ...]:
            if is_refused:
                torch.ops.aten._assert_async.msg(torch.zeros((), dtype=torch.bool), _REFUSED)
            environment = self._call.outer | dict(zip(self._captured, operands, strict=False))
            with network.inside(dict(zip(self._constants, operands[len(self._captured) :], strict=True))):
                try:
                    made = [network.tensor(value) for value in _outputs(self._call, graph, environment)]
                except Unsupported:
                    self.unfit.append(graph)
                    raise
            # a branch must return neither what it was given nor a view
            return tuple(tensor.clone(memory_format=torch.contiguous_format) for tensor in made)

        return compute


def _constants(call: Call, graphs: Sequence[onnx.GraphProto]) -> list[Stored]:
    """The constants that branches use as data, own or from outside."""
    names: dict[str, None] = {}
    for graph in graphs:
        for part in graphs_of(graph):
            names |= dict.fromkeys(name for node in part.node for name in (*node.input, *node.output))
            names |= dict.fromkeys(value.name for value in (*part.initializer, *part.output))
    found = [call.network.stored[name] for name in names if name in call.network.stored]
    return [stored for stored in found if stored.values.dtype.kind == "f" or stored.values.size > _SPELLED]


def loop(call: Call, values: Sequence[Value]) -> Sequence[Value]:
    """Loop, unrolled: how often it runs must be known.

    Raises:
        Unsupported: data decides, or it is more often than is unrolled.
    """
    trips, condition, *carried = values
    count = None if trips is None else numbers_of(trips)
    going = np.array(True) if condition is None else numbers_of(condition)
    if count is None or going is None or is_symbolic(count):
        raise Unsupported("data or a size decides how often it runs, and torch.export needs to know it beforehand")
    body = _graph(call, "body")
    names = [value.name for value in body.input]
    collected: list[list[Value]] = [[] for _ in body.output[1 + len(carried) :]]
    for step in range(_checked(only(count))):
        if not bool(only(going)):
            break
        environment = call.outer | dict(zip(names, (np.array(step), going, *carried), strict=False))
        again, *results = _outputs(call, body, environment)
        going = numbers_of(again)
        if going is None:
            raise Unsupported("data decides how often it runs, and torch.export needs to know it beforehand")
        carried = results[: len(carried)]
        for values_so_far, value in zip(collected, results[len(carried) :], strict=True):
            values_so_far.append(value)
    return [*carried, *(_stacked(call, found, 0) for found in collected)]


def _checked(steps: int) -> int:
    if steps > _MAX_STEPS:
        raise Unsupported(f"it runs {steps} times; {_MAX_STEPS} are unrolled at most")
    return int(steps)


def _stacked(call: Call, values: Sequence[Value], axis: int) -> Value:
    if not values:
        raise Unsupported("it never runs, and nothing says how large what it collects would be")
    return torch.stack([call.network.tensor(value) for value in values], dim=axis)


def scan(call: Call, values: Sequence[Value]) -> Sequence[Value]:
    """Scan, unrolled over an axis of fixed size.

    Raises:
        Unsupported: the size is not fixed, or larger than is unrolled.
    """
    body, count = _graph(call, "body"), int(_attribute(call, "num_scan_inputs", 1))
    if call.opset < 9:
        raise Unsupported("Scan of operator set 8 has no mapping")
    states, scanned = [*values[:-count]], [call.network.tensor(value) for value in values[-count:]]
    axes = list(_attribute(call, "scan_input_axes", [0] * count))
    backwards = list(_attribute(call, "scan_input_directions", [0] * count))
    made = len(body.output) - len(states)
    length = scanned[0].shape[axes[0]]
    if not isinstance(length, int):
        raise Unsupported("a size decides how often it runs, and torch.export needs to know it beforehand")
    names = [value.name for value in body.input]
    collected: list[list[Value]] = [[] for _ in range(made)]
    for step in range(_checked(length)):
        parts = [
            tensor.select(axis, length - 1 - step if back else step)
            for tensor, axis, back in zip(scanned, axes, backwards, strict=True)
        ]
        results = _outputs(call, body, call.outer | dict(zip(names, (*states, *parts), strict=True)))
        states = results[: len(states)]
        for values_so_far, value in zip(collected, results[len(states) :], strict=True):
            values_so_far.append(value)
    directions = list(_attribute(call, "scan_output_directions", [0] * made))
    places = list(_attribute(call, "scan_output_axes", [0] * made))
    return [
        *states,
        *(
            _stacked(call, found[::-1] if back else found, axis)
            for found, back, axis in zip(collected, directions, places, strict=True)
        ),
    ]


CONTROL = {"If": branch, "Loop": loop, "Scan": scan}
"""Operators with graphs inside."""
