"""A reader that asks for each block once: recognising and describing a file read the same header."""

from __future__ import annotations

from regraft.package.reader import Meter, Reader

_BLOCK_BYTES = 1024
_MAX_KEPT_BYTES = 32 << 20


class BlockReader(Reader):
    """Content in blocks of 1 KiB, kept up to 32 MiB; only what is fetched counts on the inner reader's meter."""

    def __init__(self, inner: Reader) -> None:
        super().__init__(inner.size, where=inner.where, meter=Meter(inner.meter))
        self._inner = inner
        self._blocks: dict[int, bytes] = {}

    def _fetch(self, offset: int, length: int) -> bytes:
        first, last = offset // _BLOCK_BYTES, (offset + length - 1) // _BLOCK_BYTES
        if (len(self._blocks) + last - first) * _BLOCK_BYTES > _MAX_KEPT_BYTES:
            return self._inner.read_exactly(offset, length)
        self._fill(first, last)
        data = b"".join(self._blocks[number] for number in range(first, last + 1))
        start = offset - first * _BLOCK_BYTES
        return data[start : start + length]

    def _fill(self, first: int, last: int) -> None:
        """Fetch the blocks that are missing, neighbours in one read."""
        number = first
        while number <= last:
            if number in self._blocks:
                number += 1
                continue
            end = number
            while end < last and end + 1 not in self._blocks:
                end += 1
            start = number * _BLOCK_BYTES
            data = self._inner.read_exactly(start, min((end + 1) * _BLOCK_BYTES, self.size) - start)
            for i in range(number, end + 1):
                cut = (i - number) * _BLOCK_BYTES
                self._blocks[i] = data[cut : cut + _BLOCK_BYTES]
            number = end + 1

    def close(self) -> None:
        """Close the content and forget the blocks."""
        self._blocks.clear()
        self._inner.close()
