"""Whether a process is confined is what it did itself, not what holds for it."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from regraft.runtime import seccomp
from regraft.runtime.launch import started_by_lasting_thread


@pytest.mark.skipif(not seccomp.is_available(), reason="this kernel has no filters that are known here")
def test_a_filter_of_somebody_else_is_no_sandbox():
    """As in a container or a service of systemd."""
    program = (
        "from regraft.runtime import seccomp\n"
        "from regraft.runtime.launch import is_confined\n"
        "seccomp.forbid_new_privileges()\n"
        "seccomp.install([seccomp.answer(seccomp.ALLOW)])\n"
        "print([line for line in open('/proc/self/status') if line.startswith('Seccomp:')][0].split(), is_confined())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "['Seccomp:', '2'] False\n"


def test_a_program_that_is_not_there_is_told_where_it_was_asked_for():
    threads = threading.active_count()
    with pytest.raises(FileNotFoundError):
        started_by_lasting_thread(lambda: subprocess.Popen(["/nowhere"]))
    assert threading.active_count() <= threads + 1  # it may not have ended yet


def test_the_thread_that_started_a_process_stays_until_it_is_let_go():
    process, is_over = started_by_lasting_thread(lambda: subprocess.Popen([sys.executable, "-c", ""]))
    process.wait()
    assert "regraft-worker" in {thread.name for thread in threading.enumerate()}
    is_over.set()
    for thread in threading.enumerate():
        if thread.name == "regraft-worker":
            thread.join(10)
            assert not thread.is_alive()
