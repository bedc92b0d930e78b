"""The reference networks: one module an architecture, each with a function `references`."""

from __future__ import annotations

import importlib
from functools import cache

from benchmarks.mutations.interface import Reference

MEMBERS = (
    "resnet",
    "encoder",
    "minilm",
    "decoder",
    "depthwise",
    "recurrent",
    "control_flow",
    "detection",
    "integers",
)


@cache
def references() -> tuple[Reference, ...]:
    """All of them, small and hand-written ones as well as those with published weights.

    Exported ones are made once (about a minute) and kept under `build/mutations`; the real packages must be there.
    """
    return tuple(reference for member in MEMBERS for reference in members(member))


@cache
def members(module: str) -> tuple[Reference, ...]:
    """The networks of one module of `MEMBERS`."""
    found = importlib.import_module(f"benchmarks.mutations.architectures.{module}")
    return tuple(found.references())


def reference(name: str) -> Reference:
    """One network by its name; makes no more of them than needed.

    Raises:
        KeyError: there is none of that name.
    """
    for member in MEMBERS:
        for found in members(member):
            if found.name == name:
                return found
    raise KeyError(name)
