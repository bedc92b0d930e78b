"""Why a converter cannot work here: what is not installed, not made, or not this machine's."""

from __future__ import annotations

import importlib.util

from regraft.runtime.environments import has_environment


def missing(*modules: str, extra: str) -> str:
    """The first of these top-level modules that is not installed, with the command that installs it; else empty.

    Nothing is imported.
    """
    for module in modules:
        if importlib.util.find_spec(module) is None:
            return f"{module} is not installed: pip install 'regraft[{extra}]'"
    return ""


def unmade(environment: str) -> str:
    """That the environment was not made yet, with the command that makes it; empty when it was."""
    if has_environment(environment):
        return ""
    return f"the environment {environment} was not made: regraft doctor --environment {environment}"
