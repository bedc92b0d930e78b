"""What the operators of an ONNX graph do with their tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from regraft.compare.weight_map.einsum import einsum_operands
from regraft.compare.weight_map.interface import EXPERT, IN, OUT, SPACE, Operand, Reading

if TYPE_CHECKING:
    from regraft.runtime.operator_graph import OperatorNode

_ELEMENTWISE = {"Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div"}
_UNARY = {"Sqrt": "rsqrt", "Reciprocal": "rsqrt", "Neg": "neg", "Pow": "rsqrt", "Exp": "exp"}
_SAME = frozenset({"Identity", "Cast", "Dropout", "CastLike"})
_RESHAPES = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze"})
_NORMS = {
    "BatchNormalization": {1: "scale", 2: "shift", 3: "centre", 4: "variance"},
    "LayerNormalization": {1: "scale", 2: "shift"}, "InstanceNormalization": {1: "scale", 2: "shift"},
    "GroupNormalization": {1: "scale", 2: "shift"}, "SimplifiedLayerNormalization": {1: "scale"},
    "RMSNormalization": {1: "scale"}, "PRelu": {1: "slope"},
}  # fmt: skip


class OnnxReader:
    """Reads one graph.

    Args:
        graph: an `OnnxGraph`.
    """

    def __init__(self, graph: Any) -> None:
        self.graph = graph

    def shape(self, tensor: str) -> tuple[int, ...]:
        """Extents of a constant; unknown (empty) for what is computed."""
        constant = self.graph.constant(tensor)
        return tuple(constant.shape) if constant is not None else ()

    def read(self, node: OperatorNode) -> Reading:
        """What an operator does; what depends on weights alone is a weight in this graph."""
        word = node.operator
        given = tuple(Operand(name, "") for name in node.inputs)
        if word in _SAME:
            return Reading("move", given[:1], "same")
        if word in _RESHAPES or word in ("Transpose", "Expand"):
            return Reading("move", given[:1], "data")
        if word in ("Slice", "Split"):
            return Reading("move", given[:1], "slice")
        if word in _ELEMENTWISE:
            return Reading("elementwise", given, _ELEMENTWISE[word])
        if word in _UNARY:
            return Reading("unary", given[:1], _UNARY[word])
        epsilon = self.graph.settings(node)["epsilon"] if word == "BatchNormalization" else None
        found = self._operands(word, node)
        return Reading("roles", found, epsilon=epsilon) if found else Reading("other")

    def _operands(self, word: str, node: OperatorNode) -> tuple[Operand, ...]:
        names, settings = node.inputs, self.graph.settings(node)
        if word == "MatMul":
            sizes = [len(self.shape(name)) for name in names]
            sides = [EXPERT * max(0, sizes[0] - 2) + OUT + IN, EXPERT * max(0, sizes[1] - 2) + IN + OUT]
            return tuple(Operand(name, "contract", own) for name, own in zip(names, sides, strict=True))
        if word == "Gemm":
            right = OUT + IN if settings.get("transB") else IN + OUT
            return self._with_bias(names, Operand(names[1], "contract", right))
        if word in ("Conv", "ConvTranspose"):
            is_turned = word == "ConvTranspose"
            places = SPACE * (len(self.shape(names[1])) - 2)
            letters = (IN + OUT if is_turned else OUT + IN) + places
            return self._with_bias(names, Operand(names[1], "contract", letters, is_flipped=is_turned))
        if word == "Gather":
            shape = self.shape(names[0])
            return (Operand(names[0], "table", (OUT + IN * len(shape))[: len(shape)]),)
        if word in _NORMS:
            return tuple(Operand(names[at], role) for at, role in _NORMS[word].items() if at < len(names) and names[at])
        if word in ("LSTM", "GRU", "RNN"):
            return _recurrent(node)
        if word == "Concat":
            return tuple(Operand(name, "join") for name in names)
        if word == "Einsum":
            return einsum_operands(settings["equation"], names, [self.shape(name) for name in names])
        return ()

    @staticmethod
    def _with_bias(names: tuple[str, ...], weight: Operand) -> tuple[Operand, ...]:
        if len(names) > 2 and names[2]:
            return weight, Operand(names[2], "bias", follows=0)
        return (weight,)


def _recurrent(node: OperatorNode) -> tuple[Operand, ...]:
    """W and R with one direction in front; B holds both biases, one behind the other."""
    cell = f"{node.name}/0"
    found = [
        Operand(node.inputs[1], "contract", EXPERT + OUT + IN, cell=cell),
        Operand(node.inputs[2], "recur", EXPERT + OUT + IN, cell=cell),
    ]
    if len(node.inputs) > 3 and node.inputs[3]:
        found.append(Operand(node.inputs[3], "bias", EXPERT + OUT, cell=cell, follows=0))
    return tuple(found)
