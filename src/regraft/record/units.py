"""Units of measurements, and how a number in one unit reads in another."""

from __future__ import annotations

import math

_DIMENSIONS: dict[str, dict[str, float]] = {
    "time": {
        "ns": 1e-9,
        "us": 1e-6,
        "µs": 1e-6,
        "ms": 1e-3,
        "s": 1.0,
        "min": 60.0,
        "h": 3600.0,
        "d": 86400.0,
    },
    "size": {
        "B": 1.0,
        "bytes": 1.0,
        "kB": 1e3,
        "MB": 1e6,
        "GB": 1e9,
        "TB": 1e12,
        "KiB": 2.0**10,
        "MiB": 2.0**20,
        "GiB": 2.0**30,
        "TiB": 2.0**40,
    },
    "rate of bytes": {"B/s": 1.0, "kB/s": 1e3, "MB/s": 1e6, "GB/s": 1e9, "MiB/s": 2.0**20, "GiB/s": 2.0**30},
    "energy": {"mJ": 1e-3, "J": 1.0, "kJ": 1e3, "Wh": 3600.0, "kWh": 3.6e6},
    "power": {"mW": 1e-3, "W": 1.0, "kW": 1e3},
    "ratio": {"": 1.0, "1": 1.0, "ratio": 1.0, "%": 1e-2},
    "count": dict.fromkeys(
        ("count", "files", "members", "parameters", "tensors", "decisions", "elements", "passes", "rows", "labels"), 1.0
    ),
    "work": {"FLOP": 1.0, "MFLOP": 1e6, "GFLOP": 1e9, "TFLOP": 1e12},
    "rate of work": {"FLOP/s": 1.0, "GFLOP/s": 1e9, "TFLOP/s": 1e12},
    "rate of samples": {"samples/s": 1.0, "items/s": 1.0},
    "rate of tokens": {"tokens/s": 1.0},
    "points": {"points": 1.0},
    "noise floors": {"floors": 1.0, "noise floors": 1.0},
    "information": {"nats": 1.0, "bits": math.log(2)},
}
_UNITS = {unit: (dimension, factor) for dimension, units in _DIMENSIONS.items() for unit, factor in units.items()}

UNITS = tuple(_UNITS)
"""Every unit that a policy may use."""


def is_counted(unit: str) -> bool:
    """Whether a number in this unit is found by counting (bytes, decisions), so that it has no error of its own."""
    return _UNITS.get(unit, ("", 1.0))[0] in ("size", "count")


def convert(value: float, unit: str, *, to: str) -> float | None:
    """A value in another unit of the same dimension; None when there is no such conversion.

    A value in its own unit comes back unchanged, bit for bit, also where the unit is not known here. A bare number
    is a share as well as a count.
    """
    if unit == to:
        return value
    if unit not in _UNITS or to not in _UNITS:
        return None
    (dimension, factor), (wanted, divisor) = _UNITS[unit], _UNITS[to]
    if "" in (unit, to) and "count" in (dimension, wanted):
        return value
    return value * (factor / divisor) if dimension == wanted else None


def amount_text(value: float, unit: str) -> str:
    """A quantity as people write it: `120 MB` rather than 1.2e+08 bytes, other units as they are."""
    if unit in ("bytes", "B"):
        for name in ("GB", "MB", "kB"):
            if abs(value) >= _DIMENSIONS["size"][name]:
                return f"{value / _DIMENSIONS['size'][name]:.3g} {name}"
    return f"{value:.4g} {unit}".rstrip()
