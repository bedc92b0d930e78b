"""Kinds of faults that converters really have: one module a family, each fault a function on a graph and a node."""

from __future__ import annotations

from benchmarks.mutations.faults import (
    activations,
    attention,
    control,
    integers,
    layout,
    normalisation,
    quantised,
    recurrent,
    spatial,
    structure,
    weights,
)
from benchmarks.mutations.faults.interface import Kind

_FAMILIES = (
    normalisation,
    activations,
    spatial,
    weights,
    layout,
    integers,
    quantised,
    recurrent,
    attention,
    structure,
    control,
)

KINDS: dict[str, Kind] = {kind.name: kind for module in _FAMILIES for kind in module.family.kinds}
"""Every kind by its name."""
