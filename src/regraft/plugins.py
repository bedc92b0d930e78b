"""Members that other distributions add through entry points. A broken one is left out, with its reason."""

from __future__ import annotations

from typing import Any

import msgspec

PARTS = {
    "regraft.runtimes": ("name", "can_load", "load"),
    "regraft.converters": ("name", "source", "target", "cost", "obstacle", "convert"),
}
"""Group of entry points → what an instance of the class that one names must have."""


class Plugin(msgspec.Struct, frozen=True):
    """One entry point of another distribution.

    Attributes:
        name: of the entry point.
        member: an instance of its class; None where there is none.
        reason: why not; empty where there is one.
    """

    name: str
    member: Any = None
    reason: str = ""


def load_plugins(group: str) -> tuple[Plugin, ...]:
    """Every plug-in of a group, loaded and called; nothing that goes wrong in one of them is raised.

    Args:
        group: one of `PARTS`.
    """
    from importlib.metadata import entry_points

    found = []
    for entry in entry_points(group=group):
        try:
            member = entry.load()()
            missing = [part for part in PARTS[group] if not hasattr(member, part)]
        except Exception as error:  # noqa: BLE001  a stranger's code; the reason is shown by `doctor`
            found.append(Plugin(entry.name, reason=f"{type(error).__name__}: {error}"))
        else:
            whole = Plugin(entry.name, member)
            found.append(Plugin(entry.name, reason=f"has no {missing[0]}") if missing else whole)
    return tuple(found)
