"""The family of engines: where steps run. One module a member."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from regraft.errors import UsageError
from regraft.workflow.engine.interface import Engine

_MEMBERS: dict[str, str] = {
    "local": "local:LocalEngine",
}
"""Scheme → `module:Class`; the class takes what follows `://` and the folders that user code is imported from."""


def open_engine(name: str = "local", *, import_from: Sequence[str] = ()) -> Engine:
    """An engine by the name that a user gives it (`--engine`).

    Args:
        name: `local`, or a scheme and an address.
        import_from: folders in which modules of the user's own are looked up, after everything else.
    Raises:
        UsageError: there is no such engine.
    """
    scheme, _, address = name.partition("://")
    if scheme not in _MEMBERS:
        raise UsageError(f"there is no engine {name!r}", hint="there are: " + ", ".join(_MEMBERS))
    module, member = _MEMBERS[scheme].split(":")
    engine: Engine = getattr(importlib.import_module(f"{__name__}.{module}"), member)(address, import_from=import_from)
    return engine
