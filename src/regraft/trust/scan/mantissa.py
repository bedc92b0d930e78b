"""Do the low bytes of floating-point weights carry something else than what rounding leaves?

Malware is hidden in models by replacing the low bytes of weights, which hardly changes what the network computes:
the last three bytes of float32 (Wang et al., EvilModel, arXiv 2107.08590; EvilModel 2.0, arXiv 2109.04344: MSB
reservation, fast and half substitution), least significant bits or signs (Liu et al., StegoNet, ACSAC 2020). Two
properties that trained weights have are tested here, per block:

* **structure**: the low bytes of trained weights are uniform, or end in zero bits where the weights were rounded, and
  one does not tell the next. In programs and text they are neither: φ² = χ² / n of the odd bytes of distinct weights
  against the uniform distribution is large, and they compress further than their frequencies alone explain; or nearly
  all of them are printable. Tables that a formula made (positions, windows) repeat themselves smoothly and are left
  out.
* **flatness**: the highest byte of a float32 spans two binades, and the density of weights falls or rises within
  them. Where exponent bit and mantissa of every such byte are uniform, they were not trained: they are compressed or
  encrypted data.

What is encrypted and replaces two bytes of a float32 or less looks like what it replaces and cannot be told; nor can
spread-spectrum codes (MaleficNet, arXiv 2204.11206).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    import numpy as np

    from regraft.package.reader import Reader

    Words = np.ndarray[tuple[int, ...], np.dtype[np.unsignedinteger]]

WIDTHS = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}
"""Bytes of the types that are tested."""
BLOCK = 4096
"""Elements of a block that is tested for structure."""
WIDE_BLOCK = 65536
"""Elements of a block that is tested for flatness."""
_CHUNK = 1 << 20
LEAST = 2048
_LEAST_PHI2 = {"float64": 0.25, "float32": 0.25, "float16": 0.4, "bfloat16": 0.8}
"""Of 2,048 uniform odd bytes φ² is 0.062 ± 0.008; of text and programs it is 1 and more. In 16 bits the byte holds
more than noise, so that it is not flat by nature."""
_LOW_BYTES = {"float64": 5, "float32": 2, "float16": 1, "bfloat16": 1}
"""How many of the lowest bytes hold nothing but mantissa that training leaves flat, or nearly."""
_HIGH_BITS = {"float64": 15, "float32": 12, "bfloat16": 12}
"""Sign, exponent and three bits of mantissa."""
_LEAST_ORDER = 0.97
"""zlib leaves 1.00 to 1.03 of the entropy of bytes without order, and 0.75 to 0.95 of that of programs and text."""
_SMOOTH, _MAX_LAG = 0.8, 1024
"""Autocorrelation at some distance; of trained weights it stays below 0.4."""
_TEXT_SHARE, _TEXT_KINDS = 0.8, 16
_MAX_CELL_CHI2 = 45.0
"""χ² of 16 cells exceeds this by chance once in 10 000."""


class Trace(msgspec.Struct, frozen=True):
    """A tensor whose low bytes are not what rounding leaves.

    Attributes:
        kind: `structure` or `flatness`.
        blocks: how many of its blocks; `of` all that were tested.
        first: first element of the first such block.
        strongest: φ² of the strongest for `structure`, the largest χ² of 15 degrees of freedom for `flatness`.
    """

    kind: str
    blocks: int
    of: int
    first: int
    strongest: float


def traces_in(reader: Reader, dtype: str) -> Iterator[Trace]:
    """At most one trace of each kind in the elements of a tensor.

    Args:
        reader: the tensor's bytes, little-endian; dtype: one of `WIDTHS`.
    """
    structure = _Tally("structure", BLOCK)
    flatness = _Tally("flatness", WIDE_BLOCK)
    for start, words in _chunks(reader, dtype):
        for at, phi2 in _structured(words, dtype):
            structure.add(start + at, phi2)
        structure.tested += max(1, len(words) // BLOCK)
        if dtype != "float16":  # its low byte holds mantissa alone, which is nearly flat by nature
            for at in range(0, len(words), WIDE_BLOCK):
                block = words[at : at + WIDE_BLOCK]
                flatness.tested += 1
                chi2 = _flat(block, dtype)
                if chi2 is not None:
                    flatness.add(start + at, chi2)
    yield from (tally.trace() for tally in (structure, flatness) if tally.blocks)


class _Tally:
    def __init__(self, kind: str, size: int) -> None:
        self.kind, self.size = kind, size
        self.tested = self.blocks = self.first = 0
        self.strongest = 0.0

    def add(self, at: int, value: float) -> None:
        self.first = at if not self.blocks else self.first
        self.blocks += 1
        self.strongest = max(self.strongest, value)

    def trace(self) -> Trace:
        return Trace(self.kind, self.blocks, self.tested, self.first, round(self.strongest, 3))


def _chunks(reader: Reader, dtype: str) -> Iterator[tuple[int, Words]]:
    import numpy as np

    width = WIDTHS[dtype]
    count = reader.size // width
    if count < LEAST:
        return
    for start in range(0, count, _CHUNK):
        length = min(_CHUNK, count - start)
        if length >= LEAST:
            yield start, np.frombuffer(reader.read_exactly(start * width, length * width), f"<u{width}")


def _structured(words: Words, dtype: str) -> Iterator[tuple[int, float]]:
    """(first element, φ²) of the blocks in which a low byte is structured."""
    import numpy as np

    size = min(BLOCK, len(words))
    blocks = words[: len(words) // size * size].reshape(-1, size)  # (number, size)
    at = np.arange(len(blocks), dtype=np.int64)[:, None] << 8
    found: dict[int, float] = {}
    for shift in range(0, 8 * _LOW_BYTES[dtype], 8):
        plane = (blocks >> shift & 0xFF).astype(np.int64)
        counts = np.bincount((plane + at).ravel(), minlength=len(blocks) << 8).reshape(-1, 256)
        phi2s = _odd_phi2(counts)
        texts = _is_text(counts)
        for number in np.flatnonzero((phi2s > _LEAST_PHI2[dtype]) | texts):
            phi2 = float(phi2s[number]) if texts[number] else _of_distinct(blocks[number], shift, dtype)
            is_content = texts[number] or (phi2 > _LEAST_PHI2[dtype] and _has_order(blocks[number], dtype))
            if is_content and not _is_smooth(blocks[number], dtype):
                found[int(number) * size] = max(found.get(int(number) * size, 0.0), phi2)
    yield from sorted(found.items())


def _odd_phi2(counts: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> np.ndarray[tuple[int, ...], np.dtype[Any]]:
    """φ² of odd bytes against the uniform distribution, 0 where fewer than a quarter of all are odd.

    Weights that were rounded, all or some of them, have too many bytes that end in zero bits; the odd ones stay flat.
    """
    import numpy as np

    odd = counts[..., 1::2].astype(np.float64)  # (blocks, 128)
    total = odd.sum(axis=-1)
    enough = total >= counts.sum(axis=-1) / 4
    phi2: np.ndarray[tuple[int, ...], np.dtype[Any]] = (odd**2).sum(axis=-1) * 128 / np.maximum(total, 1) ** 2 - 1
    return np.where(enough, phi2, 0.0)


def _is_text(counts: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> np.ndarray[tuple[int, ...], np.dtype[Any]]:
    """Are nearly all the bytes of a block characters of text, of many kinds? By chance 38 % are."""
    printable = counts[..., 0x20:0x7F].sum(axis=-1) + counts[..., [9, 10, 13]].sum(axis=-1)
    kinds = (counts > 0).sum(axis=-1)
    are_texts: np.ndarray[tuple[int, ...], np.dtype[Any]] = (printable >= _TEXT_SHARE * counts.sum(axis=-1)) & (
        kinds >= _TEXT_KINDS
    )
    return are_texts


def _of_distinct(block: Words, shift: int, dtype: str) -> float:
    """φ² with each magnitude counted once: pruned, tied and quantised weights repeat, and so do their bytes."""
    import numpy as np

    if _LOW_BYTES[dtype] > 1:
        block = np.unique(block & ((1 << 8 * WIDTHS[dtype] - 1) - 1))
        if len(block) < LEAST:
            return 0.0
    counts = np.bincount((block >> shift & 0xFF).astype(np.int64), minlength=256)
    return float(_odd_phi2(counts))


def _has_order(block: Words, dtype: str) -> bool:
    """Do low bytes compress to less than their entropy?"""
    import zlib

    import numpy as np

    width = WIDTHS[dtype]
    low = np.ascontiguousarray(block).view(np.uint8).reshape(-1, width)
    count = _LOW_BYTES[dtype]
    streams = [low[:, at] for at in range(count)]
    if count > 1:
        streams += [low[:, :count], low[:, count - 1 :: -1]]
    for stream in streams:
        data = stream.tobytes()
        shares = np.bincount(np.frombuffer(data, np.uint8), minlength=256) / len(data)
        entropy_bits = -float((shares[shares > 0] * np.log2(shares[shares > 0])).sum())
        if len(zlib.compress(data)) * 8 < _LEAST_ORDER * entropy_bits * len(data):
            return True
    return False


def _is_smooth(block: Words, dtype: str) -> bool:
    """Does each value follow from one before it, beside it or a row above, as in tables that a formula made?"""
    import numpy as np

    bits = block.astype(np.uint32) << 16 if dtype == "bfloat16" else np.ascontiguousarray(block)
    values = bits.view(np.float32 if dtype == "bfloat16" else np.dtype(dtype)).astype(np.float64)
    values = np.where(np.isfinite(values), values, 0.0)
    values /= max(float(np.abs(values).max()), np.finfo(np.float64).tiny)  # squares stay finite
    values -= values.mean()
    spectrum = np.abs(np.fft.rfft(values, 2 * len(values))) ** 2  # padded: no wrap-around
    correlation = np.fft.irfft(spectrum)[: _MAX_LAG + 1]
    return correlation[0] == 0 or bool(correlation[1:].max() > _SMOOTH * correlation[0])


def _flat(words: Words, dtype: str) -> float | None:
    """The largest χ² over the frequent highest bytes, if all of them are flat; else None."""
    import numpy as np

    bits = _HIGH_BITS[dtype]
    high = 8 * WIDTHS[dtype] - bits
    counts = np.bincount((words >> high).astype(np.int64), minlength=1 << bits).reshape(-1, 16)
    totals = counts.sum(axis=1)
    frequent = counts[totals >= LEAST].astype(np.float64)
    if len(frequent) == 0 or frequent.sum() < 0.5 * len(words):
        return None
    expected = frequent.sum(axis=1, keepdims=True) / 16
    chi2 = ((frequent - expected) ** 2 / expected).sum(axis=1)
    return float(chi2.max()) if chi2.max() < _MAX_CELL_CHI2 else None
