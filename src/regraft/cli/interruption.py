"""Ctrl-C and SIGTERM: what is half made is removed, and a library that does not give way is not waited for."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType
from typing import NoReturn

PATIENCE_S = 10.0
"""How long a call into a library may keep Python from hearing a signal: a pass of a large network, no loop for ever."""
_STATUS = 130
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def listen(*, patience_s: float = PATIENCE_S) -> None:
    """Let SIGTERM, as a scheduler or `timeout` sends it, take the way of Ctrl-C, and end the process if none is taken.

    Python hears of a signal between two of its own instructions. A network that loops for ever inside of a runtime has
    none, so that a thread listens, too, which the runtime leaves a processor to.

    Args:
        patience_s: seconds from a signal to the end of a process that has not heard it.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    heard = threading.Event()

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        heard.set()
        raise KeyboardInterrupt

    for number in _SIGNALS:  # who started this with one ignored wants it ignored
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, interrupt)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)

    def is_ours(number: int) -> bool:  # whoever put a handler of its own in place answers for it
        return number in _SIGNALS and signal.getsignal(number) is interrupt

    def watch() -> None:
        while not is_ours(os.read(reading, 1)[0]):
            pass
        if not heard.wait(patience_s):
            sys.stderr.write("interrupted while a library computed, which did not give way; what was half made stays\n")
            sys.stderr.flush()
            os._exit(_STATUS)

    threading.Thread(target=watch, daemon=True, name="interruption").start()


def leave_in_peace() -> None:
    """All is said: a signal while the interpreter shuts down, which takes a tenth of a second, changes no status."""
    if threading.current_thread() is threading.main_thread():
        signal.set_wakeup_fd(-1)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
