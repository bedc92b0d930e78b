"""The command as a stranger runs it: a process of its own, with its exit status, its words, its memory and its time."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

REGRAFT = (sys.executable, "-m", "regraft")
MAX_CPU_S = 20
MAX_RSS_BYTES = 1 << 30
# The child is measured by a small process of its own: what a large one forks inherits its memory's high-water mark.
_MEASURE = """
import json, os, sys
pid = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
_, status, used = os.wait4(pid, 0)
with open(sys.argv[1], "w") as report:
    json.dump([os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, used.ru_maxrss * 1024], report)
"""
_INVISIBLE = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")


@dataclass(frozen=True)
class Ended:
    """A command that ended, and the store that it wrote to."""

    code: int
    stdout: str
    stderr: str
    cpu_s: float
    rss_bytes: int
    store: Path

    @property
    def record(self) -> dict[str, Any]:
        """What `--json` printed."""
        found: dict[str, Any] = json.loads(self.stdout)
        return found

    def assert_told(self, *codes: int) -> None:
        """One message, no traceback, an exit status of the contract, bounded cost, a whole store, a clean terminal."""
        cost = f"{self.cpu_s:.1f} s, {self.rss_bytes >> 20} MiB"
        said = f"exit {self.code}, {cost}\n{self.stdout[-600:]}\n{self.stderr[-900:]}"
        assert self.code in codes, said
        assert "Traceback" not in self.stdout + self.stderr, said
        assert "a fault in regraft" not in self.stderr, said
        assert len(self.stderr.splitlines()) <= 3, said
        if self.code == 2:
            assert self.stderr.startswith("error: "), said
        assert self.cpu_s < MAX_CPU_S, said
        assert self.rss_bytes < MAX_RSS_BYTES, said
        shown = _INVISIBLE.search(self.stdout + self.stderr)
        assert shown is None, f"{shown and shown.string[max(0, shown.start() - 80) : shown.end() + 40]!r}\n{said}"
        assert_whole(self.store)


def assert_whole(store: Path, *, was_killed: bool = False) -> None:
    """Every file of a store is what its name says, and nobody left half a file behind who could still clean up."""
    for area, suffix in (("evidence", ".json"), ("blobs", "")):
        folder = store / area / "sha256"
        for path in folder.rglob("*") if folder.exists() else ():
            if path.is_file() and not (was_killed and path.name.startswith(".tmp-")):
                assert path.name == hashlib.sha256(path.read_bytes()).hexdigest() + suffix, path


@pytest.fixture
def store_is_whole() -> Callable[..., None]:
    """`assert_whole`, for tests that start processes of their own."""
    return assert_whole


@pytest.fixture
def command() -> Sequence[str]:
    """The command without its arguments."""
    return REGRAFT


@pytest.fixture
def regraft(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Ended]:
    """Run `regraft`; `under` is a command in front of it (setpriv, prlimit, sh), `env` is added to the environment."""
    workplace = tmp_path_factory.mktemp("runs")
    own_store = workplace / "store"

    def run(
        *arguments: object,
        under: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        store: Path | None = None,
        timeout_s: float = 120,
        cwd: Path | None = None,
    ) -> Ended:
        report, out, err = workplace / "used.json", workplace / "stdout", workplace / "stderr"
        report.unlink(missing_ok=True)
        where = store or own_store
        words = [os.fspath(a) if isinstance(a, os.PathLike) else str(a) for a in arguments]
        line = [sys.executable, "-S", "-E", "-c", _MEASURE, str(report), *under, *REGRAFT, *words]
        environment = {**os.environ, "REGRAFT_STORE": str(where), "NO_COLOR": "1", **(env or {})}
        with out.open("wb") as stdout, err.open("wb") as stderr:
            child = subprocess.Popen(
                line, stdout=stdout, stderr=stderr, env=environment, cwd=cwd, start_new_session=True
            )
            try:
                child.wait(timeout_s)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()
                pytest.fail(f"still running after {timeout_s} s: {words}\n{err.read_text(errors='replace')[-500:]}")
        code, cpu_s, rss_bytes = json.loads(report.read_text())
        return Ended(code, _text(out), _text(err), cpu_s, rss_bytes, where)

    return run


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8")


@pytest.fixture
def names_in() -> Callable[[Path], Collection[str]]:
    """Every file below a folder, by its relative path."""
    return lambda folder: sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
