"""The command line. `--version` answers before anything is imported: start-up time is a feature."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of the `regraft` command."""
    if sys.argv[1:] == ["--version"]:
        from regraft.version import __version__

        sys.stdout.write(f"regraft {__version__}\n")
        return
    from regraft.cli.interruption import leave_in_peace, listen

    try:
        listen()
        from regraft.cli.app import run

        status = run(sys.argv[1:])
        leave_in_peace()
    except KeyboardInterrupt:  # while the modules above are imported
        sys.stderr.write("interrupted\n")
        status = 130
        leave_in_peace()
    sys.exit(status)
