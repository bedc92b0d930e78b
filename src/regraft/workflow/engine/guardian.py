"""Outlives its parent by an instant: kills the processes that it was told of, with all their descendants.

A parent that is killed with SIGKILL cannot end its workers, nor they their children, which may lead sessions of
their own. Run as a program, with the standard library alone: `+1234` on stdin guards the process 1234, `-1234`
lets go of it; when stdin ends, so do they.
"""

import sys
from pathlib import Path


def main() -> None:
    """Listen until stdin ends, then kill."""
    sys.path.append(str(Path(__file__).parent))
    from process_tree import kill_tree  # type: ignore[import-not-found]

    guarded: set[int] = set()
    for line in sys.stdin:
        (guarded.add if line[0] == "+" else guarded.discard)(int(line[1:]))
    for process in guarded:
        kill_tree(process)


if __name__ == "__main__":
    main()
