"""The command line. `--version` answers before anything is imported: start-up time is a feature."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of the `regraft` command."""
    if sys.argv[1:] == ["--version"]:
        from regraft.version import __version__

        sys.stdout.write(f"regraft {__version__}\n")
        return
    try:
        from regraft.cli.app import run

        status = run(sys.argv[1:])
    except KeyboardInterrupt:  # while the modules above are imported
        sys.stderr.write("interrupted\n")
        status = 130
    sys.exit(status)
