"""ONNX's operators in torch: a table of signatures, one function a row, by family."""

from __future__ import annotations

import functools
import importlib

from regraft.deployment.convert.operators.interface import Row

_FAMILIES = (
    "elementwise",
    "shapes",
    "indexing",
    "reductions",
    "matrices",
    "convolution",
    "normalisation",
    "recurrent",
    "resize",
    "quantisation",
)


@functools.cache
def rows() -> dict[tuple[str, str], tuple[Row, ...]]:
    """(domain, operator) → its rows; torch is imported by this."""
    table: dict[tuple[str, str], list[Row]] = {}
    for name in _FAMILIES:
        for row in importlib.import_module(f"{__name__}.{name}").FAMILY.rows:
            table.setdefault((row.domain, row.name), []).append(row)
    return {key: tuple(found) for key, found in table.items()}
