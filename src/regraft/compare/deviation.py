"""How far one tensor is from another: streamed statistics whose size does not grow with the tensor."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from regraft.runtime.interface import Array

BLOCK_ELEMENTS = 1 << 20
"""Elements that are widened to float64 at a time."""
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
    rows, channels = by_channel(measured), by_channel(exact)  # (N, C)
    sums = _Sums(channels.shape[1])
    step = max(1, BLOCK_ELEMENTS // max(1, channels.shape[1]))
    for start in range(0, len(channels), step):
        sums.add(rows[start : start + step], channels[start : start + step])
    return sums.result()


class _Sums:
    """Accumulators over blocks of rows."""

    def __init__(self, channels: int) -> None:
        import numpy as np

        self._n = self._incomparable = 0
        self._squares = self._scale_squares = 0.0
        self._peaks = np.zeros(channels)
        self._scale_peaks = np.zeros(channels)
        self._low, self._high = math.inf, -math.inf

    def add(self, measured: NDArray[np.generic], exact: NDArray[np.generic]) -> None:
        import numpy as np

        ours, truth = measured.astype(np.float64), exact.astype(np.float64)  # (n, C)
        usable = np.isfinite(ours) & np.isfinite(truth) & (np.abs(truth) < HUGE)
        if not usable.all():
            self._incomparable += _incomparable(ours, truth)
            ours, truth = np.where(usable, ours, 0.0), np.where(usable, truth, 0.0)
        error = np.abs(ours - truth)
        size = np.abs(truth)
        self._n += int(usable.sum())
        self._squares += float(np.square(error).sum())
        self._scale_squares += float(np.square(size).sum())
        np.maximum(self._peaks, error.max(axis=0, initial=0.0), out=self._peaks)
        np.maximum(self._scale_peaks, size.max(axis=0, initial=0.0), out=self._scale_peaks)
        self._low = min(self._low, float(truth.min(initial=math.inf)))
        self._high = max(self._high, float(truth.max(initial=-math.inf)))

    def result(self) -> Deviation:
        n = max(1, self._n)
        return Deviation(
            self._n,
            math.sqrt(self._squares / n),
            tuple(self._peaks.tolist()),
            math.sqrt(self._scale_squares / n),
            tuple(self._scale_peaks.tolist()),
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


def by_channel(value: Array) -> Array:
    """(elements of a channel, channels): axis 1 of images and signals, the last axis of all others.

    Channels with few elements are taken together: one column.
    """
    if value.ndim < 2:
        return value.reshape(-1, 1)
    axis = 1 if value.ndim >= 4 else value.ndim - 1
    channels = value.shape[axis]
    if channels == 0 or channels > MAX_CHANNELS or value.size // channels < MIN_CHANNEL_ELEMENTS:
        return value.reshape(-1, 1)
    import numpy as np

    return np.moveaxis(value, axis, -1).reshape(-1, channels)
