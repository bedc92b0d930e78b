"""Outlives its parent by an instant: kills the process groups that it was told of once its stdin ends.

A parent that is killed with SIGKILL cannot end its workers, nor they their children. Run as a program of its
own, with the standard library alone: `+1234` on stdin guards the group 1234, `-1234` lets go of it.
"""

import contextlib
import os
import signal
import sys


def main() -> None:
    """Listen until stdin ends, then kill."""
    groups: set[int] = set()
    for line in sys.stdin:
        (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
    for group in groups:
        with contextlib.suppress(OSError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
