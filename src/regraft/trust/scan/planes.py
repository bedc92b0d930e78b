"""The bytes that hide in weights, put together again as the published ways of hiding them take them apart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_WIDTHS = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}
_MOST_LOW_BYTES = 6
"""More would change the exponent of a float64."""
_PRINTABLE_WORDS = 5
"""Words of 8 printable bytes in a row, aligned, that every text of 48 characters holds."""


def streams_of(data: bytes, dtype: str) -> Iterator[tuple[str, bytes]]:
    """(what it is, bytes): low bytes of each number in both orders, and its lowest and sign bits packed both ways.

    Args:
        data: little-endian numbers from the beginning of one on.
        dtype: float64, float32, float16 or bfloat16.
    """
    import numpy as np

    width = _WIDTHS[dtype]
    numbers = np.frombuffer(data[: len(data) // width * width], np.uint8).reshape(-1, width)  # (n, width)
    yield "lowest bytes", numbers[:, 0].tobytes()
    for count in range(2, min(width, _MOST_LOW_BYTES + 1)):
        yield f"{count} low bytes", numbers[:, :count].tobytes()
        yield f"{count} low bytes, highest first", numbers[:, count - 1 :: -1].tobytes()
    words = numbers.view(f"<u{width}").ravel()
    for name, bits in (("lowest bits", words & 1), ("signs", words >> (8 * width - 1))):
        yield from ((name, stream) for stream in _packed(bits.astype(np.uint8)))


def _packed(bits: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Iterator[bytes]:
    """The bits as bytes in both orders of bits, beginning at each of the first eight."""
    import numpy as np

    for shift in range(8):
        yield np.packbits(bits[shift:], bitorder="little").tobytes()
        yield np.packbits(bits[shift:], bitorder="big").tobytes()


def may_be_text(data: bytes) -> bool:
    """Could a text of 48 characters stand in the data? Quick: eight bytes at a time."""
    import numpy as np

    if len(data) < 8 * _PRINTABLE_WORDS:
        return False
    words = np.frombuffer(data[: len(data) // 8 * 8], "<u8")
    high = np.uint64(0x8080808080808080)
    # a byte below 9, where control characters are, borrows from its highest bit
    printable = ((words | (words - np.uint64(0x0909090909090909))) & high) == 0
    run = printable[_PRINTABLE_WORDS - 1 :].copy()
    for back in range(1, _PRINTABLE_WORDS):
        run &= printable[_PRINTABLE_WORDS - 1 - back : len(printable) - back]
    return bool(run.any())
