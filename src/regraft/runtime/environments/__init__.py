"""Other Python environments: where a runtime or a converter lives that cannot be installed beside the rest.

Each is a file `<name>.txt` of pinned requirements in this folder; `regraft doctor --environment NAME` makes it, once,
in the user's cache. What runs there is a process that is asked over a pipe (`runtime/isolated.py`) or over files
(`deployment/convert/foreign.py`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from regraft.errors import AccessDenied, MissingEnvironment, NetworkFailure, UsageError
from regraft.progress import progress
from regraft.record.digest import digest_bytes

_VARIABLE = "REGRAFT_CACHE"
_READY = ".ready"
_DIGITS = 12
_SAID = 600
_LINES = 20


def environments() -> tuple[str, ...]:
    """Names of all that can be made."""
    files = resources.files(__name__).iterdir()
    return tuple(sorted(file.name.removesuffix(".txt") for file in files if file.name.endswith(".txt")))


def environment_python(name: str, *, where: str = "") -> Path:
    """The interpreter of an environment that was made.

    Args:
        name: one of `environments()`.
        where: what needs it, for the error.
    Raises:
        UsageError: there is no environment of that name.
        MissingEnvironment: it was not made yet; the hint is the command that makes it.
    """
    folder = _folder(name)
    python = folder / "bin" / "python"
    if not ((folder / _READY).exists() and python.exists()):
        raise MissingEnvironment(name, where=where)
    return python


def has_environment(name: str) -> bool:
    """Was it made already?"""
    try:
        environment_python(name)
    except MissingEnvironment:
        return False
    return True


def make_environment(name: str) -> Path:
    """Make an environment, or find it made: a virtual environment with exactly the pinned requirements.

    Returns:
        its interpreter.
    Raises:
        UsageError: there is no environment of that name.
        NetworkFailure: pip could not install it; carries the end of what pip said.
        AccessDenied: the cache cannot be written.
    """
    folder = _folder(name)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder.with_suffix(".lock")):
            if not (folder / _READY).exists():
                shutil.rmtree(folder, ignore_errors=True)
                _install(name, folder)
                (folder / _READY).touch()
    except OSError as error:
        raise AccessDenied(
            f"the environment cannot be made: {error.strerror or error}",
            where=str(folder),
            hint=f"name another folder: {_VARIABLE}=DIR",
        ) from error
    return folder / "bin" / "python"


def _install(name: str, folder: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, capture_output=True)
    with resources.as_file(_requirements(name)) as pins:
        # --no-deps: the list is complete, and some of these packages declare what they do not need
        command = [str(folder / "bin" / "python"), "-m", "pip", "install", "--no-deps", "--progress-bar", "off"]
        status, said = _installed([*command, "-r", str(pins)], name, _count(pins.read_text()))
    if status:
        shutil.rmtree(folder, ignore_errors=True)
        words = " ".join(said.split())[-_SAID:]
        raise NetworkFailure(f"pip could not install it: {words}", where=f"environment {name}", hint="try again")


def _installed(command: list[str], name: str, count: int) -> tuple[int, str]:
    """Run pip and tell its progress, package by package. Returns its status and the end of what it said."""
    said: deque[str] = deque(maxlen=_LINES)
    with (
        progress(f"making the environment {name}", total=count, unit="packages") as advance,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as pip,
    ):
        assert pip.stdout is not None
        for line in pip.stdout:
            said.append(line)
            advance(line.startswith("Collecting"))
    return pip.returncode, "".join(said)


def _count(pins: str) -> int:
    return sum(bool(line.strip()) and not line.startswith("#") for line in pins.splitlines())


def _requirements(name: str) -> Traversable:
    if name not in environments():
        raise UsageError(f"there is no environment {name!r}", hint=f"there are: {', '.join(environments())}")
    return resources.files(__name__) / f"{name}.txt"


def _folder(name: str) -> Path:
    """Where it is: another list of requirements, or another Python, is another folder."""
    import platformdirs

    named = os.environ.get(_VARIABLE)
    root = Path(named).expanduser() if named else Path(platformdirs.user_cache_dir("regraft", appauthor=False))
    key = _requirements(name).read_bytes() + sys.version.encode()
    return root / "environments" / f"{name}-{digest_bytes(key)[:_DIGITS]}"


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process makes it; others wait."""
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
