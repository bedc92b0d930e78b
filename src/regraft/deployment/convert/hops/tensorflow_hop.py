"""Hops that a script makes in the environment `tensorflow`: what their converters share."""

from __future__ import annotations

from regraft.deployment.convert.foreign import run_script
from regraft.deployment.convert.interface import Hop, Source
from regraft.deployment.convert.obstacles import unmade

ENVIRONMENT = "tensorflow"
COST = 10


def obstacle() -> str:
    """The environment must have been made."""
    return unmade(ENVIRONMENT)


def hop(source: Source, script: str, runtime: str) -> Hop:
    """Convert a file in the environment.

    Args:
        source: its file's format is told to the script.
        script: name, as `run_script` takes it.
        runtime: that executes the result.
    Raises:
        What `run_script` raises.
    """
    kind = source.files.format_of(source.path) if source.files is not None else ""
    made = run_script(ENVIRONMENT, script, source, {"kind": kind})
    return Hop(made.files, runtime, made.notes, made.versions)
