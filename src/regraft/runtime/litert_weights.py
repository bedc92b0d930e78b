"""The floating-point weights of a TFLite file, and the file with them moved to neighbouring numbers.

Source: tensorflow/compiler/mlir/lite/schema/schema.fbs (fields of Model, SubGraph, Tensor and Buffer).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from regraft.package.formats.flatbuffer import Buffer, Table
from regraft.package.reader import BytesReader
from regraft.runtime.rounding import neighbours

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SUBGRAPHS, _BUFFERS = 2, 4
_TENSORS = 0
_SHAPE, _TYPE, _BUFFER = 0, 1, 2
_DATA, _OFFSET, _SIZE = 0, 1, 2
_FLOATS = {0: "<f4", 1: "<f2"}


def with_moved_weights(content: bytes, seed: int, unit: float) -> bytes:
    """The file with every weight of floating-point numbers times 1 − unit, 1 or 1 + unit.

    Numbers without axes are settings of operators as often as weights, and stay; so do quantised weights.

    Args:
        content: a flatbuffer.
        seed: decides which way each number moves.
        unit: relative distance of neighbouring numbers.
    Raises:
        Damaged: it is no sound flatbuffer.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    moved = bytearray(content)
    for start, count, dtype in sorted(_weights(content)):
        values = np.frombuffer(content, dtype, count, start)
        moved[start : start + values.nbytes] = neighbours(values, rng, unit).tobytes()
    return bytes(moved)


def float_weights(content: bytes) -> Iterator[NDArray[np.float32]]:
    """Weights of floating-point numbers, those of float16 as the float32 that they are computed with."""
    import numpy as np

    for start, count, dtype in sorted(_weights(content)):
        yield np.frombuffer(content, dtype, count, start).astype(np.float32)


def _weights(content: bytes) -> set[tuple[int, int, str]]:
    """Where the numbers of each weight begin, how many there are, and how they are written; shared ones once."""
    model = Buffer(BytesReader(content, where="model.tflite")).root()
    buffers = list(model.tables(_BUFFERS))
    found = set()
    for graph in model.tables(_SUBGRAPHS):
        for tensor in graph.tables(_TENSORS):
            dtype = _FLOATS.get(tensor.sint(_TYPE, 1))
            index = tensor.uint(_BUFFER, 4)
            shape = tensor.sints(_SHAPE, 4)
            place = _place(buffers[index]) if dtype and index < len(buffers) and shape else None
            if place is not None and dtype is not None:
                start, size = place
                width = 4 if dtype == "<f4" else 2
                if size == width * math.prod(shape):
                    found.add((start, size // width, dtype))
    return found


def _place(buffer: Table) -> tuple[int, int] | None:
    """Where the bytes of a buffer stand; large ones behind the flatbuffer, where offsets of 0 and 1 mean none."""
    offset = buffer.uint(_OFFSET, 8)
    return (offset, buffer.uint(_SIZE, 8)) if offset > 1 else buffer.place(_DATA)
