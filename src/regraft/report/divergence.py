"""The picture of a verification: tensors in order, their divergence, the noise band, and where it arises."""

from __future__ import annotations

from typing import Any

from regraft.record.evidence import Evidence, Measurement
from regraft.report.figures import Figure, frame
from regraft.report.text import visible

_HEIGHT = 280
_WIDTH = 700
_LOWEST = 1e-2
"""Where a tensor that is equal bit by bit is drawn: below everything that rounding does."""


def divergence_figure(evidence: Evidence) -> Figure | None:
    """Divergence of every paired tensor in noise floors, in the order of the reference.

    Args:
        evidence: of kind `verify`; of any other kind, or without layers, there is no figure.
    """
    found = [one for one in evidence.measurements if one.name == "layer_rms_ratio" and one.value is not None]
    if evidence.kind != "verify" or not found:
        return None
    origins = _origins(evidence)
    limit = _limit(evidence)
    values = [_point(one, origins) for one in found]
    spec = frame(values)
    spec |= {"width": _WIDTH, "height": _HEIGHT}
    top = max([value["ratio"] for value in values] + [limit]) * 3
    y = {
        "field": "ratio", "type": "quantitative", "title": "noise floors (RMS)",
        "scale": {"type": "log", "domain": [_LOWEST / 2, top], "nice": False},
        "axis": {"format": "~g", "tickCount": 6},
    }  # fmt: skip
    x = {
        "field": "order", "type": "quantitative", "title": "tensor, in the reference's order of execution",
        "axis": {"tickMinStep": 1, "tickCount": 10},
    }  # fmt: skip
    spec["layer"] = [
        _band(limit),
        {
            "mark": {"type": "point", "filled": True, "size": 40, "opacity": 0.85, "color": "var(--c1)"},
            "encoding": {"x": x, "y": y},
        },
        *_marks(values),
    ]
    return Figure(
        _title(evidence, origins, len(found)),
        "Each dot is one tensor: its deviation from float64, in units of the deviation that the reference's own "
        f"float32 run has there. The band up to {limit:.3g} is what benign conversions were measured to do at outputs. "
        "Errors propagate here as they do in use; the marked tensors are where they arise.",
        ("order", "tensor", "candidate", "operator", "module", "RMS, floors", "peak, floors"),
        tuple(_row(one) for one in found),
        spec,
    )


def _point(one: Measurement, origins: dict[str, str]) -> dict[str, Any]:
    name = str(one.of.get("layer", ""))
    order = one.of.get("order")
    return {
        "order": order if isinstance(order, int | float) else 0,
        "ratio": max(float(one.value or 0.0), _LOWEST),
        "origin": visible(origins.get(name, "")),
    }


def _row(one: Measurement) -> tuple[str, ...]:
    peak = one.of.get("peak_ratio")
    return (
        *(str(one.of.get(key, "")) for key in ("order", "layer", "candidate", "operator", "scope")),
        f"{one.value:.3g}",
        f"{peak:.3g}" if isinstance(peak, int | float) else "",
    )


def _origins(evidence: Evidence) -> dict[str, str]:
    """Tensor of the reference at the end of an origin → its cause."""
    return {
        str(finding.data.get("reference_tensor")): str(finding.data.get("cause") or "unknown cause")
        for finding in evidence.findings
        if finding.rule == "divergence.origin"
    }


def _limit(evidence: Evidence) -> float:
    limits = [one.of.get("benign_up_to") for one in evidence.measurements if one.name == "rms_ratio"]
    return next((float(at) for at in limits if isinstance(at, int | float)), 1.0)


def _band(limit: float) -> dict[str, Any]:
    return {
        "data": {"values": [{"low": _LOWEST / 2, "high": limit}]},
        "mark": {"type": "rect", "opacity": 0.13, "color": "var(--c3)"},
        "encoding": {"y": {"field": "low", "type": "quantitative"}, "y2": {"field": "high"}},
    }


def _marks(values: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A ring and the cause at each tensor where a divergence arises."""
    marked = [value for value in values if value["origin"]]
    if not marked:
        return []
    data = {"values": marked}
    place = {"x": {"field": "order", "type": "quantitative"}, "y": {"field": "ratio", "type": "quantitative"}}
    ring = {"type": "point", "filled": False, "size": 190, "strokeWidth": 2.4, "color": "var(--c2)"}
    word = {"type": "text", "align": "left", "dx": 12, "dy": -8, "fontSize": 12, "color": "currentColor"}
    return [
        {"data": data, "mark": ring, "encoding": place},
        {"data": data, "mark": word, "encoding": {**place, "text": {"field": "origin"}}},
    ]


def _title(evidence: Evidence, origins: dict[str, str], count: int) -> str:
    if origins:
        return f"It parts in {len(origins)} place{'s' if len(origins) > 1 else ''}: {', '.join(origins.values())}"
    return f"{count} tensors, {evidence.outcome}"
