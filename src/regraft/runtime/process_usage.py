"""CPU time and memory of a process, this one or another, as the kernel counts them."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path

_SCHEDULED = 2
"""Linux's number of the clock that counts what was really run."""


def cpu_s(pid: int) -> float | None:
    """CPU time of all threads of another process since it was started, in seconds.

    Returns:
        None where there is no such process, or the system does not tell it of others.
    Source: Linux, clock_getcpuclockid(3): the clock of a process is its complemented number, shifted by three bits.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            return time.clock_gettime((~pid << 3) | _SCHEDULED)
    return None


def peak_mib(pid: int | None = None) -> float | None:
    """Largest resident memory of a process so far, in MiB.

    On Linux `getrusage` is no substitute: a child inherits the peak of the process that started it.

    Args:
        pid: of another process; None for this one.
    Returns:
        None where there is no such process, or the system does not tell it of others.
    """
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid or 'self'}/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return _own_peak_mib() if pid is None else None


def _own_peak_mib() -> float:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20) if sys.platform == "darwin" else peak / 1024
