"""What tests let workers do: good steps, and every way to go wrong."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from regraft.errors import Damaged
from regraft.progress import progress
from regraft.record.digest import digest_bytes
from regraft.record.evidence import Draft, Evidence, Finding, Severity, Subject
from regraft.workflow.engine.patience import make_as_deployed


def good(name: str = "thing", **said: Any) -> Evidence:
    """Evidence about a thing of that name; what else was passed is told as text."""
    draft = Draft("inspect", parameters={key: repr(value) for key, value in said.items()})
    draft.subject.append(Subject(name, digest_bytes(name.encode())))
    draft.measure("pid", os.getpid(), "1")
    return draft.finish(outcome="described", summary=name)


def environment_of_children(is_measured: bool) -> Evidence:
    """What a program that the step starts finds in its environment."""
    if is_measured:
        make_as_deployed(os.environ)
    child = [sys.executable, "-c", "import os; print(os.environ.get('OMP_WAIT_POLICY'))"]
    said = subprocess.run(child, capture_output=True, text=True, check=True).stdout.strip()
    return good("environment", policy=said)


def judged(name: str, severity: str) -> Evidence:
    draft = Draft("scan")
    draft.subject.append(Subject(name, digest_bytes(name.encode())))
    draft.find(Finding("RGS-TST-001", Severity(severity), f"{name} is {severity}"))
    return draft.finish(outcome="judged", summary=f"{name} is {severity}")


def several(names: list[str]) -> list[Evidence]:
    return [good(name) for name in names]


def nothing_at_all() -> list[Evidence]:
    return []


def chatty() -> Evidence:
    print("to stdout", flush=True)
    print("to stderr", file=sys.stderr, flush=True)
    subprocess.run(["echo", "from a child"], check=True)
    return good()


def endless_chatter(size: int) -> Evidence:
    for _ in range(size >> 16):
        sys.stdout.write("x" * 65535 + "\n")
        sys.stdout.flush()
        time.sleep(0.002)
    time.sleep(0.5)
    print("the end", flush=True)
    return good()


def announced(pieces: int) -> Evidence:
    with progress("weighing", total=pieces, unit="files") as advance:
        for _ in range(pieces):
            time.sleep(0.03)
            advance(1)
    return good()


def refuse() -> Evidence:
    raise Damaged("the header is torn", where="a.bin", hint="get another")


def blunder() -> Evidence:
    raise ZeroDivisionError("one over none")


def leave() -> Evidence:
    sys.exit(7)


def vanish() -> Evidence:
    os._exit(7)


def no_evidence() -> str:
    return "what evidence?"


def segfault() -> Evidence:
    ctypes.string_at(0)
    return good()


def abort() -> Evidence:
    os.abort()


def killed_from_outside() -> Evidence:
    os.kill(os.getpid(), signal.SIGKILL)
    return good()


def hang() -> Evidence:
    time.sleep(1000)
    return good()


def hang_with_children(pids: str) -> Evidence:
    """Start a child in a session of its own and a grandchild, write down who they are, and hang."""
    code = "import os, sys, time; p = os.fork(); open(sys.argv[1], 'a').write(f'{os.getpid()}\\n'); time.sleep(1000)"
    subprocess.Popen([sys.executable, "-c", code, pids], start_new_session=True)
    with Path(pids).open("a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(1000)
    return good()


def hang_deaf() -> Evidence:
    """Hang where no Python signal handler would run, and SIGTERM is ignored."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pattern = "a" * 64
    import re

    re.match(r"(a|a)*b", pattern)
    return good()


def eat(megabytes: int, seconds: float = 30.0) -> Evidence:
    held = []
    for _ in range(megabytes):
        held.append(b"\1" * (1 << 20))
        time.sleep(0.002)
    time.sleep(seconds)
    return good(str(len(held)))


def eat_in_child(megabytes: int) -> Evidence:
    code = f"import time; x = [b'1' * (1 << 20) for _ in range({megabytes})]; time.sleep(30)"
    subprocess.run([sys.executable, "-c", code], check=True)
    return good()


def reserve(gigabytes: int) -> Evidence:
    """Address space that is not used costs nothing."""
    import mmap

    with mmap.mmap(-1, gigabytes << 30):
        return good()


def spin(seconds: float) -> Evidence:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    return good()


def nap(seconds: float, name: str = "thing") -> Evidence:
    time.sleep(seconds)
    return good(name)


def fill_the_store(store: Any, size: int) -> Evidence:
    store.put_blob(b"x" * (1 << 16) for _ in range(size >> 16))
    return good()
