"""Programs, scripts and archives inside of bytes that should be numbers, proved by their structure.

A magic number alone is no proof: four given bytes occur by chance in every few gigabytes of weights. What is reported
here has a header whose fields agree with each other, of which less than one in 2⁶⁰ random places has one; the search is
for bytes anywhere, aligned or not.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator

import msgspec

HEADER_BYTES = 4096
"""Bytes from the beginning of a program within which its headers prove what it is."""
_ELF_MACHINES = frozenset({2, 3, 8, 20, 21, 22, 40, 42, 43, 50, 62, 94, 183, 243, 247, 258})
_PE_MACHINES = frozenset({0x14C, 0x1C0, 0x1C4, 0x200, 0x8664, 0xAA64, 0x5032, 0x5064, 0xEBC})
_MACH_CPUS = frozenset({7, 12, 18, 0x01000007, 0x0100000C, 0x01000012, 0x0200000C})
_ZIP_METHODS = frozenset({0, 8, 9, 12, 14, 93, 95})
_SHEBANG = re.compile(rb"#![ \t]?/(usr/|opt/|local/)*s?bin/(env[ \t]+)?[a-z][a-z0-9.+-]{1,20}[ \t\r\n]")
_MACH_MAGIC = re.compile(rb"\xcf\xfa\xed\xfe|\xce\xfa\xed\xfe|\xfe\xed\xfa[\xce\xcf]")
_CODE = (
    re.compile(rb"\b(import|from)[ \t]+(os|sys|socket|subprocess|ctypes|base64|requests|urllib|pickle|builtins)\b"),
    re.compile(rb"\b(os\.(system|popen|exec\w+)|subprocess\.\w+|socket\.socket|__import__)[ \t]*\("),
    re.compile(rb"\b(exec|eval|compile)[ \t]*\("),
    re.compile(rb"\bb(ase)?64(\.b64)?[ \t]*(-d|decode|--decode)|\bFromBase64String\b"),
    re.compile(rb"/bin/(ba|z|da)?sh\b|\bcmd(\.exe)?[ \t]+/c\b|\bpowershell\b|\bWScript\.Shell\b"),
    re.compile(rb"\b(curl|wget)[ \t]+[^\s]|\bnc[ \t]+-\w*e\b|/dev/tcp/|\bInvoke-(Expression|WebRequest)\b|\bIEX\b"),
    re.compile(rb"<\?php\b|<script\b|\bchild_process\b|\bpassthru[ \t]*\(|\bshell_exec[ \t]*\("),
    re.compile(rb"c(os|posix|nt|subprocess|builtins|__builtin__)\n(system|popen|Popen|exec|eval|call|run)\n"),
)
_TEXT = re.compile(rb"[\t\n\r\x20-\x7e]{48,}")
_LEAST_CODE_WORDS = 2


class Hidden(msgspec.Struct, frozen=True):
    """Something that is no number: what, where in the bytes that were searched, and whether it is a program."""

    what: str
    offset: int
    is_program: bool = True


def programs_in(data: bytes) -> Iterator[Hidden]:
    """Every program or archive that begins in the data, in the order of kinds."""
    for magic, check, what, is_program in _KINDS:
        start = data.find(magic)
        while start >= 0:
            found = check(data, start)
            if found is not None:
                yield Hidden(what, found, is_program)
            start = data.find(magic, start + 1)
    for match in _MACH_MAGIC.finditer(data) if _may_hold_mach(data) else ():
        if _is_mach(data, match.start()):
            yield Hidden("a Mach-O program", match.start())


def code_in(data: bytes) -> Iterator[Hidden]:
    """Text of 48 characters or more in which different idioms of scripts occur together. Slower than `programs_in`."""
    for run in _TEXT.finditer(data):
        text = run[0]
        if sum(pattern.search(text) is not None for pattern in _CODE) >= _LEAST_CODE_WORDS:
            yield Hidden(f"a script: {text[:60].decode('ascii').strip()!r}", run.start())


def _elf(data: bytes, at: int) -> int | None:
    head = data[at : at + 64]
    if len(head) < 52 or head[4] not in (1, 2) or head[5] not in (1, 2) or head[6] != 1 or head[7] > 18:
        return None
    order = "<" if head[5] == 1 else ">"
    kind, machine, version = struct.unpack_from(order + "HHI", head, 16)
    header_size = struct.unpack_from(order + "H", head, 52 if head[4] == 2 else 40)[0] if len(head) == 64 else 0
    is_sound = kind in (1, 2, 3, 4) and machine in _ELF_MACHINES and version == 1
    return at if is_sound and header_size in (52, 64) else None


def _pe(data: bytes, at: int) -> int | None:
    """`PE\\0\\0` whose place a DOS header before it states."""
    head = data[at + 4 : at + 4 + 22]
    if len(head) < 22:
        return None
    machine, sections = struct.unpack_from("<HH", head)
    if machine not in _PE_MACHINES or not 1 <= sections <= 96 or head[20:22] not in (b"\x0b\x01", b"\x0b\x02"):
        return None
    start = data.rfind(b"MZ", max(0, at - HEADER_BYTES), at)
    while start >= 0:
        if data[start + 60 : start + 64] == (at - start).to_bytes(4, "little"):
            return start
        start = data.rfind(b"MZ", max(0, at - HEADER_BYTES), start)
    return None


def _wasm(data: bytes, at: int) -> int | None:
    first = data[at + 8 : at + 9]
    return at if first and first[0] <= 12 and len(data) > at + 12 else None


def _zip(data: bytes, at: int) -> int | None:
    if len(data) < at + 31:
        return None
    version, flags, method, _, day, _, _, _, name, _ = struct.unpack_from("<5H3I2H", data, at + 4)
    is_sound = version & 0xFF <= 63 and version >> 8 <= 19 and flags & 0xD000 == 0 and method in _ZIP_METHODS
    text = data[at + 30 : at + 30 + name]
    is_dated = day == 0 or (1 <= day & 31 <= 31 and 1 <= day >> 5 & 15 <= 12)
    return at if is_sound and is_dated and 1 <= name <= 255 and _is_name(text) else None


def _seven_zip(data: bytes, at: int) -> int | None:
    head = data[at : at + 32]
    return at if len(head) == 32 and zlib.crc32(head[12:]) == int.from_bytes(head[8:12], "little") else None


def _script(data: bytes, at: int) -> int | None:
    return at if _SHEBANG.match(data, at) else None


def _is_name(text: bytes) -> bool:
    return all(byte >= 0x20 and byte != 0x7F for byte in text)


def _may_hold_mach(data: bytes) -> bool:
    return any(part in data for part in (b"\xfa\xed\xfe", b"\xfe\xed\xfa"))


def _is_mach(data: bytes, at: int) -> bool:
    if len(data) < at + 28:
        return False
    order = "<" if data[at + 3] == 0xFE else ">"
    _, cpu, _, kind, commands, size = struct.unpack_from(order + "6I", data, at)
    return cpu in _MACH_CPUS and 1 <= kind <= 12 and 1 <= commands <= 1000 and commands * 8 <= size <= 1 << 20


_KINDS: tuple[tuple[bytes, Callable[[bytes, int], int | None], str, bool], ...] = (
    (b"\x7fELF", _elf, "an ELF program", True),
    (b"PE\0\0", _pe, "a Windows program", True),
    (b"\0asm\1\0\0\0", _wasm, "a WebAssembly module", True),
    (b"#!", _script, "a script with its interpreter", True),
    (b"PK\3\4", _zip, "a zip archive", False),
    (b"7z\xbc\xaf\x27\x1c", _seven_zip, "a 7z archive", False),
)
