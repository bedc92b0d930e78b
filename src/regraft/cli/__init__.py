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
        _stop_as_by_ctrl_c()
        from regraft.cli.app import run

        status = run(sys.argv[1:])
        _leave_in_peace()
    except KeyboardInterrupt:  # while the modules above are imported
        sys.stderr.write("interrupted\n")
        status = 130
        _leave_in_peace()
    sys.exit(status)


def _stop_as_by_ctrl_c() -> None:
    """SIGTERM, as a scheduler or `timeout` sends it, takes the way of Ctrl-C: what is half made is removed."""
    import signal
    import threading

    # who started this with SIGTERM ignored wants it ignored
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def _leave_in_peace() -> None:
    """All is said: a signal while the interpreter shuts down, which takes a tenth of a second, changes no status."""
    import signal
    import threading

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
