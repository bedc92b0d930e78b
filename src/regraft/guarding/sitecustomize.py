"""Found by the interpreter at its start when this folder is on PYTHONPATH: guards the program, then makes way.

Without a guard the program does not start. Whatever `sitecustomize` the environment has itself is imported afterwards,
as it would have been.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

try:
    from regraft.workflow.guard import guard_from_environment

    guard_from_environment()
except BaseException as error:  # noqa: BLE001  whatever it is: there is no guard
    sys.stderr.write(
        f"regraft guard: not started, as {sys.executable} cannot be guarded: {error}\n"
        "  try: a Python that has regraft installed, in a version that regraft supports\n"
    )
    sys.stderr.flush()
    os._exit(2)  # site would report an exception, and go on without a guard
_HERE = str(Path(__file__).parent)
sys.path[:] = [entry for entry in sys.path if entry != _HERE]
_SELF = sys.modules.pop("sitecustomize", None)
try:
    importlib.import_module("sitecustomize")
except ModuleNotFoundError:
    if _SELF is not None:
        sys.modules["sitecustomize"] = _SELF  # there is no other
