"""A signal ends what Python computes at once, and what a library computes after a while."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

_PROGRAM = """
import hashlib, sys, threading
from regraft.cli.interruption import listen
listen(patience_s=0.3)
try:  # a loop must not be the first in it: Python 3.11 does not count its jump back as within
    threading.Timer(0.3, print, ["ready"], {{"flush": True}}).start()
    {busy}
except KeyboardInterrupt:
    sys.exit(7)
"""
_IN_PYTHON = "while True: sum(range(1000))"
_IN_A_LIBRARY = "hashlib.pbkdf2_hmac('sha256', b'a', b'b', 2**31 - 1)"


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("busy", "status"), [(_IN_PYTHON, 7), (_IN_A_LIBRARY, 130)])
def test_a_signal_ends_it_wherever_it_computes(busy: str, status: int, sent: signal.Signals) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM.format(busy=busy)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "ready\n"
    child.send_signal(sent)
    _, said = child.communicate(timeout=60)
    assert child.returncode == status
    assert ("did not give way" in said) == (status == 130)


def test_an_ignored_signal_stays_ignored() -> None:
    program = (
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "from regraft.cli.interruption import listen; listen()\n"
        "print(signal.getsignal(signal.SIGTERM) == signal.SIG_IGN)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


def test_a_handler_of_somebody_else_has_all_the_time_that_it_wants() -> None:
    program = (
        "import signal, time\n"
        "from regraft.cli.interruption import listen; listen(patience_s=0.1)\n"
        "signal.signal(signal.SIGTERM, lambda *_: None)\n"
        "signal.raise_signal(signal.SIGTERM); time.sleep(0.5); print('alive')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "alive\n"
