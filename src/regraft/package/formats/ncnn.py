"""ncnn's graphs (`.param`, as text and as numbers) and PNNX's: layers by type, signature, number of weights.

The weights lie in a `.bin` beside, without a header: the graph alone says what they are.
Source: ncnn, docs/developer-guide/param-and-model-file-structure.md and operators.md, src/paramdict.cpp.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from regraft.errors import Damaged, LimitExceeded
from regraft.package.formats.interface import Description, Loading, Port, Probe, Problem, Role
from regraft.package.formats.ncnn_layers import LAYERS, weight_count
from regraft.package.limits import MAX_TEXT_BYTES

MAGIC = 7767517
_BEGIN = re.compile(rb"\s*7767517\s+(\d{1,9})\s+(\d{1,9})\s+(\S{1,256})")
_FIXED_FIELDS = 4
_ARRAY, _END = -23300, -233
_MAX_LAYERS = 1_000_000
_MAX_NAME = 256
_MAX_COUNT = (1 << 62) - 1


class Layer(NamedTuple):
    """One layer: its type, its name, blobs that go in and out, and its parameters that are single numbers."""

    type: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    numbers: dict[int, float]


class NcnnParam:
    """Format `ncnn-param`."""

    name = "ncnn-param"
    title = "ncnn graph"
    role = Role.GRAPH
    loading = Loading.INERT
    suffixes = (".param",)

    def matches(self, probe: Probe) -> bool:
        """The magic number as text, two counts, and a first layer that is none of PNNX's."""
        begin = _BEGIN.match(probe.head)
        return begin is not None and not begin[3].startswith(b"pnnx.")

    def describe(self, probe: Probe) -> Description:
        """Layers by type, `Input` layers and blobs that nothing takes as the signature, weights by their number.

        Raises:
            Damaged: a line is no layer, or there are fewer layers than it says.
            LimitExceeded: it is too large.
        """
        return _described(*text_layers(_text(probe), probe.reader.where))


class NcnnBinaryParam:
    """Format `ncnn-param-binary`: the same graph, types and blobs as numbers."""

    name = "ncnn-param-binary"
    title = "ncnn graph as numbers"
    role = Role.GRAPH
    loading = Loading.INERT
    suffixes = (".bin",)

    def matches(self, probe: Probe) -> bool:
        """The magic number, counts that can be, and a first layer whose type and ends can be."""
        if len(probe.head) < 24 or int.from_bytes(probe.head[:4], "little") != MAGIC:
            return False
        layers, blobs, _, inputs, outputs = struct.unpack_from("<5i", probe.head, 4)
        return bool(0 < layers <= _MAX_LAYERS and blobs > 0 and 0 <= inputs <= blobs and 0 <= outputs <= blobs)

    def describe(self, probe: Probe) -> Description:
        """As of the text; blobs are called by their numbers.

        Raises:
            Damaged: the numbers end too early or make no graph.
            LimitExceeded: it is too large.
        """
        content = probe.reader.read_all(limit=MAX_TEXT_BYTES)
        return _described(*_number_layers(content, probe.reader.where))


class Pnnx:
    """Format `pnnx-param`: PyTorch's operators in the same notation; its weights are a zip beside it."""

    name = "pnnx-param"
    title = "PNNX graph"
    role = Role.GRAPH
    loading = Loading.INERT
    suffixes = (".param",)

    def matches(self, probe: Probe) -> bool:
        """As ncnn's, with an operator of PNNX's own in front."""
        begin = _BEGIN.match(probe.head)
        return begin is not None and begin[3].startswith(b"pnnx.")

    def describe(self, probe: Probe) -> Description:
        """Operators by type.

        Raises:
            Damaged, LimitExceeded: as of ncnn's.
        """
        layers, problems = text_layers(_text(probe), probe.reader.where)
        return Description(operators=dict(Counter(layer.type for layer in layers)), problems=problems)


def text_layers(text: str, where: str) -> tuple[list[Layer], tuple[Problem, ...]]:
    """The layers of a `.param` as text, and what is odd about it.

    Raises:
        Damaged: a line is no layer, or there are fewer layers than it says.
    """
    lines = text.split("\n")
    head = " ".join(lines[:2]).split()
    if len(head) != 3 or head[0] != str(MAGIC) or not all(re.fullmatch(r"[0-9]{1,9}", word) for word in head):
        raise Damaged("its first two lines are not the magic number and two counts", where=where)
    stated = int(head[1])
    rows = [(number, line.split()) for number, line in enumerate(lines[2:], 3) if line.strip()]
    if len(rows) < stated:
        raise Damaged(f"it says that it has {stated} layers, and has {len(rows)}", where=where)
    layers = [_layer(words, number, where) for number, words in rows[:stated]]
    rest = len(rows) - stated
    problems = (Problem(f"{rest} lines behind the last of its {stated} layers, which nothing reads"),) if rest else ()
    return layers, problems


def ends(layers: list[Layer]) -> tuple[list[str], list[str]]:
    """Blobs that `Input` layers make, and blobs that no layer takes, both in the order of the graph."""
    taken = {blob for layer in layers for blob in layer.inputs}
    inputs = [blob for layer in layers if layer.type == "Input" for blob in layer.outputs]
    outputs = [blob for layer in layers for blob in layer.outputs if blob not in taken]
    return inputs, outputs


def input_shape(layer: Layer) -> tuple[int, ...] | None:
    """Channels, depth, height, width of an `Input`, without the batch; None where the graph leaves them open."""
    extents = [int(layer.numbers.get(key, 0)) for key in (2, 11, 1, 0)]
    return tuple(extent for extent in extents if extent > 0) or None


def _text(probe: Probe) -> str:
    content = probe.reader.read_all(limit=MAX_TEXT_BYTES)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Damaged(f"not UTF-8 at byte {error.start}", where=probe.reader.where) from None


def _layer(words: list[str], number: int, where: str) -> Layer:
    counts = words[2:_FIXED_FIELDS]
    if len(counts) < 2 or not all(re.fullmatch(r"[0-9]{1,6}", word) for word in counts):
        raise Damaged(f"line {number} is no layer: type, name, and how many blobs go in and out", where=where)
    begin, middle = _FIXED_FIELDS, _FIXED_FIELDS + int(counts[0])
    end = middle + int(counts[1])
    if len(words) < end:
        raise Damaged(f"line {number} names fewer blobs than it says", where=where)
    inputs, outputs = tuple(words[begin:middle]), tuple(words[middle:end])
    return Layer(words[0][:_MAX_NAME], words[1][:_MAX_NAME], inputs, outputs, dict(_numbers(words[end:])))


def _numbers(words: list[str]) -> Iterator[tuple[int, float]]:
    """The parameters `key=number`; arrays and texts are left out."""
    for word in words:
        key, _, value = word.partition("=")
        if re.fullmatch(r"[0-9]{1,4}", key) and re.fullmatch(r"[-+0-9.eE]{1,30}", value):
            try:
                yield int(key), float(value)
            except ValueError:
                continue


def _number_layers(content: bytes, where: str) -> tuple[list[Layer], tuple[Problem, ...]]:
    numbers = _Numbers(content, where)
    _, stated, _ = (numbers.next() for _ in range(3))
    if not 0 <= stated <= _MAX_LAYERS:
        raise Damaged(f"it says that it has {stated} layers", where=where)
    layers = []
    for index in range(stated):
        kind, inputs, outputs = (numbers.next() for _ in range(3))
        name = LAYERS[kind] if 0 <= kind < len(LAYERS) else f"layer type {kind}"
        taken = tuple(str(blob) for blob in numbers.several(inputs))
        made = tuple(str(blob) for blob in numbers.several(outputs))
        layers.append(Layer(name, str(index), taken, made, dict(numbers.parameters())))
    rest = len(content) - numbers.position
    problems = (Problem(f"{rest} bytes behind the last layer, which nothing reads"),) if rest else ()
    return layers, problems


class _Numbers:
    """Reads 32-bit numbers one after the other; past the end is damage."""

    def __init__(self, content: bytes, where: str) -> None:
        self.position = 0
        self._content = content
        self._where = where

    def next(self) -> int:
        return self.several(1)[0]

    def several(self, count: int) -> tuple[int, ...]:
        end = self.position + 4 * count
        if count < 0 or end > len(self._content):
            raise Damaged("the numbers end in the middle of a layer", where=self._where)
        found = struct.unpack_from(f"<{count}i", self._content, self.position)
        self.position = end
        return found

    def parameters(self) -> Iterator[tuple[int, float]]:
        """Of one layer, as integers; a number with a fraction is not told apart, and no size is one."""
        while (key := self.next()) != _END:
            if key <= _ARRAY:
                self.several(self.next())
            else:
                yield key, self.next()


def _described(layers: list[Layer], problems: tuple[Problem, ...]) -> Description:
    if len(layers) > _MAX_LAYERS:
        raise LimitExceeded(f"{len(layers)} layers")
    inputs, outputs = ends(layers)
    shapes = {layer.outputs[0]: input_shape(layer) for layer in layers if layer.type == "Input" and layer.outputs}
    counts = [weight_count(layer.type, layer.numbers) for layer in layers]
    known = [count for count in counts if count is not None]
    parameters = sum(known) if len(known) == len(counts) and sum(known) <= _MAX_COUNT else None
    return Description(
        parameters=parameters,
        operators=dict(Counter(layer.type for layer in layers)),
        inputs=tuple(Port(name[:_MAX_NAME], "unknown", shapes.get(name)) for name in inputs),
        outputs=tuple(Port(name[:_MAX_NAME], "unknown") for name in outputs),
        metadata={"weights": "in the .bin beside it"},
        problems=problems,
    )
