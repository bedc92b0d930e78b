"""A benchmark side by side: speed next to error, as a table and as a picture."""

from __future__ import annotations

from typing import Any

import msgspec

from regraft.record.evidence import Evidence, Measurement
from regraft.report.figures import PALETTE, Figure, frame
from regraft.report.quantity import number_text
from regraft.report.text import visible

_WIDTH, _HEIGHT = 700, 300
_LOWEST = 1e-2
"""Where a model that is equal bit by bit is drawn, and the first, which is equal to itself."""
_SIZE = ("batch", "length")
_MODEL = ("package", "runtime", "precision", "threads")
_COLUMNS = ("p50", "p95", "CPU", "memory", "floors", "flips", "J/row", "predicted p50")


class SpeedRow(msgspec.Struct, frozen=True):
    """One model at one size of a pass.

    Attributes:
        name: what tells it from the other rows: package, runtime, precision, threads, where they differ.
        size: batch and length.
        found: measurement → what was measured for this row, or for its model.
    """

    name: str
    size: str
    found: dict[str, Measurement]

    @property
    def runtime(self) -> str:
        """That it ran in."""
        return str(self.found["latency_p50"].of.get("runtime", ""))


def speed_rows(evidence: Evidence) -> list[SpeedRow]:
    """The timed rows of a benchmark, in the order in which they were measured."""
    timed = [one for one in evidence.measurements if one.name == "latency_p50" and one.value is not None]
    differing = [key for key in _MODEL if len({one.of.get(key) for one in timed}) > 1] or ["runtime"]
    rows = []
    for one in timed:
        model = {key: one.of.get(key) for key in _MODEL}
        found = {
            other.name: other
            for other in evidence.measurements
            if all(other.of.get(key) == value for key, value in model.items())
            and all(key not in other.of or other.of[key] == one.of.get(key) for key in _SIZE)
        }
        name = " ".join(_said(key, one.of[key]) for key in differing if key in one.of)
        size = ", ".join(f"{key} {one.of[key]}" for key in _SIZE if key in one.of)
        rows.append(SpeedRow(name, size, found))
    return rows


def speed_table(evidence: Evidence) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Columns and rows; a column that is empty throughout is left out. Nothing for other evidence."""
    rows = speed_rows(evidence) if evidence.kind == "bench" else []
    cells = [(row.name, row.size.removeprefix("batch "), *_cells(row)) for row in rows]
    kept = [i for i in range(len(_COLUMNS) + 2) if any(line[i] for line in cells)]
    columns = ("model", "batch", *_COLUMNS)
    return tuple(columns[i] for i in kept), tuple(tuple(line[i] for i in kept) for line in cells)


def speed_figure(evidence: Evidence) -> Figure | None:
    """Median latency of each row against its error; None for other evidence, and where nothing was compared.

    Args:
        evidence: of kind `bench`.
    """
    rows = speed_rows(evidence) if evidence.kind == "bench" else []
    compared = [row for row in rows if "error_in_floors" in row.found]
    if not compared:
        return None
    limit = float(str(compared[0].found["error_in_floors"].of.get("benign_up_to", 0.0)) or 0.0)
    first = _first(rows, str(evidence.parameters.get("compared_with")))
    drawn = [row for row in rows if row in compared or row in first]
    values = _points(drawn)
    top = max([value["floors"] for value in values] + [limit]) * 3
    spec = frame(values)
    spec |= {"width": _WIDTH, "height": _HEIGHT}
    y = {
        "field": "floors", "type": "quantitative", "title": "error, in noise floors of the first",
        "scale": {"type": "log", "domain": [_LOWEST / 2, top], "nice": False}, "axis": {"format": "~g", "tickCount": 6},
    }  # fmt: skip
    slowest, fastest = max(value["high"] for value in values), min(value["low"] for value in values)
    x = {
        "field": "latency", "type": "quantitative", "title": "median latency of a pass, ms: to the left is faster",
        "scale": {"type": "log", "domain": [fastest * 0.8, slowest * 1.6], "nice": False}, "axis": {"format": "~g"},
    }  # fmt: skip
    kinds = list(dict.fromkeys(value["runtime"] for value in values))
    colour = {
        "field": "runtime", "type": "nominal", "title": None,
        "scale": {"domain": kinds, "range": [PALETTE[i % len(PALETTE)] for i in range(len(kinds))]},
    }  # fmt: skip
    spec["layer"] = [
        {
            "data": {"values": [{"low": _LOWEST / 2, "high": max(limit, _LOWEST)}]},
            "mark": {"type": "rect", "color": "var(--pass)", "opacity": 0.12},
            "encoding": {"y": {"field": "low", "type": "quantitative"}, "y2": {"field": "high"}},
        },
        {
            "mark": {"type": "rule", "strokeWidth": 2, "opacity": 0.6},
            "encoding": {"y": y, "x": {**x, "field": "low"}, "x2": {"field": "high"}, "color": colour},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 80, "opacity": 0.95},
            "encoding": {"y": y, "x": x, "color": colour},
        },
        *(
            {
                "transform": [{"filter": {"field": "side", "equal": side}}],
                "mark": {"type": "text", "align": "left", "dx": 8, "dy": dy, "fontSize": 10.5, "color": "currentColor"},
                "encoding": {"y": y, "x": x, "text": {"field": "row"}},
            }
            for side, dy in ((0, -8), (1, 12))
        ),
    ]
    columns, table = speed_table(evidence)
    return Figure(
        _title(compared, limit),
        "Each dot is one model at one size of a pass; the line through it is the interval of its median. Down is "
        "closer to the first model, which lies at the bottom. "
        f"In the band up to {limit:.3g} rounding explains the difference."
        + (" Rows that were not compared with the first stand in the table alone." if len(drawn) < len(rows) else ""),
        columns,
        table,
        spec,
    )


def _first(rows: list[SpeedRow], label: str) -> list[SpeedRow]:
    """Rows of the model that the others are compared with, on any number of threads."""

    def network(row: SpeedRow) -> tuple[object, ...]:
        of = row.found["latency_p50"].of
        return tuple(of.get(key) for key in ("package", "runtime", "precision"))

    named = [row for row in rows if f"{label}, ".startswith("{} in {}, ".format(*network(row)))]
    return [row for row in named if network(row) == network(named[0]) and "error_in_floors" not in row.found]


def _title(compared: list[SpeedRow], limit: float) -> str:
    beyond = sorted({row.name for row in compared if (row.found["error_in_floors"].value or 0.0) > limit})
    if not beyond:
        return "Speed next to error: rounding explains every difference from the first"
    return f"Speed next to error: {visible(', '.join(beyond))} answers otherwise than the first"


def _points(rows: list[SpeedRow]) -> list[dict[str, Any]]:
    """Names stand above and below the dots by turns: those of one error lie on one line."""
    has_sizes = len({row.size for row in rows}) > 1
    values = []
    for row in rows:
        latency, error = row.found["latency_p50"], row.found.get("error_in_floors")
        value = float(latency.value or 0.0)
        values.append(
            {
                "row": visible(f"{row.name}, {row.size}" if has_sizes else row.name),
                "runtime": visible(row.runtime),
                "latency": value,
                "low": value if latency.low is None else float(latency.low),
                "high": value if latency.high is None else float(latency.high),
                "floors": max(float(error.value or 0.0), _LOWEST) if error is not None else _LOWEST,
            }
        )
    for rank, point in enumerate(sorted(values, key=lambda one: (one["floors"], one["latency"]))):
        point["side"] = rank % 2
    return values


def _cells(row: SpeedRow) -> tuple[str, ...]:
    found = row.found
    latency, flips, memory = found["latency_p50"], found.get("decision_flips"), found.get("peak_memory")
    ends = [_digits(end) or "?" for end in (latency.low, latency.high)]
    return (
        f"{_digits(latency.value)} [{ends[0]}, {ends[1]}]",
        _value(found.get("latency_p95")),
        _value(found.get("cpu_time")),
        number_text(memory.value, memory.unit).rpartition("(")[2].rstrip(")") if memory is not None else "",
        _value(found.get("error_in_floors")),
        f"{flips.value} of {flips.n}" if flips is not None else "",
        _value(found.get("energy_per_row")),
        _value(found.get("predicted_latency_p50")),
    )


def _value(one: Measurement | None) -> str:
    return "" if one is None else _digits(one.value)


def _digits(value: float | int | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _said(key: str, value: object) -> str:
    return str(value) if key != "threads" else f"{value} thread" + ("" if value == 1 else "s")
