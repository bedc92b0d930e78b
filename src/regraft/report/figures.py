"""Figures: data, words, and a Vega-Lite drawing that becomes inline SVG where the extra is installed."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import msgspec

from regraft.report.text import visible

INSTALL = "pip install 'regraft[report]'"
PALETTE = tuple(f"var(--c{n})" for n in range(1, 8))
"""Colours of groups, by the page's style: they differ in light and dark."""
_WIDTH = 760
_CHARACTER_PX = 6.6
"""Width of a label's character: the drawing is measured without the reader's font."""
_MAX_LABEL = 34


class Figure(msgspec.Struct, frozen=True):
    """A picture with its numbers.

    Attributes:
        title: what it shows, as a sentence that says the result where there is one.
        caption: how to read it.
        columns, rows: the numbers; the first column names the row.
        spec: Vega-Lite specification without the data's origin: it carries its values.
    """

    title: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    spec: dict[str, Any]


def svg(figure: Figure) -> str | None:
    """The drawing as SVG text; None when vl-convert-python is not installed or refuses the data."""
    try:
        import vl_convert
    except ImportError:
        return None
    try:
        drawn: str = vl_convert.vegalite_to_svg(json.dumps(_harmless(figure.spec)))
    except ValueError:
        return None
    return drawn


def _harmless(value: Any) -> Any:
    """The same structure with `visible` text: vl-convert 1.9 aborts the whole process on a control character."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, list):
        return [_harmless(item) for item in value]
    return {visible(key): _harmless(item) for key, item in value.items()} if isinstance(value, dict) else value


def dots(
    points: Sequence[tuple[str, float, str]],
    *,
    title: str,
    caption: str,
    quantity: str,
    group: str,
    labels: Sequence[str],
) -> Figure:
    """One dot for each (row, value, group) on a logarithmic axis.

    Args:
        points: value > 0; others are listed in the table and left out of the picture.
        labels: what the table shows for each point's value.
    """
    values = [{"row": _label(row), "value": value, "group": visible(kind)} for row, value, kind in points if value > 0]
    spec = frame(values)
    spec["layer"] = [
        {
            "mark": {"type": "point", "filled": True, "size": 95, "opacity": 0.9},
            "encoding": {
                "y": row_axis(values),
                "x": _log_axis(quantity, values),
                "color": _color(group, sorted({str(v["group"]) for v in values})),
            },
        }
    ]
    rows = tuple((row, kind, label) for (row, _, kind), label in zip(points, labels, strict=True))
    return Figure(title, caption, ("package", group, quantity), rows, spec)


def dumbbells(
    pairs: Sequence[tuple[str, float, float]],
    *,
    title: str,
    caption: str,
    low: str,
    high: str,
    quantity: str,
    labels: Sequence[tuple[str, str, str]],
) -> Figure:
    """Two dots and the line between them for each (row, low, high), on a logarithmic axis.

    Args:
        labels: what the table shows: low, high, and how they relate.
    """
    kept = [(row, a, b, label[2]) for (row, a, b), label in zip(pairs, labels, strict=True) if a > 0 and b > 0]
    values: list[dict[str, Any]] = []
    for row, a, b, share in kept:
        values.append({"row": _label(row), "value": a, "group": low, "share": share, "other": b})
        values.append({"row": _label(row), "value": b, "group": high, "share": "", "other": a})
    spec = frame(values)
    rows_axis = row_axis(values)
    spec["layer"] = [
        {
            "transform": [{"filter": {"field": "group", "equal": low}}],
            "mark": {"type": "rule", "strokeWidth": 2, "color": "var(--line-strong)"},
            "encoding": {"y": rows_axis, "x": _log_axis(quantity, values), "x2": {"field": "other"}},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 85, "opacity": 1},
            "encoding": {"y": rows_axis, "x": _log_axis(quantity, values), "color": _color(None, [low, high])},
        },
        {
            "transform": [{"filter": {"field": "group", "equal": low}}],
            "mark": {"type": "text", "align": "right", "dx": -9, "fontSize": 10.5, "color": "currentColor"},
            "encoding": {"y": rows_axis, "x": _log_axis(quantity, values), "text": {"field": "share"}},
        },
    ]
    rows = tuple((row, *label) for (row, _, _), label in zip(pairs, labels, strict=True))
    return Figure(title, caption, ("package", low, high, "share"), rows, spec)


def stacked_bars(
    counts: Sequence[tuple[str, str, int]],
    *,
    title: str,
    caption: str,
    quantity: str,
    group: str,
    order: Sequence[tuple[str, str]],
) -> Figure:
    """A bar for each row, stacked by group.

    Args:
        counts: (row, group, count).
        order: (group, CSS colour) from left to right.
    """
    ranks = {name: rank for rank, (name, _) in enumerate(order)}
    values = [
        {"row": _label(row), "value": count, "group": kind, "rank": ranks.get(kind, len(ranks))}
        for row, kind, count in counts
    ]
    spec = frame(values)
    used = [(name, colour) for name, colour in order if any(v["group"] == name and v["value"] for v in values)]
    spec["layer"] = [
        {
            "mark": {"type": "bar", "height": {"band": 0.62}},
            "encoding": {
                "y": row_axis(values),
                "x": {
                    "field": "value",
                    "type": "quantitative",
                    "title": quantity,
                    "axis": {"tickMinStep": 1, "format": "d"},
                },
                "color": {
                    "field": "group",
                    "type": "nominal",
                    "title": None,
                    "scale": {"domain": [name for name, _ in used], "range": [colour for _, colour in used]},
                },
                "order": {"field": "rank", "type": "quantitative"},
            },
        }
    ]
    rows = tuple((row, kind, str(count)) for row, kind, count in counts if count)
    return Figure(title, caption, ("package", group, quantity), rows, spec)


def frame(values: list[dict[str, Any]]) -> dict[str, Any]:
    """A specification with data, size and the page's colours, without marks."""
    text = {"labelColor": "currentColor", "titleColor": "currentColor", "labelFontSize": 11.5, "titleFontSize": 11.5}
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "data": {"values": values},
        "width": _WIDTH,
        "height": {"step": 24},
        "background": None,
        "config": {
            "font": "system-ui, -apple-system, 'Segoe UI', sans-serif",
            "view": {"stroke": None},
            "axis": {
                **text,
                "titleFontWeight": "normal",
                "domain": False,
                "tickColor": "var(--line)",
                "gridColor": "var(--line)",
                "labelLimit": 260,
            },
            "legend": {
                **text,
                "orient": "top",
                "columnPadding": 26,
                "symbolType": "circle",
                "titleFontWeight": "normal",
            },
        },
    }


def row_axis(values: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """An axis of named rows, in the order in which they come, with room for the longest name."""
    order = list(dict.fromkeys(str(value["row"]) for value in values))
    extent = round(_CHARACTER_PX * max(map(len, order), default=0)) + 12
    return {
        "field": "row",
        "type": "nominal",
        "title": None,
        "sort": order,
        "axis": {"grid": True, "ticks": False, "minExtent": extent, "labelPadding": 8},
    }


def _log_axis(title: str, values: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A logarithmic axis with one line a decade, and room at the left for the labels of dots."""
    numbers = [float(v["value"]) for v in values] or [1.0]
    low, high = min(numbers) * 0.42, max(numbers) * 1.3
    decades = [10**n for n in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)]
    axis: dict[str, Any] = {"format": "~s"}
    if len(decades) > 1:
        axis["values"] = decades
    scale = {"type": "log", "domain": [low, high], "nice": False}
    return {"field": "value", "type": "quantitative", "title": title, "scale": scale, "axis": axis}


def _color(title: str | None, domain: Sequence[str]) -> dict[str, Any]:
    colours = [PALETTE[i % len(PALETTE)] for i in range(len(domain))]
    return {"field": "group", "type": "nominal", "title": title, "scale": {"domain": list(domain), "range": colours}}


def _label(text: str) -> str:
    return visible(text, width=_MAX_LABEL)
