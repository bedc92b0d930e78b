"""The pictures of a run's report: selection, learning curve, divergence by layer, latency next to error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from regraft.report.figures import PALETTE, Figure, frame, row_axis
from regraft.report.text import visible

_HEIGHT = 260
_NARROW = 640
"""Width of a figure with words at its right."""
_BESIDE: dict[str, Any] = {"x": {"value": "width"}}
"""Where words stand that belong to a row or a line, so that no dot and no line runs through them."""
_GAP = 9
_RULE = {"type": "rule", "strokeWidth": 2, "opacity": 0.75}


class Interval(msgspec.Struct, frozen=True):
    """One number with its interval, in a row and a group of a figure.

    Attributes:
        low, high: None where there is no interval.
        note: written beside it; right of the figure where a limit is drawn.
    """

    row: str
    group: str
    value: float
    low: float | None = None
    high: float | None = None
    note: str = ""


class Point(msgspec.Struct, frozen=True):
    """One number of a curve."""

    series: str
    x: float
    y: float
    low: float | None = None
    high: float | None = None


class Line(msgspec.Struct, frozen=True):
    """A limit that is drawn through a figure, with its name."""

    at: float
    label: str


def intervals(
    points: Sequence[Interval],
    *,
    title: str,
    caption: str,
    quantity: str,
    percent: bool = False,
    limit: Line | None = None,
    table: tuple[tuple[str, ...], tuple[tuple[str, ...], ...]],
) -> Figure:
    """Dots with intervals: a row for each thing, a colour for each way of measuring it.

    Args:
        percent: values are shares of one.
        limit: a vertical line.
        table: columns and rows of the numbers.
    """
    groups = list(dict.fromkeys(point.group for point in points))
    values: list[dict[str, Any]] = [
        {
            "row": visible(point.row, width=34), "group": visible(point.group), "value": point.value,
            "low": point.value if point.low is None else point.low,
            "high": point.value if point.high is None else point.high, "note": visible(point.note),
        }
        for point in points
    ]  # fmt: skip
    ends = [v[key] for v in values for key in ("low", "high")] + ([limit.at] if limit else [])
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    room = (high - low or abs(high) or 1.0) * 0.06
    notes = 1 if limit else 4  # notes beside the intervals need room at the right
    axis: dict[str, Any] = {"tickCount": 8} | ({"format": ".0%"} if percent else {})
    scale: dict[str, Any] = {"domain": [max(0.0, low - room), high + room * notes], "zero": False, "nice": False}
    if low > 0 and high > 10 * low:  # a linear axis would hide the small ones
        scale = {"type": "log", "domain": [low * 0.8, high * (1.2 if limit else 2.2)], "nice": False}
    x = {"field": "value", "type": "quantitative", "title": quantity, "axis": axis, "scale": scale}
    shared = {"y": row_axis(values), "color": _colour(groups)}
    if len(groups) > 1:
        shared["yOffset"] = {"field": "group", "type": "nominal", "sort": [visible(g) for g in groups]}
    spec = frame(values)
    spec["height"] = {"step": 14 + 13 * len(groups), "for": "position"}
    spec["layer"] = [
        {"mark": _RULE, "encoding": {**shared, "x": {**x, "field": "low"}, "x2": {"field": "high"}}},
        {"mark": {"type": "point", "filled": True, "size": 75, "opacity": 1}, "encoding": {**shared, "x": x}},
        {
            "mark": {"type": "text", "align": "left", "dx": _GAP, "fontSize": 10.5},
            "encoding": {
                **shared,
                **(_BESIDE if limit else {"x": {**x, "field": "high"}}),
                "text": {"field": "note"},
            },
        },
    ]
    if limit is not None:
        spec["width"] = _NARROW
        spec["layer"] += _vertical(limit)
    return Figure(title, caption, *table, spec)


def curves(
    points: Sequence[Point],
    *,
    title: str,
    caption: str,
    quantity: str,
    level: Line | None = None,
    reached: Line | None = None,
    table: tuple[tuple[str, ...], tuple[tuple[str, ...], ...]],
) -> Figure:
    """Shares over a logarithmic axis, with the range of each point as a band.

    Args:
        level: a horizontal line: what is to be reached.
        reached: a vertical line: where it is.
    """
    series = list(dict.fromkeys(point.series for point in points))
    values = [
        {"group": visible(p.series), "x": p.x, "y": p.y, "low": p.y if p.low is None else p.low,
         "high": p.y if p.high is None else p.high}
        for p in points
    ]  # fmt: skip
    ticks = sorted({point.x for point in points})
    x = {
        "field": "x", "type": "quantitative", "title": quantity, "scale": {"type": "log", "nice": False},
        "axis": {"values": ticks, "format": ",d", "labelOverlap": True},
    }  # fmt: skip
    y = {"type": "quantitative", "title": None, "scale": {"zero": False}, "axis": {"format": ".0%"}}
    colour = _colour(series)
    spec = frame(values)
    spec["height"] = _HEIGHT
    spec["layer"] = [
        {
            "mark": {"type": "area", "opacity": 0.16},
            "encoding": {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}, "color": colour},
        },
        {
            "mark": {"type": "line", "point": {"size": 55, "filled": True}, "strokeWidth": 2.2},
            "encoding": {"x": x, "y": {**y, "field": "y"}, "color": colour},
        },
    ]
    if level is not None:
        spec["width"] = _NARROW
        spec["layer"] += _horizontal(level)
    if reached is not None:
        spec["layer"] += _vertical(reached)
    return Figure(title, caption, *table, spec)


def layers(
    points: Sequence[Point],
    *,
    title: str,
    caption: str,
    limits: Sequence[Line],
    table: tuple[tuple[str, ...], tuple[tuple[str, ...], ...]],
) -> Figure:
    """Ratios in the order of execution, on a logarithmic axis, with the lines that decide.

    Args:
        points: y > 0; those that are 0 (bitwise equal) are listed in the table and left out of the picture.
    """
    kept = [point for point in points if point.y > 0]
    series = list(dict.fromkeys(point.series for point in points))
    values = [{"group": visible(point.series), "x": point.x, "y": point.y} for point in kept]
    ends = [point.y for point in kept] + [line.at for line in limits if line.at > 0] or [1.0]
    scale = {"type": "log", "domain": [min(ends) * 0.6, max(ends) * 2.0], "nice": False}
    y = {
        "field": "y",
        "type": "quantitative",
        "title": "noise floors",
        "scale": scale,
        "axis": {"format": "~g", "tickCount": 5},
    }
    x = {
        "field": "x",
        "type": "quantitative",
        "title": "layer, in order of execution",
        "axis": {"tickMinStep": 1, "tickCount": 10},
    }
    spec = frame(values)
    spec["height"] = _HEIGHT
    encoding = {"x": x, "y": y, "color": _colour(series)}
    spec["layer"] = [{"mark": {"type": "point", "filled": True, "size": 42, "opacity": 0.85}, "encoding": encoding}]
    spec["width"] = _NARROW
    for line in limits:
        spec["layer"] += _horizontal(line)
    return Figure(title, caption, *table, spec)


def _colour(groups: Sequence[str]) -> dict[str, Any]:
    colours = [PALETTE[number % len(PALETTE)] for number in range(len(groups))]
    domain = [visible(group) for group in groups]
    return {"field": "group", "type": "nominal", "title": None, "scale": {"domain": domain, "range": colours}}


def _horizontal(line: Line) -> list[dict[str, Any]]:
    return _limit(line, "y", _BESIDE, {"align": "left", "baseline": "middle", "dx": _GAP})


def _vertical(line: Line) -> list[dict[str, Any]]:
    return _limit(line, "x", {"y": {"value": 0}}, {"align": "right", "baseline": "top", "dx": -5, "dy": 3})


def _limit(line: Line, axis: str, place: dict[str, Any], mark: dict[str, Any]) -> list[dict[str, Any]]:
    data = {"values": [{"at": line.at, "label": visible(line.label)}]}
    position = {axis: {"field": "at", "type": "quantitative"}}
    rule = {"type": "rule", "strokeDash": [5, 4], "color": "var(--muted)", "strokeWidth": 1.3}
    text = {"type": "text", "fontSize": 10.5, "color": "var(--muted)", **mark}
    return [
        {"data": data, "mark": rule, "encoding": position},
        {"data": data, "mark": text, "encoding": {**position, **place, "text": {"field": "label"}}},
    ]
