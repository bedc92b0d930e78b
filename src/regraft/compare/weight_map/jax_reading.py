"""What the equations of a jaxpr do with their tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from regraft.compare.weight_map.interface import EXPERT, IN, NONE, OUT, SPACE, Body, Operand, Reading

if TYPE_CHECKING:
    from regraft.runtime.operator_graph import OperatorNode

_ELEMENTWISE = {"add": "add", "add_any": "add", "sub": "sub", "mul": "mul", "div": "div"}
_UNARY = {"rsqrt": "rsqrt", "sqrt": "rsqrt", "neg": "neg", "pow": "rsqrt", "integer_pow": "rsqrt", "exp": "exp"}
_SAME = frozenset({"convert_element_type", "copy", "copy_p", "stop_gradient", "optimization_barrier", "device_put",
                   "reduce_precision", "sharding_constraint"})  # fmt: skip


class JaxReader:
    """Reads one jaxpr.

    Args:
        graph: a `JaxGraph`.
    """

    def __init__(self, graph: Any) -> None:
        self.graph = graph

    def shape(self, tensor: str) -> tuple[int, ...]:
        """Extents of a tensor."""
        if tensor in self.graph.places:
            return tuple(self.graph.places[tensor][1])
        constant = self.graph.constant(tensor)
        return tuple(constant.shape) if constant is not None else ()

    def read(self, node: OperatorNode) -> Reading:
        """What an equation does."""
        word, parameters = node.operator, self.graph.equation(node).params
        given = tuple(Operand(name, "") for name in node.inputs)
        if word in _SAME:
            return Reading("move", given[:1], "same")
        if word in ("transpose", "reshape", "squeeze", "expand_dims", "broadcast_in_dim", "rev", "slice", "split"):
            return self._move(word, node, parameters)
        if word in ("dynamic_slice",):
            return Reading("move", given[:1], "window")
        if word in _ELEMENTWISE:
            return Reading("elementwise", given, _ELEMENTWISE[word])
        if word in _UNARY:
            return Reading("unary", given[:1], _UNARY[word])
        if word in ("scan", "while"):
            return Reading("loop", given, word, body=self._body(node, parameters))
        return Reading("roles", found) if (found := self._operands(word, node, parameters)) else Reading("other")

    def _move(self, word: str, node: OperatorNode, parameters: Any) -> Reading:
        given = (Operand(node.inputs[0], ""),)
        before = self.shape(node.inputs[0])
        if word == "transpose":
            return Reading("move", given, "permute", tuple(parameters["permutation"]))
        if word == "broadcast_in_dim":
            return Reading("move", given, "broadcast", tuple(parameters["broadcast_dimensions"]))
        if word == "rev":
            return Reading("move", given, "flip", tuple(parameters["dimensions"]))
        if word == "split":
            return Reading("move", given, "split", (int(parameters["axis"]),))
        if word == "slice":
            starts, stops = parameters["start_indices"], parameters["limit_indices"]
            cut = [i for i, (a, b) in enumerate(zip(starts, stops, strict=True)) if (a, b) != (0, before[i])]
            if not cut:
                return Reading("move", given, "same")
            axis = cut[0]
            return Reading("move", given, "slice", (axis, int(starts[axis]), int(stops[axis])))
        return Reading("move", given, "reshape", (before, self.shape(node.outputs[0])))

    def _operands(self, word: str, node: OperatorNode, parameters: Any) -> tuple[Operand, ...]:
        if word == "dot_general":
            (left, right), batches = parameters["dimension_numbers"]
            sides = ((left, batches[0]), (right, batches[1]))
            return tuple(
                Operand(name, "contract", _letters(len(self.shape(name)), summed, batch))
                for name, (summed, batch) in zip(node.inputs, sides, strict=True)
            )
        if word == "conv_general_dilated":
            spec = parameters["dimension_numbers"].rhs_spec
            letters = [SPACE] * len(spec)
            letters[spec[0]], letters[spec[1]] = OUT, IN
            return (Operand(node.inputs[1], "contract", "".join(letters)),)
        if word == "gather":
            shape = self.shape(node.inputs[0])
            return (Operand(node.inputs[0], "table", (OUT + IN * len(shape))[: len(shape)]),)
        if word == "concatenate":
            return tuple(Operand(name, "join") for name in node.inputs)
        if word == "select_n" and len(node.inputs) == 3:
            return tuple(Operand(name, "either") for name in node.inputs[1:])
        return ()

    def _body(self, node: OperatorNode, parameters: Any) -> Body:
        """One round of a loop as a graph of its own."""
        from regraft.runtime.jax_graph import JaxGraph

        if node.operator == "scan":
            closed, fixed, kept = parameters["jaxpr"], parameters["num_consts"], parameters["num_carry"]
            outer = list(node.inputs)
        else:
            closed, fixed = parameters["body_jaxpr"], parameters["body_nconsts"]
            outer = list(node.inputs[parameters["cond_nconsts"] :])
            kept = len(outer) - fixed
        names = [f"{node.name}/{i}" for i in range(len(closed.jaxpr.invars))]
        graph = JaxGraph(closed, names, where=self.graph.where)
        carried = frozenset(names[fixed : fixed + kept])
        outputs = {ours: inner for ours, inner in zip(node.outputs, graph.outputs, strict=True) if ours}
        return Body(graph, dict(zip(names, outer, strict=True)), carried, outputs)


def _letters(ndim: int, summed: Any, batch: Any) -> str:
    return "".join(IN if i in summed else EXPERT if i in batch else OUT for i in range(ndim)) or NONE
