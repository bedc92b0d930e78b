"""Archives as no archiver writes them: zip members with headers of one's choice, tar members, compressed streams."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Mapping


def zipped(members: Mapping[str, bytes] | list[tuple[str, bytes]], *, method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip; a list may hold one name several times."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive, warnings.catch_warnings(action="ignore"):
        for name, content in members.items() if isinstance(members, Mapping) else members:
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return buffer.getvalue()


def tarred(members: Mapping[str, bytes], *links: tarfile.TarInfo, mode: str = "w") -> bytes:
    """A tar, compressed by `w:gz`, `w:bz2` or `w:xz`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for link in links:
            archive.addfile(link)
    return buffer.getvalue()


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    """A member of a tar that is a link."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def compressed(data: bytes, codec: str) -> bytes:
    """One compressed stream."""
    if codec == "zst":
        import zstandard

        return zstandard.compress(data)
    if codec == "lz4":
        import lz4.frame

        return bytes(lz4.frame.compress(data))
    return {
        "gz": gzip.compress,
        "bz2": bz2.compress,
        "xz": lzma.compress,
        "lzma": lambda raw: lzma.compress(raw, format=lzma.FORMAT_ALONE),
        "z": zlib.compress,
    }[codec](data)


def with_flag(archive: bytes, flag: int, *, local: bool = True, central: bool = True) -> bytes:
    """A zip with a general purpose flag set in its headers, which scanners' libraries refuse and loaders ignore."""
    data = bytearray(archive)
    for magic, at, wanted in ((b"PK\x03\x04", 6, local), (b"PK\x01\x02", 8, central)):
        start = data.find(magic)
        while wanted and start >= 0:
            (flags,) = struct.unpack_from("<H", data, start + at)
            struct.pack_into("<H", data, start + at, flags | flag)
            start = data.find(magic, start + 4)
    return bytes(data)


def with_local_name(archive: bytes, name: bytes, other: bytes) -> bytes:
    """A zip whose local header names a member otherwise than the directory does (names of equal length)."""
    start = archive.index(name, archive.index(b"PK\x03\x04"))
    return archive[:start] + other + archive[start + len(name) :]


def with_wrong_crc(archive: bytes, member: bytes) -> bytes:
    """A zip whose CRC-32 of a member is wrong in both headers: zipfile refuses to read it, torch reads it."""
    data = bytearray(archive)
    for magic, crc_at, name_at in ((b"PK\x03\x04", 14, 30), (b"PK\x01\x02", 16, 46)):
        start = data.find(magic)
        while start >= 0:
            if data[start + name_at : start + name_at + len(member)] == member:
                struct.pack_into("<I", data, start + crc_at, 0x12345678)
            start = data.find(magic, start + 4)
    return bytes(data)


def copied_7z(name: str, content: bytes) -> bytes:
    """A 7z archive with one member that is stored as it is. Source: 7zFormat.txt of the 7-Zip SDK."""
    return _seven_zip(name, content, content, b"\x01\x00")


def packed_7z(name: str, content: bytes) -> bytes:
    """A 7z archive with one member in LZMA2."""
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 16}]
    return _seven_zip(name, content, lzma.compress(content, lzma.FORMAT_RAW, filters=filters), b"\x21\x21\x01\x08")


def _seven_zip(name: str, content: bytes, stored: bytes, coder: bytes) -> bytes:
    packed = b"\x06\x00" + b"\x01" + b"\x09" + _number(len(stored)) + b"\x00"
    unpacked = b"\x07\x0b\x01\x00\x01" + coder + b"\x0c" + _number(len(content)) + b"\x00"
    digests = b"\x08\x0a\x01" + struct.pack("<I", zlib.crc32(content)) + b"\x00"
    names = b"\x00" + name.encode("utf-16-le") + b"\0\0"
    files = b"\x05\x01\x11" + _number(len(names)) + names + b"\x00"
    header = b"\x01\x04" + packed + unpacked + digests + b"\x00" + files + b"\x00"
    start = struct.pack("<QQI", len(stored), len(header), zlib.crc32(header))
    return b"7z\xbc\xaf\x27\x1c\x00\x04" + struct.pack("<I", zlib.crc32(start)) + start + stored + header


def _number(value: int) -> bytes:
    """A number of up to 14 bits, as 7z packs it."""
    return bytes([value]) if value < 0x80 else bytes([0x80 | value >> 8, value & 0xFF])
