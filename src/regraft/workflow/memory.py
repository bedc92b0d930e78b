"""How much memory this machine gives us."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_SHARE = 0.85
_CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def memory_bound() -> int | None:
    """Bytes that one step may use when the plan does not say: most of what the machine or the container has."""
    known = [total for total in (_physical(), *map(_cgroup, _CGROUPS)) if total is not None]
    return int(min(known) * _SHARE) if known else None


def _physical() -> int | None:
    with contextlib.suppress(OSError, ValueError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return None


def _cgroup(path: str) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        return int(Path(path).read_text(encoding="ascii"))
    return None
