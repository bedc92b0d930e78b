"""What a process does to itself before it runs code of a stranger; there is no way back."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import struct
import sys

import msgspec

from regraft.runtime import seccomp
from regraft.runtime.launch import note_confinement
from regraft.trust.sandbox import landlock
from regraft.trust.sandbox.seccomp import filter_program

_SET_PARENT_DEATH_SIGNAL = 1
_CAPABILITIES_VERSION_3 = 0x20080522
_CAPSET = 126
_MAX_THREADS = 4096
_MAX_OPEN_FILES = 1024
_STACK_BYTES = 8 << 20
"""Of the first thread; a stack is not counted as private memory."""


class Confinement(msgspec.Struct, frozen=True):
    """What a process keeps.

    Attributes:
        readable: files and folders.
        writable: folders.
        devices: files to read and write.
        cpu_s: processor time, after which it is killed.
        memory_bytes: of private memory; more is not given.
        file_bytes: size of one file that it writes.
        parent: process that it ends with; 0 for whichever started it.
    """

    readable: tuple[str, ...]
    writable: tuple[str, ...]
    devices: tuple[str, ...] = ("/dev/null",)
    cpu_s: int = 3600
    memory_bytes: int = 8 << 30
    file_bytes: int = 1 << 30
    parent: int = 0


def missing() -> list[str]:
    """What this machine lacks for a sandbox; nothing where code can be confined."""
    if not sys.platform.startswith("linux"):
        return [f"{sys.platform} has neither Landlock nor seccomp"]
    lacks = []
    version = landlock.abi()
    if version < landlock.LEAST_ABI:
        have = f"version {version}" if version else "none, or it is switched off at boot"
        lacks.append(f"Landlock of version {landlock.LEAST_ABI} (Linux 6.2); this kernel has {have}")
    if not seccomp.is_available():
        lacks.append(f"seccomp filters on {seccomp.MACHINE}; this is {os.uname().machine}")
    return lacks


def enter(confinement: Confinement) -> None:
    """Confine this process for the rest of its life, which ends with its parent's. It must have one thread only.

    Raises:
        OSError: a part of it is refused; the process must end then.
    """
    _limit(confinement)
    libc = ctypes.CDLL(None, use_errno=True)
    seccomp.forbid_new_privileges()
    _drop_capabilities(libc)
    _end_with_parent(libc, confinement.parent)
    landlock.restrict(readable=confinement.readable, writable=confinement.writable, devices=confinement.devices)
    seccomp.install(filter_program(os.getpid()))
    note_confinement()


def _limit(confinement: Confinement) -> None:
    """RLIMIT_DATA counts what is private and written, which is all that the filter lets anonymous memory be."""
    for which, value in (
        (resource.RLIMIT_CPU, confinement.cpu_s),
        (resource.RLIMIT_DATA, confinement.memory_bytes),
        (resource.RLIMIT_STACK, _STACK_BYTES),
        (resource.RLIMIT_FSIZE, confinement.file_bytes),
        (resource.RLIMIT_NPROC, _MAX_THREADS),
        (resource.RLIMIT_NOFILE, _MAX_OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        _, hard = resource.getrlimit(which)
        least = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (least, least))


def _drop_capabilities(libc: ctypes.CDLL) -> None:
    """Root without capabilities is a user like any other: neither limits nor permissions are lifted for it."""
    header = struct.pack("<Ii", _CAPABILITIES_VERSION_3, 0)
    if libc.syscall(_CAPSET, header, bytes(24)) != 0:
        raise OSError(ctypes.get_errno(), "capabilities")


def _end_with_parent(libc: ctypes.CDLL, parent: int) -> None:
    """By the kernel: code that has taken over the process could stop a thread of ours that looks for the parent."""
    if libc.prctl(_SET_PARENT_DEATH_SIGNAL, int(signal.SIGKILL), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "parent death signal")
    if parent and os.getppid() != parent:  # it ended before the signal was asked for
        raise OSError(errno.ESRCH, "who started it is gone")
