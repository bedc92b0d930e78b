"""What the operators of an exported torch program do with their tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from regraft.compare.weight_map.einsum import einsum_operands
from regraft.compare.weight_map.interface import EXPERT, IN, OUT, SPACE, Operand, Reading

if TYPE_CHECKING:
    from regraft.runtime.operator_graph import OperatorNode

_ELEMENTWISE = {"add": "add", "add_": "add", "sub": "sub", "mul": "mul", "mul_": "mul", "div": "div", "rsub": "rsub"}
_UNARY = {"rsqrt": "rsqrt", "sqrt": "rsqrt", "neg": "neg", "pow": "rsqrt", "exp": "exp", "reciprocal": "rsqrt"}
_SAME = frozenset(
    "to _to_copy contiguous clone alias detach detach_ lift_fresh_copy dropout dropout_ feature_dropout type_as "
    "convert_element_type".split()
)
_STATES = frozenset({"zeros", "zeros_like", "new_zeros"})
"""What makes the state in which a recurrent layer starts; a weight that is applied to it is one of the state."""
_RESHAPES = frozenset(
    "view reshape _unsafe_view flatten unflatten squeeze unsqueeze squeeze_ unsqueeze_ expand_as".split()
)
_PERMUTES = frozenset("permute transpose t numpy_T swapaxes movedim mT".split())
_CONVOLUTIONS = {
    "conv1d": False, "conv2d": False, "conv3d": False, "conv_transpose1d": True, "conv_transpose2d": True,
    "conv_transpose3d": True,
}  # fmt: skip
_NORMS = {
    "layer_norm": {2: "scale", 3: "shift"}, "native_layer_norm": {2: "scale", 3: "shift"},
    "group_norm": {2: "scale", 3: "shift"}, "rms_norm": {2: "scale"}, "_fused_rms_norm": {2: "scale"},
    "batch_norm": {1: "scale", 2: "shift", 3: "centre", 4: "variance"},
    "instance_norm": {1: "scale", 2: "shift", 3: "centre", 4: "variance"},
    "_native_batch_norm_legit_no_training": {1: "scale", 2: "shift", 3: "centre", 4: "variance"},
    "native_batch_norm": {1: "scale", 2: "shift", 3: "centre", 4: "variance"},
    "prelu": {1: "slope"}, "_prelu_kernel": {1: "slope"},
}  # fmt: skip
"""Operator → position of an argument → its role."""


class TorchReader:
    """Reads one program.

    Args:
        graph: a `TorchGraph`.
    """

    def __init__(self, graph: Any) -> None:
        self.graph = graph
        self._places = {place.name: place for node in graph.nodes for place in _around(graph.place(node))}

    def shape(self, tensor: str) -> tuple[int, ...]:
        """Extents of a tensor; -1 for one that differs between passes."""
        place = self._places.get(tensor)
        value = place.meta.get("val") if place is not None else None
        if value is None:
            constant = self.graph.constant(tensor) if place is not None and place.op == "get_attr" else None
            return tuple(constant.shape) if constant is not None else ()
        return _extents(value)

    def read(self, node: OperatorNode) -> Reading:
        """What an operator does."""
        place = self.graph.place(node)
        word = str(place.target).removeprefix("aten.").split(".")[0]
        args = [_named(argument) for argument in place.args]
        if word.startswith("sym_"):
            return Reading("size")
        if word in _SAME:
            return Reading("move", _given(args[:1]), "same")
        if word in _RESHAPES or word in _PERMUTES or word in ("expand", "broadcast_to", "slice", "select", "flip"):
            return self._move(word, args, place)
        if word in _STATES:
            return Reading("state")
        if word in ("chunk", "split", "unsafe_split", "unsafe_chunk", "split_with_sizes", "unbind"):
            return Reading("move", _given(args[:1]), "split", (_axis(place, 2 if word != "unbind" else 1),))
        if word in _ELEMENTWISE:
            return Reading("elementwise", _given(args[:2]), _ELEMENTWISE[word])
        if word in _UNARY:
            return Reading("unary", _given(args[:1]), _UNARY[word])
        epsilon = self.graph.settings(node).get("eps") if "batch_norm" in word else None
        operands = self._operands(word, args, place)
        return Reading("roles", operands, epsilon=epsilon) if operands else Reading("other")

    def _move(self, word: str, args: list[Any], place: Any) -> Reading:
        tensor = _given(args[:1])
        before, after = self.shape(str(args[0])), _extents(place.meta.get("val"))
        ndim = len(before)
        if word in _PERMUTES:
            return Reading("move", tensor, "permute", _permutation(word, args[1:], ndim))
        if word in _RESHAPES:
            return Reading("move", tensor, "reshape", (before, after))
        if word in ("expand", "broadcast_to"):
            return Reading("move", tensor, "broadcast", tuple(range(len(after) - ndim, len(after))))
        axis = int(args[1]) if len(args) > 1 and not isinstance(args[1], list | tuple) else 0
        axis += ndim if axis < 0 else 0
        if word == "flip":
            return Reading("move", tensor, "flip", tuple(a % ndim for a in args[1]))
        if word == "select":
            start = int(args[2])
            start += before[axis] if start < 0 else 0
            return Reading("move", tensor, "select", (axis, start, start + 1))
        start = int(args[2] or 0) if len(args) > 2 and isinstance(args[2], int | None) else 0
        start += before[axis] if start < 0 else 0
        return Reading("move", tensor, "slice", (axis, start, start + after[axis]))

    def _operands(self, word: str, args: list[Any], place: Any) -> tuple[Operand, ...]:
        if word == "linear":
            return _with_bias(args[1], "OI" if len(self.shape(str(args[1]))) > 1 else "I", args[2:3])
        if word in ("mm", "matmul", "bmm"):
            return self._product(args[0], args[1])
        if word in ("addmm", "baddbmm"):
            return _with_bias(args[2], "IO", args[:1])
        if word in _CONVOLUTIONS:
            letters = "IO" if _CONVOLUTIONS[word] else "OI"
            return self._convolution(args, letters, is_turned=_CONVOLUTIONS[word])
        if word == "convolution":
            is_turned = bool(args[6])
            return self._convolution(args, "IO" if is_turned else "OI", is_turned=is_turned)
        if word == "embedding":
            return (Operand(str(args[0]), "table", OUT + IN),)
        if word == "index" and isinstance(args[1], list | tuple) and len(args[1]) == 1:
            shape = self.shape(str(args[0]))
            return (Operand(str(args[0]), "table", (OUT + IN * len(shape))[: len(shape)]),)
        if word in _NORMS:
            found = {position: args[position] for position in _NORMS[word] if position < len(args)}
            return tuple(Operand(str(one), _NORMS[word][at]) for at, one in found.items() if isinstance(one, str))
        if word in ("lstm", "gru", "rnn_tanh", "rnn_relu"):
            return _recurrent(place, args)
        if word in ("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"):
            return _cell(args)
        if word == "cat":
            return tuple(Operand(str(one), "join") for one in args[0])
        if word == "einsum":
            shapes = [self.shape(str(one)) for one in args[1]]
            return einsum_operands(args[0], [str(one) for one in args[1]], shapes)
        return ()

    def _product(self, left: Any, right: Any) -> tuple[Operand, ...]:
        """Both operands of a matrix product; which of them is a weight is not known here."""
        ours, theirs = len(self.shape(str(left))), len(self.shape(str(right)))
        first = EXPERT * max(0, ours - 2) + (OUT + IN if ours > 1 else IN)
        second = EXPERT * max(0, theirs - 2) + (IN + OUT if theirs > 1 else IN)
        return Operand(str(left), "contract", first), Operand(str(right), "contract", second)

    def _convolution(self, args: list[Any], letters: str, *, is_turned: bool) -> tuple[Operand, ...]:
        places = len(self.shape(str(args[1]))) - 2
        return _with_bias(args[1], letters + SPACE * places, args[2:3], is_flipped=is_turned)


def _around(place: Any) -> list[Any]:
    return [place, *place.all_input_nodes, *place.users]


def _named(argument: Any) -> Any:
    """Arguments with names of tensors in place of nodes."""
    if isinstance(argument, list | tuple):
        return [_named(one) for one in argument]
    if hasattr(argument, "all_input_nodes"):
        return str(argument.target) if argument.op == "placeholder" else str(argument.name)
    return argument


def _given(args: list[Any]) -> tuple[Operand, ...]:
    return tuple(Operand(one if isinstance(one, str) else "", "") for one in args)


def _with_bias(weight: Any, letters: str, bias: list[Any], *, is_flipped: bool = False) -> tuple[Operand, ...]:
    found = [Operand(str(weight), "contract", letters, is_flipped)]
    if bias and isinstance(bias[0], str):
        found.append(Operand(bias[0], "bias", follows=0))
    return tuple(found)


def _recurrent(place: Any, args: list[Any]) -> tuple[Operand, ...]:
    """Layers and directions in the order of torch: input weights, state weights, and two biases where there are any."""
    tensors, has_biases, layers = args[2], bool(args[3]), int(args[4])
    is_bidirectional = bool(args[7])
    step = 4 if has_biases else 2
    found: list[Operand] = []
    for start in range(0, len(tensors), step):
        layer = start // step // (2 if is_bidirectional else 1)
        cell = f"{place.name}/{start // step}"
        first = len(found)
        follows = None if layer == 0 else -layer  # a layer above the first takes what the one below makes
        found.append(Operand(tensors[start], "contract", OUT + IN, cell=cell, follows=follows))
        found.append(Operand(tensors[start + 1], "recur", OUT + IN, cell=cell))
        if has_biases:
            found.append(Operand(tensors[start + 2], "bias", cell=cell, follows=first))
            found.append(Operand(tensors[start + 3], "bias", cell=cell, follows=first + 1))
    assert layers >= 1
    return tuple(found)


def _cell(args: list[Any]) -> tuple[Operand, ...]:
    """One step of a recurrent layer: weights of the input and of the state, and two biases where there are any."""
    data, state, *tensors = args
    hidden = state[0] if isinstance(state, list) else state
    found = [Operand(one, "contract", OUT + IN, data=of) for one, of in zip(tensors, (data, hidden), strict=False)]
    biases = [(i, one) for i, one in enumerate(tensors[2:4]) if isinstance(one, str)]
    return (*found, *(Operand(one, "bias", follows=i) for i, one in biases))


def _permutation(word: str, args: list[Any], ndim: int) -> tuple[int, ...]:
    order = list(range(ndim))
    if word == "permute":
        return tuple(axis % ndim for axis in args[0])
    if word in ("t", "numpy_T"):
        return tuple(reversed(order))
    if word == "mT":
        args = [-1, -2]
    first, second = (int(axis) % max(1, ndim) for axis in args[:2])
    if word == "movedim":
        order.insert(second, order.pop(first))
    else:
        order[first], order[second] = order[second], order[first]
    return tuple(order)


def _axis(place: Any, position: int) -> int:
    return int(place.args[position]) if len(place.args) > position else int(place.kwargs.get("dim", 0))


def _extents(value: Any) -> tuple[int, ...]:
    return tuple(extent if isinstance(extent, int) else -1 for extent in getattr(value, "shape", ()))
