"""Where a network uses its weights: in which role, in which layout, fed by which other uses.

A graph of operators is read in the order of execution. Of a weight it is known what became of it on its way to the
data (transposed, cut, made a root of); of the data, from which weights it comes. A *heavy* use makes new channels (a
projection, a convolution, a table, a recurrent layer); a *light* one works on each channel (a bias, a norm).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.compare.weight_map.derived import Derived, moved
from regraft.compare.weight_map.interface import IN, NONE, OUT, Operand, Reader, Reading
from regraft.compare.weight_map.pieces import Piece, letters_of

if TYPE_CHECKING:
    from regraft.runtime.named_weights import NamedWeight
    from regraft.runtime.operator_graph import OperatorGraph, OperatorNode

HEAVY = frozenset({"contract", "recur", "table"})
_SIDES = {"add": "shift", "sub": "shift", "rsub": "shift", "mul": "scale", "div": "scale"}
_FIRST = {"neg": "centre", "rsqrt": "variance", "mul": "scale", "add": "shift", "sub": "shift", "exp": "scale"}


class Site(msgspec.Struct):
    """One use of a weight.

    Attributes:
        index: in the order of execution.
        role: see `interface.Operand`.
        piece: the weight, or the slice of it that is used.
        node: operator that combines it with the data.
        anchors: heavy sites that the data comes from, as a bit mask of indices.
        lights: light sites that the data went through since then.
        root: tensor that the data is, whatever its shape: what several projections of one tensor share.
        follows: heavy site that a bias belongs to.
        is_flipped: its places are used in reverse.
        cell: the recurrent layer that it is part of.
        path: what is done to the weight before it is used.
        behind: heavy site whose result a norm works on, with nothing in between.
        epsilon: of that norm.
    """

    index: int
    role: str
    piece: Piece
    node: str
    anchors: int = 0
    lights: int = 0
    root: str = ""
    follows: int | None = None
    is_flipped: bool = False
    cell: str = ""
    path: tuple[str, ...] = ()
    behind: int | None = None
    epsilon: float = 0.0

    @property
    def is_heavy(self) -> bool:
        """Does it make new channels?"""
        return self.role in HEAVY

    @property
    def signature(self) -> tuple[object, ...]:
        """What another implementation must have in common with it: role, channels out and in, places."""
        piece = self.piece
        if self.is_heavy:
            return (self.role, piece.size(OUT), piece.size(IN), piece.space)
        return (self.role, math.prod(piece.extents))


class _Data(msgspec.Struct, frozen=True):
    anchors: int = 0
    lights: int = 0
    root: str = ""
    immediate: int | None = None
    is_carried: bool = False
    is_zero: bool = False


def sites_of(graph: OperatorGraph, weights: Mapping[str, NamedWeight]) -> list[Site]:
    """Every use of a weight, in the order of execution.

    Args:
        graph: of torch, JAX, Keras or ONNX.
        weights: of the model, see `named_weights`.
    Raises:
        Unsupported: graphs of this runtime are not read.
    """
    tracker = _Tracker(weights)
    states: dict[str, Any] = {name: _Data(root=name) for name in graph.inputs}
    for weight in weights.values():
        for tensor in weight.tensors:
            axes = tuple((axis,) for axis in range(len(weight.shape)))
            states[tensor] = (Derived(weight.name, axes),)
    tracker.walk(reader_of(graph), states, cell="")
    return tracker.sites


def reader_of(graph: OperatorGraph) -> Reader:
    """What reads graphs of a framework.

    Raises:
        Unsupported: nothing does.
    """
    from regraft.errors import Unsupported

    kind = type(graph).__name__
    if kind == "TorchGraph":
        from regraft.compare.weight_map.torch_reading import TorchReader

        return TorchReader(graph)
    if kind == "JaxGraph":
        from regraft.compare.weight_map.jax_reading import JaxReader

        return JaxReader(graph)
    if kind == "OnnxGraph":
        from regraft.compare.weight_map.onnx_reading import OnnxReader

        return OnnxReader(graph)
    raise Unsupported(f"how a {kind} uses its weights is not known", where=graph.where)


class _Tracker:
    """Follows weights and data through a graph, and notes where they meet."""

    def __init__(self, weights: Mapping[str, NamedWeight]) -> None:
        self._weights = weights
        self.sites: list[Site] = []
        self._noted: dict[tuple[object, ...], int] = {}

    def walk(self, reader: Reader, states: dict[str, Any], *, cell: str) -> None:
        """Read the operators in order; `states` holds what is known of each tensor."""
        for node in reader.graph.nodes:
            reading = reader.read(node)
            if reading.body is not None:
                self._loop(node, reading, states)
            if reading.kind == "state":
                states[node.outputs[0]] = _Data(root=node.outputs[0], is_zero=True)
            if reading.kind in ("loop", "size", "state"):
                continue
            given = [states.get(name) for name in node.inputs]
            if any(isinstance(state, _Data) for state in given):
                found = self._with_data(node, reading, states, cell)
            else:
                found = _of_weights(reader, node, reading, states)
            if found is not None:
                states.update((name, found) for name in node.outputs if name)

    def _with_data(self, node: OperatorNode, reading: Reading, states: Mapping[str, Any], cell: str) -> _Data:
        first = states.get(node.inputs[0])
        if reading.kind == "move" and isinstance(first, _Data):
            is_part = reading.word in ("slice", "select", "split", "window")
            return msgspec.structs.replace(first, root=node.outputs[0]) if is_part else first
        data = _joined((states.get(name) for name in node.inputs), node.outputs[0])
        if reading.kind == "roles" and any(_is_weights(states.get(one.tensor)) for one in reading.operands):
            roots = [state.root for state in map(states.get, node.inputs) if isinstance(state, _Data)]
            return self._roles(node, reading, states, msgspec.structs.replace(data, root=roots[0]), cell)
        if reading.kind in ("elementwise", "unary"):
            return self._elementwise(node, reading, states, data, cell)
        for name in node.inputs:
            if _is_weights(states.get(name)):
                role = "table" if reading.word == "window" else "other"
                data = self._light(node, states[name], role, data, cell)
        return data

    def _elementwise(
        self,
        node: OperatorNode,
        reading: Reading,
        states: Mapping[str, Any],
        data: _Data,
        cell: str,
    ) -> _Data:
        given = [state for state in map(states.get, node.inputs) if isinstance(state, _Data)]
        immediate = max((one.immediate for one in given if one.immediate is not None), default=None)
        if reading.word == "add" and len(given) > 1:  # a bias may be added behind a residual
            return msgspec.structs.replace(data, immediate=immediate)
        result = msgspec.structs.replace(data, immediate=None)
        for position, operand in enumerate(reading.operands):
            state = states.get(operand.tensor)
            if not _is_weights(state):
                continue
            side = "centre" if reading.word == "sub" and position == 1 else _SIDES.get(reading.word, "other")
            kept = msgspec.structs.replace(result, immediate=immediate if side == "shift" else None)
            result = self._light(node, state, side, kept, cell)
        return msgspec.structs.replace(result, immediate=None)

    def _light(self, node: OperatorNode, state: Any, side: str, data: _Data, cell: str) -> _Data:
        """Weights that work on each channel; what is added with places of its own is a table."""
        for derived in state:
            first = next((word for word in derived.path if word in _FIRST), "")
            is_slope = (first, side) == ("neg", "scale")  # Keras writes a slope as -a · relu(-x)
            role = side if is_slope else _FIRST.get(first, side)
            piece = self._piece(derived)
            wide = [extent for extent in piece.extents if extent != 1]
            if role == "shift" and not first and self._is_bias(piece, data):
                role = "bias"
            elif side == "table" or "lookup" in derived.path or (role == "shift" and len(wide) > 1):
                role = "table"
            elif role == "shift" and derived.part is not None and self._is_sum_of_tables(data):
                role = "table"  # one row of it: the segment that all tokens are in
            if role == "table":
                piece = msgspec.structs.replace(piece, part=None, axes=_table_letters(piece.shape))
                site = self._note(role, piece, node, data=_Data(), cell=cell, path=derived.path)
                data = msgspec.structs.replace(data, anchors=data.anchors | 1 << site)
                continue
            follows = data.immediate if role == "bias" else None
            before = data if follows is None else _Data(1 << follows)
            site = self._note(role, piece, node, data=before, follows=follows, cell=cell, path=derived.path)
            data = msgspec.structs.replace(data, lights=data.lights | 1 << site)
        return data

    def _is_sum_of_tables(self, data: _Data) -> bool:
        anchors = [self.sites[i] for i in bits(data.anchors)]
        return not data.lights and bool(anchors) and all(one.role == "table" for one in anchors)

    def _is_bias(self, piece: Piece, data: _Data) -> bool:
        if data.immediate is None:
            return False
        return math.prod(piece.extents) == self.sites[data.immediate].piece.size(OUT)

    def _roles(
        self,
        node: OperatorNode,
        reading: Reading,
        states: Mapping[str, Any],
        data: _Data,
        cell: str,
    ) -> _Data:
        made: dict[int, int] = {}
        layers: dict[str, int] = {}
        result, below = data, data
        first = states.get(node.inputs[0])
        behind = first.immediate if reading.epsilon is not None and isinstance(first, _Data) else None
        for position, operand in enumerate(reading.operands):
            state: Any = states.get(operand.tensor)
            if not _is_weights(state):
                continue
            if operand.role in ("bias", "join", "either") or operand.role not in HEAVY:
                follows = made.get(operand.follows) if operand.follows is not None else None
                anchor = _Data(1 << follows, 0, "", follows) if follows is not None else result
                for derived in state:
                    piece = self._piece(derived, operand)
                    role = "scale" if operand.role == "slope" else operand.role
                    site = self._note(role, piece, node, data=anchor, follows=follows, cell=operand.cell or cell)
                    self.sites[site].behind, self.sites[site].epsilon = behind, reading.epsilon or 0.0
                    result = msgspec.structs.replace(result, lights=result.lights | 1 << site)
                continue
            if operand.follows is not None and operand.cell not in layers:
                below = _below(layers, operand.follows, data)
            own: Any = states.get(operand.data)
            below = own if operand.data and isinstance(own, _Data) else below
            is_state = below.is_carried or below.is_zero
            role = "recur" if operand.role == "contract" and is_state else operand.role
            given = _Data() if role == "recur" else below
            for derived in state:
                site = self._note(
                    role, self._piece(derived, operand), node, data=given, cell=operand.cell or cell,
                    is_flipped=operand.is_flipped != derived.is_flipped, path=derived.path,
                )  # fmt: skip
                made[position] = site
            layers[operand.cell] = layers.get(operand.cell, 0) | 1 << made[position]
            is_first = len(made) == 1
            anchors = layers[operand.cell] if operand.cell else (0 if is_first else result.anchors) | 1 << site
            lights = 0 if is_first else result.lights
            result = _Data(anchors, lights, node.outputs[0], site if not operand.cell else None)
        if len(layers) > 1:
            result = msgspec.structs.replace(result, anchors=_top(layers))
        return result

    def _loop(self, node: OperatorNode, reading: Reading, states: dict[str, Any]) -> None:
        body = reading.body
        assert body is not None
        inner: dict[str, Any] = {}
        for name, outer in body.inputs.items():
            state = states.get(outer)
            if name in body.carried:
                inner[name] = _Data(root=name, is_carried=True)
            elif state is not None:
                inner[name] = msgspec.structs.replace(state, root=name) if isinstance(state, _Data) else state
        self.walk(reader_of(body.graph), inner, cell=node.name)
        for ours, name in body.outputs.items():
            state = inner.get(name)
            if isinstance(state, _Data):
                states[ours] = _Data(state.anchors, state.lights, ours)

    def _piece(self, derived: Derived, operand: Operand | None = None) -> Piece:
        """The weight, with letters for its axes as its use gives them to the axes of the tensor."""
        shape = self._weights[derived.weight].shape
        piece = Piece(derived.weight, shape, letters_of(shape), derived.part)
        if operand is None or not operand.letters:
            return msgspec.structs.replace(piece, axes=letters_of(piece.extents))
        letters = [NONE] * len(shape)
        for axis, letter in zip(derived.axes, operand.letters, strict=False):
            for source in axis:
                if letters[source] == NONE and piece.extents[source] != 1:
                    letters[source] = letter
        return msgspec.structs.replace(piece, axes="".join(letters))

    def _note(
        self,
        role: str,
        piece: Piece,
        node: OperatorNode,
        *,
        data: _Data,
        follows: int | None = None,
        is_flipped: bool = False,
        cell: str = "",
        path: tuple[str, ...] = (),
    ) -> int:
        """A new site; a light use that was seen already, as one of two terms of the same norm, is that one."""
        key = (piece.weight, piece.part, role, data.anchors)
        if role not in HEAVY and key in self._noted:
            return self._noted[key]
        index = len(self.sites)
        self._noted[key] = index
        self.sites.append(
            Site(
                index, role, piece, node.name, data.anchors, data.lights if role in HEAVY else 0, data.root, follows,
                is_flipped, cell, path,
            )
        )  # fmt: skip
        return index


def _of_weights(reader: Reader, node: OperatorNode, reading: Reading, states: dict[str, Any]) -> Any:
    """What an operator makes that takes weights and constants alone; None where it takes no weight."""
    known = [(position, states[name]) for position, name in enumerate(node.inputs) if _is_weights(states.get(name))]
    if not known:
        return None
    if reading.kind == "move":
        made = [moved(one, reading, reader.shape(node.outputs[0])) for one in known[0][1]]
        if reading.word == "split" and len(node.outputs) > 1:
            start = 0
            for name in node.outputs:
                (extent,) = (reader.shape(name)[reading.move[0]],) if name else (0,)
                cut = Reading("move", word="slice", move=(reading.move[0], start, start + extent))
                states[name] = tuple(moved(one, cut, reader.shape(name)) for one in known[0][1])
                start += extent
            return None
        return tuple(made)
    found: list[Derived] = []
    for position, state in known:
        word = reading.word if reading.kind in ("elementwise", "unary") else "other"
        word = "neg" if word == "sub" and position == 1 else word
        if reading.kind == "roles" and any(one.role == "table" for one in reading.operands):
            word = "lookup"
        alone = len(known) == 1 and reading.kind == "elementwise" and word in ("add", "sub", "mul", "div")
        word = f"{word} constant" if alone else word
        found += [one.after(word) for one in state]
    return tuple(found)


def bits(mask: int) -> Iterator[int]:
    """Positions of the ones."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def _is_weights(state: Any) -> bool:
    return isinstance(state, tuple)


def _joined(states: Iterable[Any], root: str) -> _Data:
    given = [state for state in states if isinstance(state, _Data)]
    anchors = lights = 0
    for state in given:
        anchors, lights = anchors | state.anchors, lights | state.lights
    is_carried, is_zero = any(state.is_carried for state in given), all(state.is_zero for state in given)
    return _Data(anchors, lights, root, None, is_carried, is_zero and bool(given))


def _below(layers: Mapping[str, int], follows: int, data: _Data) -> _Data:
    """What the layer below a layer of a stack of recurrent ones makes: the uses of its cells, of both directions."""
    del follows
    anchors = _top(layers)
    return _Data(anchors) if anchors else data


def _top(layers: Mapping[str, int]) -> int:
    return list(layers.values())[-1] if layers else 0


def _table_letters(shape: tuple[int, ...]) -> str:
    """The last axis holds the channels, all others are entries."""
    letters = [NONE if extent == 1 else OUT for extent in shape]
    if letters and letters[-1] == OUT and letters.count(OUT) > 1:
        letters[-1] = IN
    return "".join(letters)
