"""Landlock: which files and ports a thread and what comes after it may open. Once in force it can only get narrower.

Source: Linux 6.18, Documentation/userspace-api/landlock.rst and include/uapi/linux/landlock.h.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Sequence

LEAST_ABI = 3
"""Linux 6.2: before it truncating a file could not be forbidden."""
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG, _PATH_BENEATH = 1, 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE, _IOCTL_DEV = 1, 1 << 1, 1 << 2, 1 << 3, 1 << 14, 1 << 15
_ALL_UP_TO = {3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_MAKING_SPECIAL = 1 << 6 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12
"""Devices, sockets, pipes and links: not even in the scratch folder."""
_TCP = 0b11
_ABSTRACT_SOCKETS_AND_SIGNALS = 0b11


def abi() -> int:
    """Version of Landlock that the kernel has; 0 for none."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        return max(0, int(libc.syscall(_CREATE_RULESET, None, 0, _VERSION_FLAG)))
    except (OSError, AttributeError, TypeError):
        return 0  # no Linux


def restrict(*, readable: Sequence[str], writable: Sequence[str], devices: Sequence[str] = ()) -> None:
    """Forbid this thread, and what it starts, every file but these; TCP, and signals to others, where the kernel can.

    Args:
        readable: files and folders to read; what is not there is left out.
        writable: folders to read and to write regular files and folders in.
        devices: files to read and write.
    Raises:
        OSError: the kernel refuses it.
    """
    version = abi()
    handled = _ALL_UP_TO.get(version, _ALL_UP_TO[5])
    fields = [handled] + [_TCP] * (version >= 4) + [_ABSTRACT_SOCKETS_AND_SIGNALS] * (version >= 6)
    attributes = struct.pack(f"<{len(fields)}Q", *fields)
    ruleset = _call(_CREATE_RULESET, attributes, len(attributes), 0)
    try:
        for paths, rights in (
            (readable, _READ_FILE | _READ_DIR),
            (writable, handled & ~_MAKING_SPECIAL & ~_EXECUTE & ~_IOCTL_DEV),
            (devices, _READ_FILE | _WRITE_FILE),
        ):
            for path in paths:
                _allow(ruleset, path, rights)
        _call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= _OF_FILES
        _call(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("<Qi", rights, descriptor), 0)
    finally:
        os.close(descriptor)


def _call(number: int, *arguments: int | bytes) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    result = int(libc.syscall(number, *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), "landlock: " + os.strerror(ctypes.get_errno()))
    return result
