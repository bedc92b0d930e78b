"""The filter of a sandboxed process: which system calls the kernel answers. It holds until the process ends."""

from __future__ import annotations

import errno

from regraft.runtime.seccomp import (
    ALLOW,
    FAIL,
    Instruction,
    answer,
    argument,
    argument_in,
    argument_none_of,
    if_any_bit,
    if_number,
    preamble,
)
from regraft.trust.sandbox import syscalls

_CLONE_THREAD, _NEW_NAMESPACES = 0x00010000, 0x7E020000
_MAP_SHARED, _MAP_ANONYMOUS, _MAP_GROWSDOWN = 0x01, 0x20, 0x100
_TTY_INPUT_AND_SIGNALS = (0x5412, 0x541C, 0x8901, 0x8902)
"""TIOCSTI, TIOCLINUX, FIOSETOWN, SIOCSPGRP."""
_SIGNALS_BY_FILE = (8, 10, 15)
"""F_SETOWN, F_SETSIG, F_SETOWN_EX: who gets which signal when a file is ready."""
_HARMLESS_PRCTL = (2, 3, 15, 16, 21, 23, 29, 30, 39, 0x53564D41)
"""PR_GET_PDEATHSIG, GET_DUMPABLE, SET_NAME, GET_NAME, GET_SECCOMP, CAPBSET_READ, SET_TIMERSLACK, GET_TIMERSLACK,
GET_NO_NEW_PRIVS, SET_VMA (names of areas of memory). Not PR_SET_PDEATHSIG: the process ends with its parent."""


def filter_program(pid: int) -> list[Instruction]:
    """The filter for a process.

    Args:
        pid: of the process itself, which alone it may send signals to.
    """
    program = preamble()
    for number in syscalls.ALLOWED.values():
        program += if_number(number, [answer(ALLOW)])
    program += if_number(syscalls.MMAP, _counted_memory())
    program += if_number(syscalls.CLONE, _threads_only())
    for number in (syscalls.KILL, syscalls.TGKILL):
        program += if_number(number, argument_in(0, [pid]))
    program += if_number(syscalls.PRLIMIT64, argument_in(0, [0, pid]))
    program += if_number(syscalls.PRCTL, argument_in(0, _HARMLESS_PRCTL))
    program += if_number(syscalls.IOCTL, argument_none_of(1, _TTY_INPUT_AND_SIGNALS))
    program += if_number(syscalls.FCNTL, argument_none_of(1, _SIGNALS_BY_FILE))
    for number in syscalls.REFUSED.values():
        program += if_number(number, [answer(FAIL | errno.EPERM)])
    return [*program, answer(FAIL | errno.ENOSYS)]


def _threads_only() -> list[Instruction]:
    """clone: of this process, and in its namespaces."""
    return [
        argument(0), if_any_bit(_CLONE_THREAD, 0, 2), if_any_bit(_NEW_NAMESPACES, 1, 0),
        answer(ALLOW), answer(FAIL | errno.EPERM),
    ]  # fmt: skip


def _counted_memory() -> list[Instruction]:
    """mmap: RLIMIT_DATA counts neither memory that is shared and anonymous nor what grows down as a stack does."""
    return [
        argument(3), if_any_bit(_MAP_GROWSDOWN, 3, 0), if_any_bit(_MAP_SHARED, 0, 1), if_any_bit(_MAP_ANONYMOUS, 1, 0),
        answer(ALLOW), answer(FAIL | errno.EPERM),
    ]  # fmt: skip
