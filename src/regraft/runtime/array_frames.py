"""Messages with arrays between two processes: JSON for what is said, raw bytes for the numbers, never a pickle."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.errors import Damaged, LimitExceeded, Unsupported

if TYPE_CHECKING:
    from collections.abc import Callable

    from regraft.runtime.interface import Array

DTYPES = frozenset(
    "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 complex64 complex128".split()
)
MAX_HEADER_BYTES = 64 << 20
MAX_ARRAY_BYTES = 64 << 30
_LENGTH_BYTES = 8


class ArrayPlace(msgspec.Struct, frozen=True):
    """An array that follows a message: its bytes come in the order in which the arrays are listed."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """Of its data."""
        import numpy as np

        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


class Frame(msgspec.Struct, frozen=True):
    """What goes first: a message, and which arrays follow it."""

    message: msgspec.Raw
    arrays: tuple[ArrayPlace, ...] = ()


def frame_parts(message: Any, arrays: Mapping[str, Array], *, where: str = "") -> list[bytes | memoryview]:
    """What to write, one piece after the other; the arrays are not copied where they are contiguous.

    Raises:
        Unsupported: an array of texts or objects.
    """
    import numpy as np

    places, data = [], []
    for name, value in arrays.items():
        if value.dtype.name not in DTYPES:
            raise Unsupported(f"{name!r} is {value.dtype}, which does not travel between processes", where=where)
        places.append(ArrayPlace(name, value.dtype.name, tuple(value.shape)))
        data.append(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)
    header = msgspec.json.encode(Frame(msgspec.Raw(msgspec.json.encode(message)), tuple(places)))
    return [len(header).to_bytes(_LENGTH_BYTES, "little"), header, *data]


def read_frame(
    read: Callable[[int], bytearray],
    *,
    hold: Callable[[Array], Array] | None = None,
    limit_bytes: int = MAX_ARRAY_BYTES,
) -> tuple[msgspec.Raw, dict[str, Array]]:
    """Read a message and its arrays.

    Args:
        read: returns exactly so many bytes, in memory that the array may keep, or raises.
        hold: puts each array where it is to be kept; None for in memory.
        limit_bytes: of all its arrays together.
    Raises:
        Damaged: what comes is no frame; it is bounded and of numbers only, whoever wrote it.
        LimitExceeded: it announces more than the limit; nothing of its arrays was read.
    """
    import numpy as np

    length = int.from_bytes(read(_LENGTH_BYTES), "little")
    if length > MAX_HEADER_BYTES:
        raise Damaged(f"a message of {length} bytes")
    try:
        frame = msgspec.json.decode(read(length), type=Frame)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Damaged(f"no message: {error}") from None
    size = 0
    for place in frame.arrays:
        if place.dtype not in DTYPES or min(place.shape, default=0) < 0:
            raise Damaged(f"an array of {place.dtype[:40]} {place.shape[:8]}")
        size += place.size_bytes
    if size > limit_bytes:
        raise LimitExceeded(f"arrays of {size} bytes, where at most {limit_bytes} can be")
    arrays: dict[str, Array] = {}
    for place in frame.arrays:
        data = read(place.size_bytes)
        try:
            array = np.frombuffer(data, dtype=place.dtype).reshape(place.shape)
            arrays[place.name] = array if hold is None else hold(array)
        except ValueError as error:
            raise Damaged(f"an array of {place.dtype} {place.shape[:8]}: {error}") from None
    return frame.message, arrays
