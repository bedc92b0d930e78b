"""A part of a TFLite graph as a flatbuffer of its own: the same file with fewer operators and other ends.

Source: tensorflow/compiler/mlir/lite/schema/schema.fbs (fields of Model and SubGraph), and FlatBuffers internals: an
offset counts from where it stands and is unsigned, so what is added stands behind what points to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from regraft.errors import Damaged, Unsupported
from regraft.package.formats.flatbuffer import Buffer, Table
from regraft.package.reader import BytesReader

_SUBGRAPHS, _SIGNATURES = 2, 7
_INPUTS, _OUTPUTS, _OPERATORS = 1, 2, 3


def operators_between(
    operators: Sequence[Mapping[str, Any]], inputs: Sequence[int], outputs: Sequence[int], *, fed: Sequence[int]
) -> list[int]:
    """Positions of the operators that lead from tensors to tensors, in the order of the graph.

    Args:
        operators: with the indices of their `inputs` and `outputs`.
        inputs, outputs: indices of tensors.
        fed: the tensors that the whole graph is fed with.
    Raises:
        Unsupported: the outputs also need one of `fed` that is not among the inputs.
    """
    makers = {int(index): position for position, one in enumerate(operators) for index in one["outputs"]}
    found: set[int] = set()
    waiting = [index for index in outputs if index not in inputs]
    while waiting:
        index = waiting.pop()
        if index in fed:
            raise Unsupported(f"the outputs also need tensor {index}, an input of the whole graph")
        position = makers.get(index)
        if position is not None and position not in found:
            found.add(position)
            waiting += [int(i) for i in operators[position]["inputs"] if i >= 0 and int(i) not in inputs]
    return sorted(found)


def cut_flatbuffer(content: bytes, operators: Sequence[int], inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
    """The file with these operators of its first graph alone, between these tensors.

    Raises:
        Unsupported: the file has no graph, or is laid out so that it cannot be cut.
        Damaged: it is no sound flatbuffer.
    """
    buffer = Buffer(BytesReader(content, where="model.tflite"))
    model = buffer.root()
    graph = next(model.tables(_SUBGRAPHS), None)
    if graph is None:
        raise Unsupported("the file has no graph")
    cut = bytearray(content)
    _keep_elements(cut, _vector(buffer, graph, _OPERATORS), operators)
    for field, indices in ((_INPUTS, inputs), (_OUTPUTS, outputs)):
        place = graph.position(field)
        if place is None:
            raise Unsupported("the graph does not say its ends")
        cut += bytes(-len(cut) % 16)
        _write(cut, place, len(cut) - place)
        cut += b"".join(number.to_bytes(4, "little") for number in (len(indices), *indices))
    if model.position(_SIGNATURES) is not None:  # they name tensors of the whole graph
        _write(cut, _vector(buffer, model, _SIGNATURES), 0)
    return bytes(cut)


def _keep_elements(cut: bytearray, vector: int, kept: Sequence[int]) -> None:
    targets = [place + _read(cut, place) for place in (vector + 4 + 4 * position for position in kept)]
    _write(cut, vector, len(kept))
    for number, target in enumerate(targets):
        place = vector + 4 + 4 * number
        if target <= place:
            raise Unsupported("the operators stand before the list of them")
        _write(cut, place, target - place)


def _vector(buffer: Buffer, table: Table, field: int) -> int:
    """Where a vector begins, at its count."""
    place = table.position(field)
    if place is None:
        raise Damaged(f"field {field} is absent")
    return place + buffer.uint(place, 4)


def _read(data: bytearray, place: int) -> int:
    return int.from_bytes(data[place : place + 4], "little")


def _write(data: bytearray, place: int, value: int) -> None:
    data[place : place + 4] = value.to_bytes(4, "little")
