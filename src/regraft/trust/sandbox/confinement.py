"""What a process does to itself before it runs code of a stranger; there is no way back."""

from __future__ import annotations

import ctypes
import os
import resource
import struct
import sys

import msgspec

from regraft.trust.sandbox import landlock, seccomp

_SET_NO_NEW_PRIVS = 38
_CAPABILITIES_VERSION_3 = 0x20080522
_CAPSET = 126
_MAX_THREADS = 4096
_MAX_OPEN_FILES = 1024


class Confinement(msgspec.Struct, frozen=True):
    """What a process keeps.

    Attributes:
        readable: files and folders.
        writable: folders.
        devices: files to read and write.
        cpu_s: processor time, after which it is killed.
        memory_bytes: of private memory; more is not given.
        file_bytes: size of one file that it writes.
    """

    readable: tuple[str, ...]
    writable: tuple[str, ...]
    devices: tuple[str, ...] = ("/dev/null",)
    cpu_s: int = 3600
    memory_bytes: int = 8 << 30
    file_bytes: int = 1 << 30


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
    """Confine this process for the rest of its life. It must have one thread only.

    Raises:
        OSError: a part of it is refused; the process must end then.
    """
    _limit(confinement)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no_new_privs")
    _drop_capabilities(libc)
    landlock.restrict(readable=confinement.readable, writable=confinement.writable, devices=confinement.devices)
    seccomp.install(seccomp.filter_program(os.getpid()))


def _limit(confinement: Confinement) -> None:
    """RLIMIT_DATA counts what is private and written, which is all that the filter lets anonymous memory be."""
    for which, value in (
        (resource.RLIMIT_CPU, confinement.cpu_s),
        (resource.RLIMIT_DATA, confinement.memory_bytes),
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
