"""Numbers as people read them: sizes in decimal units, counts with their magnitude, shares, times."""

from __future__ import annotations

_BYTES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
_COUNTS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


def bytes_text(count: float) -> str:
    """A size in bytes with three significant digits: `90.9 MB`."""
    return _scaled(count, _BYTES) or f"{count:,.0f} B"


def count_text(count: float) -> str:
    """A count with three significant digits: `22.7 M`; below a thousand exactly."""
    return _scaled(count, _COUNTS) or f"{count:,.0f}"


def share_text(part: float, whole: float) -> str:
    """A part of a whole in percent, never rounded to 0 % or 100 % when it is neither."""
    if whole <= 0:
        return "—"
    percent = 100 * part / whole
    if 0 < percent < 0.01:
        return "< 0.01 %"
    if 99.95 <= percent < 100:
        return "> 99.9 %"
    return f"{percent:.2f} %" if percent < 1 else f"{percent:.1f} %" if percent < 99.95 else f"{percent:.0f} %"


def seconds_text(seconds: float) -> str:
    """A duration: `41 ms`, `2.3 s`, `5 min 10 s`, `2 h 5 min`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def digits_text(value: float | int) -> str:
    """A measured number with three significant digits, zeros at its end included: `11.0`; counts as they are."""
    if isinstance(value, int) or value == 0:
        return f"{value:,.0f}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.3g}".rstrip(".")


def number_text(value: float | int | None, unit: str) -> str:
    """A measured value in its unit; an unknown one says so."""
    if value is None:
        return "unknown"
    if unit in ("byte", "bytes"):
        return f"{value:,.0f} bytes ({bytes_text(value)})" if value >= 1000 else f"{value:,.0f} bytes"
    unit = "" if unit in ("1", "files", "parameters") else unit
    if isinstance(value, int) or float(value).is_integer():
        return f"{int(value):,} {unit}".rstrip()
    return f"{value:.4g} {unit}".rstrip()


def _scaled(value: float, scales: tuple[tuple[float, str], ...]) -> str | None:
    for scale, unit in scales:
        if abs(value) >= scale:
            scaled = value / scale
            digits = 0 if abs(scaled) >= 99.95 else 1 if abs(scaled) >= 9.995 else 2
            return f"{scaled:.{digits}f} {unit}"
    return None
