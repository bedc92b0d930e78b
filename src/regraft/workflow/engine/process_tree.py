"""A process and its descendants: what they use, and how to end them. Reads /proc; elsewhere nothing is known.

The guardian imports this module without packages around it: the standard library must do.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_PROC = Path("/proc")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")


class TreeUsage(NamedTuple):
    """What a process tree uses now: CPU seconds so far (ended children that were waited for included), memory."""

    cpu_s: float
    memory_bytes: int
    processes: int


def tree_usage(root: int) -> TreeUsage | None:
    """CPU and resident memory of a process and its descendants; None where there is no /proc, or no process.

    Pages that several processes share count once for each; see `proportional_memory`.
    """
    cpu, memory, count = 0.0, 0, 0
    for pid in tree(root):
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = _stat(pid)
            cpu += sum(int(field) for field in fields[11:15]) / _TICKS
            memory += int(fields[21]) * _PAGE
            count += 1
    return TreeUsage(cpu, memory, count) if count else None


def proportional_memory(root: int) -> int | None:
    """Memory of a process tree in bytes, a page that n processes share counting 1/n in each; slower to ask."""
    total, is_known = 0, False
    for pid in tree(root):
        with contextlib.suppress(OSError, ValueError):
            for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) << 10
                    is_known = True
    return total if is_known else None


def tree(root: int) -> Iterator[int]:
    """A process and its descendants, parents first."""
    waiting, seen = [root], {root}
    by_parent: dict[int, list[int]] | None = None
    while waiting:
        pid = waiting.pop(0)
        yield pid
        children = _children(pid)
        if children is None:
            by_parent = _by_parent() if by_parent is None else by_parent
            children = by_parent.get(pid, [])
        waiting += [child for child in children if child not in seen]
        seen.update(children)


def kill_descendants(root: int) -> None:
    """Kill every descendant of a process, not the process itself."""
    for pid in [*tree(root)][1:]:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def kill_tree(root: int) -> None:
    """Kill a process, its descendants, and its process group when it leads one; the caller reaps it.

    Every one of them is stopped first, so that none can start another while the list is walked.
    """
    members = [root]
    for _ in range(8):
        for pid in members:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGSTOP)
        found = [*tree(root)]
        if len(found) <= len(members):
            break
        members = found
    with contextlib.suppress(OSError):
        os.killpg(root, signal.SIGKILL)
    for pid in members:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the third on: state, ppid, …; the command may hold anything."""
    text = (_PROC / str(pid) / "stat").read_text()
    return text[text.rindex(")") + 2 :].split()


def _children(pid: int) -> list[int] | None:
    """Children of all threads of a process; None where the kernel keeps no such list."""
    found: list[int] = []
    try:
        for thread in (_PROC / str(pid) / "task").iterdir():
            with contextlib.suppress(ProcessLookupError):
                found += [int(word) for word in (thread / "children").read_text().split()]
    except FileNotFoundError:
        return [] if not (_PROC / str(pid)).exists() else None
    except OSError:
        return []
    return found


def _by_parent() -> dict[int, list[int]]:
    children: dict[int, list[int]] = {}
    if not _PROC.is_dir():
        return children
    for entry in _PROC.iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError, ValueError, IndexError):
                children.setdefault(int(_stat(int(entry.name))[1]), []).append(int(entry.name))
    return children
