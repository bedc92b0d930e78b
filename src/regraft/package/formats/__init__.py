"""The family of file formats. `recognise` asks the members in order; the first that matches is the format."""

from __future__ import annotations

import functools
import importlib

from regraft.package.formats.interface import Description, Format, Loading, Port, Probe, Problem, Role, Tensor

_MEMBERS: tuple[str, ...] = (
    # Exact magic numbers first, then containers by what is in them, then text by its structure, plain text last.
)
"""`module:Class` of every format, most specific first."""


@functools.cache
def formats() -> tuple[Format, ...]:
    """One instance of every member, in the order of recognition."""
    members = []
    for spec in _MEMBERS:
        module, name = spec.split(":")
        members.append(getattr(importlib.import_module(f"{__name__}.{module}"), name)())
    return tuple(members)


def recognise(probe: Probe) -> Format | None:
    """The format of a file by its content; None when no member knows it."""
    return next((member for member in formats() if member.matches(probe)), None)


__all__ = [
    "Description",
    "Format",
    "Loading",
    "Port",
    "Probe",
    "Problem",
    "Role",
    "Tensor",
    "formats",
    "recognise",
]
