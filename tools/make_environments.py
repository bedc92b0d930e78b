"""Make the environments of their own in which some runtimes and converters live. usage: make_environments.py [NAME …]

Without names those that the tests cannot do without; a larger one is made by its name, and its tests are skipped where
it was not. Idempotent: what was made is left alone.
"""

from __future__ import annotations

import sys
import time

from regraft.errors import RegraftError
from regraft.runtime.environments import has_environment, make_environment

_WANTED = ("tensorflow",)


def main() -> int:
    failed = 0
    for name in sys.argv[1:] or _WANTED:
        if has_environment(name):
            continue
        started = time.perf_counter()
        try:
            python = make_environment(name)
        except RegraftError as error:
            failed += 1
            print(f"FAIL {name}: {error}", file=sys.stderr)
        else:
            print(f"ok   {name}: {python.parents[1]} in {time.perf_counter() - started:.0f} s", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
