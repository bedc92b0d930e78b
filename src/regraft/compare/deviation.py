"""How far one tensor is from another: streamed statistics whose size does not grow with the tensor."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from regraft.runtime.interface import Array

BLOCK_ELEMENTS = 1 << 15
"""Elements that are widened to float64 at a time: operands and results of a block stay in a core's cache."""
_UNSHARED = 1 << 13
"""Elements of a scalar product that OpenBLAS computes on one thread: up to 10,000."""
MIN_CHANNEL_ELEMENTS = 32
"""A channel with fewer elements than this says little about its own maximum; such channels are taken together."""
MAX_CHANNELS = 1 << 16
HUGE = 1e30
"""Values beyond this are masks (the lowest float, to be added to attention scores), not results."""


class Deviation(msgspec.Struct, frozen=True):
    """What is kept of the difference between a tensor and the exact one.

    Attributes:
        n: elements compared.
        rms: root mean square of the difference, in the tensor's unit.
        peaks: largest absolute difference, by channel; one entry where channels are taken together.
        scale_rms: root mean square of the exact tensor.
        scale_peaks: largest absolute value of the exact tensor, by channel as `peaks`.
        low, high: range of the exact tensor; equal when it says nothing.
        flips: integer or boolean elements that differ.
        incomparable: elements where one is finite and the other is not.
    """

    n: int
    rms: float
    peaks: tuple[float, ...]
    scale_rms: float
    scale_peaks: tuple[float, ...]
    low: float
    high: float
    flips: int = 0
    incomparable: int = 0

    @property
    def peak(self) -> float:
        """Largest absolute difference over all channels."""
        return max(self.peaks, default=0.0)

    @property
    def relative(self) -> float:
        """RMS difference per RMS of the exact tensor; 0 where that is zero."""
        return self.rms / self.scale_rms if self.scale_rms > 0 else 0.0


def deviation(measured: Array, exact: Array) -> Deviation:
    """The difference of a tensor from the exact one.

    Args:
        measured: any shape; floating, integer or boolean.
        exact: the same shape. Floating tensors are compared in float64, others element by element.
    Returns:
        statistics over all elements; masks (beyond 1e30) and values that are infinite in both are left out.
    Raises:
        ValueError: the shapes differ.
    """
    if measured.shape != exact.shape:
        raise ValueError(f"shapes {measured.shape} and {exact.shape} cannot be compared")
    if exact.dtype.kind != "f":
        return _discrete(measured, exact)
    ours, truth, channels = channel_rows(measured, exact)
    sums = _Sums(channels)
    step = max(1, BLOCK_ELEMENTS // max(1, truth.shape[1]))
    for start in range(0, len(truth), step):
        sums.add(ours[start : start + step], truth[start : start + step])
    return sums.result()


class _Sums:
    """Accumulators over blocks of rows.

    Args:
        channels: None where a row holds one number of each channel; else rows are channels, `channels` of them in turn.
    """

    def __init__(self, channels: int | None) -> None:
        self._channels = channels
        self._n = self._incomparable = 0
        self._squares = self._scale_squares = 0.0
        self._peaks: list[Any] = []
        self._scale_peaks: list[Any] = []
        self._low, self._high = math.inf, -math.inf

    def add(self, measured: NDArray[np.generic], exact: NDArray[np.generic]) -> None:
        import numpy as np

        truth = exact.astype(np.float64)  # (n, columns)
        with np.errstate(invalid="ignore", over="ignore"):
            error = np.subtract(measured, truth, dtype=np.float64)
        size = np.abs(truth)
        largest = float(size.max(initial=0.0))
        squares = square_sum(error)
        used = truth.size
        if not (largest < HUGE and math.isfinite(squares)):
            ours = measured.astype(np.float64)
            usable = np.isfinite(ours) & np.isfinite(truth) & (size < HUGE)
            self._incomparable += _incomparable(ours, truth)
            used = int(usable.sum())
            truth, size = np.where(usable, truth, 0.0), np.where(usable, size, 0.0)
            error = np.where(usable, error, 0.0)
            squares = square_sum(error)
        np.abs(error, out=error)
        self._n += used
        self._squares += squares
        self._scale_squares += square_sum(size)
        self._note(self._peaks, error)
        self._note(self._scale_peaks, size)
        self._low = min(self._low, float(truth.min(initial=math.inf)))
        self._high = max(self._high, float(truth.max(initial=-math.inf)))

    def _note(self, peaks: list[Any], block: NDArray[np.float64]) -> None:
        """Keep the largest of each row, or of each column over all blocks."""
        import numpy as np

        if self._channels is not None:
            peaks.append(block.max(axis=1, initial=0.0))
            return
        highest = block.max(axis=0, initial=0.0)
        peaks[:] = [np.maximum(peaks[0], highest) if peaks else highest]

    def _largest(self, peaks: list[Any]) -> tuple[float, ...]:
        import numpy as np

        if self._channels is not None and peaks:
            return tuple(np.concatenate(peaks).reshape(-1, self._channels).max(axis=0).tolist())
        return tuple(peaks[0].tolist()) if peaks else (0.0,)

    def result(self) -> Deviation:
        n = max(1, self._n)
        return Deviation(
            self._n,
            math.sqrt(self._squares / n),
            self._largest(self._peaks),
            math.sqrt(self._scale_squares / n),
            self._largest(self._scale_peaks),
            self._low if self._n else 0.0,
            self._high if self._n else 0.0,
            incomparable=self._incomparable,
        )


def smallest_cosine(measured: Array, exact: Array) -> float | None:
    """The smallest cosine between rows: along the last axis, of tensors with at least two numbers there.

    Args:
        measured, exact: same shape (..., D); floating.
    Returns:
        in [-1, 1]; None for integers, for D < 2, and where a row of either is zero or not finite throughout.
    """
    import numpy as np

    if exact.dtype.kind != "f" or not exact.ndim or exact.shape[-1] < 2 or not exact.size:
        return None
    ours, truth = (value.astype(np.float64).reshape(-1, exact.shape[-1]) for value in (measured, exact))
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(truth, axis=1)
    usable = np.isfinite(lengths) & (lengths > 0)
    if not usable.any():
        return None
    return float(((ours * truth).sum(axis=1)[usable] / lengths[usable]).min().clip(-1.0, 1.0))


def _incomparable(ours: NDArray[np.float64], truth: NDArray[np.float64]) -> int:
    """Elements that are finite in one only, infinite with another sign, or NaN in one only."""
    import numpy as np

    masked = np.abs(truth) >= HUGE  # includes infinity: lowest float32 and lowest float64 mean the same
    agree = np.where(
        masked, (np.abs(ours) >= HUGE) & (np.sign(ours) == np.sign(truth)), np.isnan(ours) == np.isnan(truth)
    )
    agree &= masked | ~np.isinf(ours)
    return int((~agree).sum())


def _discrete(measured: Array, exact: Array) -> Deviation:
    import numpy as np

    flips = int(np.count_nonzero(measured != exact))
    low, high = (float(exact.min()), float(exact.max())) if exact.size and exact.dtype.kind in "iub" else (0.0, 0.0)
    return Deviation(int(exact.size), 0.0, (), 0.0, (), low, high, flips=flips)


def square_sum(block: NDArray[np.floating[Any]]) -> float:
    """Sum of the squares of a contiguous block, on this thread alone.

    BLAS shares longer products between threads, which costs milliseconds each where other processes are busy.
    """
    import numpy as np

    flat = block.reshape(-1)
    total = 0.0
    with np.errstate(over="ignore", invalid="ignore"):  # infinite is what it is then
        for start in range(0, flat.size, _UNSHARED):
            part = flat[start : start + _UNSHARED]
            total += float(np.dot(part, part))
    return total


def channel_rows(value: Array, like: Array) -> tuple[Array, Array, int | None]:
    """Two arrays of one shape as rows, so that the largest number of each channel is found without a copy.

    Channels are axis 1 of images and signals, the last axis of all others. Channels with few elements are taken
    together.

    Returns:
        both arrays, and None where a row has one number of each channel (one column: all channels are taken
        together); else each row belongs to one channel, and the channels come round in turn.
    """
    shape = value.shape
    if value.ndim >= 2:
        is_image = value.ndim >= 4
        channels = shape[1 if is_image else -1]
        if 0 < channels <= MAX_CHANNELS and value.size // channels >= MIN_CHANNEL_ELEMENTS:
            rows = (shape[0] * channels, -1) if is_image else (-1, channels)
            return value.reshape(rows), like.reshape(rows), channels if is_image else None
    return value.reshape(-1, 1), like.reshape(-1, 1), None
