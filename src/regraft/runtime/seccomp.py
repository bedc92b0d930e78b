"""Filters of system calls: how one is written and put into force, and one that leaves a process no network.

Standard library alone, and nothing else of Regraft: it is also loaded by its path, in environments without either.
Source: Linux, Documentation/userspace-api/seccomp_filter.rst and include/uapi/linux/{seccomp,filter,audit}.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterable, Sequence

MACHINE = "x86_64"
"""The only one whose numbers are known here."""
ALLOW, FAIL = 0x7FFF0000, 0x00050000
"""Answers; the second with an `errno` added."""
_KILL = 0x80000000
_AUDIT_ARCH_X86_64 = 0xC000003E
_X32_BIT = 0x40000000
_LOAD, _JUMP_EQUAL, _JUMP_LEAST, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER_AT, _ARCH_AT, _ARGUMENTS_AT = 0, 4, 16
_SECCOMP, _PRCTL_GET, _PRCTL_NO_NEW_PRIVS = 317, 21, 38
_SET_MODE_FILTER, _TO_ALL_THREADS = 1, 1
_SOCKET, _SOCKETPAIR, _IO_URING_SETUP = 41, 53, 425
_AF_UNIX = 1

Instruction = tuple[int, int, int, int]
"""(code, jump if true, jump if false, value)."""


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def is_available() -> bool:
    """Can this kernel filter system calls, and do we know their numbers on this machine?"""
    if platform.machine() != MACHINE or os.name != "posix":
        return False
    return bool(ctypes.CDLL(None).prctl(_PRCTL_GET, 0, 0, 0, 0) >= 0)


def refuse_network() -> bool:
    """Leave this process, and all that it will start, no sockets but those of this machine's files (AF_UNIX).

    Returns:
        whether the kernel holds it from now on.
    """
    if not is_available():
        return False
    try:
        forbid_new_privileges()
        install(no_network())
    except OSError:
        return False
    return True


def no_network() -> list[Instruction]:
    """The filter that `refuse_network` puts into force; io_uring would open sockets past it, and does not exist."""
    program = [*preamble()]
    for number in (_SOCKET, _SOCKETPAIR):
        program += if_number(number, argument_in(0, [_AF_UNIX]))
    program += if_number(_IO_URING_SETUP, [answer(FAIL | errno.ENOSYS)])
    return [*program, answer(ALLOW)]


def forbid_new_privileges() -> None:
    """No program that this process starts gets more rights than it has; a filter needs that first.

    Raises:
        OSError: the kernel refuses it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PRCTL_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no_new_privs")


def install(program: Sequence[Instruction]) -> None:
    """Put a filter into force in all threads of this process, for the rest of its life.

    Raises:
        OSError: the kernel refuses it.
    """
    code = b"".join(struct.pack("<HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    wanted = _Program(len(program), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(_SECCOMP, _SET_MODE_FILTER, _TO_ALL_THREADS, ctypes.byref(wanted)) != 0:
        raise OSError(ctypes.get_errno(), "seccomp: " + os.strerror(ctypes.get_errno()))


def preamble() -> list[Instruction]:
    """How a filter begins: other ways to call the kernel end here, and the number of the call is loaded."""
    return [
        _load(_ARCH_AT), (_JUMP_EQUAL, 1, 0, _AUDIT_ARCH_X86_64), answer(_KILL),
        _load(_NUMBER_AT), (_JUMP_LEAST, 0, 1, _X32_BIT), answer(FAIL | errno.ENOSYS),
    ]  # fmt: skip


def answer(value: int) -> Instruction:
    """Return from the filter."""
    return (_RETURN, 0, 0, value)


def argument(index: int) -> Instruction:
    """Load the low half of an argument, on a little-endian machine."""
    return _load(_ARGUMENTS_AT + 8 * index)


def if_number(number: int, then: Sequence[Instruction]) -> list[Instruction]:
    """`then` must end in an answer: after it the loaded value may be another."""
    return [(_JUMP_EQUAL, 0, len(then), number), *then]


def if_any_bit(mask: int, then: int, otherwise: int) -> Instruction:
    """Jump over so many instructions, by whether the loaded value has a bit of the mask."""
    return (_JUMP_ANY_BIT, then, otherwise, mask)


def argument_in(index: int, values: Iterable[int]) -> list[Instruction]:
    """Allowed where an argument is one of the values, else EPERM."""
    tests = [argument(index)]
    for value in values:
        tests += [(_JUMP_EQUAL, 0, 1, value), answer(ALLOW)]
    return [*tests, answer(FAIL | errno.EPERM)]


def argument_none_of(index: int, values: Iterable[int]) -> list[Instruction]:
    """EPERM where an argument is one of the values, else allowed."""
    tests = [argument(index)]
    for value in values:
        tests += [(_JUMP_EQUAL, 0, 1, value), answer(FAIL | errno.EPERM)]
    return [*tests, answer(ALLOW)]


def _load(at: int) -> Instruction:
    return (_LOAD, 0, 0, at)
