"""A seccomp filter: which system calls the kernel answers. Once installed it holds for the process until it ends.

Source: Linux, Documentation/userspace-api/seccomp_filter.rst and include/uapi/linux/{seccomp,filter,audit}.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterable, Sequence

from regraft.trust.sandbox import syscalls

MACHINE = "x86_64"
"""The only one whose numbers are known here."""
_AUDIT_ARCH_X86_64 = 0xC000003E
_X32_BIT = 0x40000000
_LOAD, _JUMP_EQUAL, _JUMP_LEAST, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _FAIL = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER_AT, _ARCH_AT, _ARGUMENTS_AT = 0, 4, 16
_SECCOMP, _PRCTL_GET = 317, 21
_SET_MODE_FILTER, _TO_ALL_THREADS = 1, 1
_CLONE_THREAD, _NEW_NAMESPACES = 0x00010000, 0x7E020000
_MAP_SHARED, _MAP_ANONYMOUS = 0x01, 0x20
_TTY_INPUT_AND_SIGNALS = (0x5412, 0x541C, 0x8901, 0x8902)
"""TIOCSTI, TIOCLINUX, FIOSETOWN, SIOCSPGRP."""
_SIGNALS_BY_FILE = (8, 10, 15)
"""F_SETOWN, F_SETSIG, F_SETOWN_EX: who gets which signal when a file is ready."""

Instruction = tuple[int, int, int, int]
"""(code, jump if true, jump if false, value)."""


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def is_available() -> bool:
    """Can this kernel filter system calls, and do we know their numbers on this machine?"""
    if platform.machine() != MACHINE or os.name != "posix":
        return False
    return bool(ctypes.CDLL(None).prctl(_PRCTL_GET, 0, 0, 0, 0) >= 0)


def filter_program(pid: int) -> list[Instruction]:
    """The filter for a process.

    Args:
        pid: of the process itself, which alone it may send signals to.
    """
    program = [
        _load(_ARCH_AT), (_JUMP_EQUAL, 1, 0, _AUDIT_ARCH_X86_64), _answer(_KILL),
        _load(_NUMBER_AT), (_JUMP_LEAST, 0, 1, _X32_BIT), _answer(_FAIL | errno.ENOSYS),
    ]  # fmt: skip
    for number in syscalls.ALLOWED.values():
        program += _if_number(number, [_answer(_ALLOW)])
    program += _if_number(syscalls.MMAP, _shared_memory())
    program += _if_number(syscalls.CLONE, _threads_only())
    for number in (syscalls.KILL, syscalls.TGKILL):
        program += _if_number(number, _first_argument_in([pid]))
    program += _if_number(syscalls.PRLIMIT64, _first_argument_in([0, pid]))
    program += _if_number(syscalls.IOCTL, _second_argument_none_of(_TTY_INPUT_AND_SIGNALS))
    program += _if_number(syscalls.FCNTL, _second_argument_none_of(_SIGNALS_BY_FILE))
    for number in syscalls.REFUSED.values():
        program += _if_number(number, [_answer(_FAIL | errno.EPERM)])
    return [*program, _answer(_FAIL | errno.ENOSYS)]


def install(program: Sequence[Instruction]) -> None:
    """Put a filter into force in all threads of this process. It needs `no_new_privs` first.

    Raises:
        OSError: the kernel refuses it.
    """
    code = b"".join(struct.pack("<HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    wanted = _Program(len(program), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(_SECCOMP, _SET_MODE_FILTER, _TO_ALL_THREADS, ctypes.byref(wanted)) != 0:
        raise OSError(ctypes.get_errno(), "seccomp: " + os.strerror(ctypes.get_errno()))


def _load(at: int) -> Instruction:
    return (_LOAD, 0, 0, at)


def _argument(index: int) -> Instruction:
    """The low half of an argument, on a little-endian machine."""
    return _load(_ARGUMENTS_AT + 8 * index)


def _answer(value: int) -> Instruction:
    return (_RETURN, 0, 0, value)


def _if_number(number: int, then: Sequence[Instruction]) -> list[Instruction]:
    """`then` must end in an answer: after it the loaded value may be another."""
    return [(_JUMP_EQUAL, 0, len(then), number), *then]


def _threads_only() -> list[Instruction]:
    """clone: of this process, and in its namespaces."""
    return [
        _argument(0), (_JUMP_ANY_BIT, 0, 2, _CLONE_THREAD), (_JUMP_ANY_BIT, 1, 0, _NEW_NAMESPACES),
        _answer(_ALLOW), _answer(_FAIL | errno.EPERM),
    ]  # fmt: skip


def _shared_memory() -> list[Instruction]:
    """mmap: anonymous memory is private, or the limit on memory would not count it."""
    return [
        _argument(3), (_JUMP_ANY_BIT, 0, 1, _MAP_SHARED), (_JUMP_ANY_BIT, 1, 0, _MAP_ANONYMOUS),
        _answer(_ALLOW), _answer(_FAIL | errno.EPERM),
    ]  # fmt: skip


def _first_argument_in(values: Iterable[int]) -> list[Instruction]:
    tests: list[Instruction] = [_argument(0)]
    for value in values:
        tests += [(_JUMP_EQUAL, 0, 1, value), _answer(_ALLOW)]
    return [*tests, _answer(_FAIL | errno.EPERM)]


def _second_argument_none_of(values: Iterable[int]) -> list[Instruction]:
    tests: list[Instruction] = [_argument(1)]
    for value in values:
        tests += [(_JUMP_EQUAL, 0, 1, value), _answer(_FAIL | errno.EPERM)]
    return [*tests, _answer(_ALLOW)]
