"""Zip archives by their central directory, read as leniently as the most lenient loader reads them.

zipfile refuses what torch's reader accepts (flag bits, names in local headers, damaged neighbours),
and what it refuses a scan would not see; hence a directory walk of our own.
Source: PKWARE APPNOTE 6.3.10, sections 4.3 and 4.5.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

import msgspec

from regraft.errors import Bomb, Damaged, LimitExceeded, Unsupported
from regraft.package.archive import Archive, Member
from regraft.package.compression import Codec, expand, expanded_pieces
from regraft.package.formats.interface import Problem
from regraft.package.lazy_expansion import LazyExpansion
from regraft.package.limits import MAX_EXPANSION_RATIO, MAX_HEADER_BYTES, MAX_MEMBERS
from regraft.package.reader import Meter, Reader

_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64 = struct.Struct("<4sLQL")
_CENTRAL = struct.Struct("<4s4B4HL2L5H2L")
_LOCAL = struct.Struct("<4s2B4HL2L2H")
_END_MAGIC, _END64_MAGIC, _LOCATOR64_MAGIC = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_CENTRAL_MAGIC, _LOCAL_MAGIC, _DESCRIPTOR_MAGIC = b"PK\x01\x02", b"PK\x03\x04", b"PK\x07\x08"
_TAIL_BYTES = _END.size + (1 << 16)
_METHODS = {0: "stored", 8: "deflate", 9: "deflate64", 12: "bzip2", 14: "lzma", 93: "zstd", 95: "xz"}
_CODECS = {
    "deflate": Codec.DEFLATE,
    "bzip2": Codec.BZIP2,
    "lzma": Codec.LZMA,
    "zstd": Codec.ZSTD,
    "xz": Codec.XZ,
}
_ENCRYPTED, _DESCRIPTOR, _STRONG_ENCRYPTION, _UTF8 = 0x1, 0x8, 0x40, 0x800
_ZIP64, _UNICODE_PATH = 0x0001, 0x7075
_UNIX = 3
_LZMA_END_MARK = 0x2
_RATIO_FREE_BYTES = 16 << 20
_FULL32 = 0xFFFFFFFF


class _End(msgspec.Struct, frozen=True):
    """The end record: where the directory lies, and by how much all offsets are shifted."""

    count: int
    start: int
    size: int
    shift: int


class ZipArchive(Archive):
    """See `archive.open_zip`."""

    def __init__(self, reader: Reader) -> None:
        super().__init__("zip", reader, ())
        self._flags: dict[int, int] = {}
        self._spans: list[tuple[int, int, Member]] = []
        self._end = self._find_end()
        self.members = self._read_directory()
        self.note_names()
        self._note_layout()

    def open(self, member: Member) -> Reader:
        """See `Archive.open`; also compares the local header with the directory."""
        raw, codec, prefix = self._packed(member)
        if codec is None:
            return raw
        content = expand(raw, codec, where=self._where(member), prefix=prefix)
        self._note_content(member, content.reader.size, content.crc32, content.problems)
        return content.reader

    def open_lazily(self, member: Member) -> Reader:
        """See `Archive.open_lazily`."""
        raw, codec, prefix = self._packed(member)
        if codec is None:
            return raw
        problems: list[Problem] = []
        return LazyExpansion(
            expanded_pieces(raw, codec, problems, prefix),
            member.size_bytes,
            where=self._where(member),
            packed_meter=Meter(raw.meter),
            on_end=lambda size, crc32: self._note_content(member, size, crc32, problems),
        )

    def _where(self, member: Member) -> str:
        return f"{self.reader.where}!{member.name}"

    def _packed(self, member: Member) -> tuple[Reader, Codec | None, bytes]:
        """The bytes of a member as they lie, how to expand them (None: not at all), and what to feed first."""
        raw = self.reader.section(self._data_start(member), member.compressed_bytes, where=self._where(member))
        if member.method == "stored":
            if member.size_bytes != member.compressed_bytes:
                self.note("a stored member declares two different sizes", kind="size-mismatch", member=member.name)
            return raw, None, b""
        if member.method not in _CODECS:
            raise Unsupported(f"the compression method {member.method} cannot be read", where=raw.where)
        if member.size_bytes > max(_RATIO_FREE_BYTES, MAX_EXPANSION_RATIO * member.compressed_bytes):
            raise Bomb(f"declares more than {MAX_EXPANSION_RATIO} times its compressed size", where=raw.where)
        codec = _CODECS[member.method]
        if codec is Codec.LZMA:
            raw, prefix = self._lzma_stream(raw, member)
            return raw, codec, prefix
        return raw, codec, b""

    def _note_content(self, member: Member, size: int, crc32: int, problems: Sequence[Problem]) -> None:
        for problem in problems:
            self.note(problem.what, kind=problem.kind or "damaged", offset=problem.offset, member=member.name)
        if size != member.size_bytes:
            self.note(f"declares {member.size_bytes} bytes and has {size}", kind="size-mismatch", member=member.name)
        if crc32 != member.crc32:
            self.note("the content does not have the declared CRC-32", kind="crc-mismatch", member=member.name)

    def verify(self, member: Member) -> None:
        """See `Archive.verify`."""
        import zlib

        crc = 0
        for piece in self.open(member).chunks():
            crc = zlib.crc32(piece, crc)
        if crc != member.crc32:
            self.note("the content does not have the declared CRC-32", kind="crc-mismatch", member=member.name)

    def audit(self) -> tuple[Problem, ...]:
        """Read every local header: compare it with the directory, and look for bytes that no member covers."""
        end = 0
        for offset, _, member in sorted(self._spans, key=lambda span: span[:2]):
            self._note_gap(end, offset)
            try:
                end = max(end, self._data_start(member) + member.compressed_bytes)
            except Damaged as error:
                self.note(error.what, kind="local-header", member=member.name, offset=offset)
                continue
            if self._flags[offset] & _DESCRIPTOR:
                end += self._descriptor_bytes(end)
        self._note_gap(end, self._end.start)
        return self.problems

    def _descriptor_bytes(self, offset: int) -> int:
        """Length of the data descriptor at an offset: 4 or 8 byte sizes, with or without its magic number."""
        data = self.reader.read_at(offset, 28)
        start = 4 if data[:4] == _DESCRIPTOR_MAGIC else 0
        for length in (start + 12, start + 20):
            following = data[length : length + 4]
            if following in (_LOCAL_MAGIC, _CENTRAL_MAGIC, _END64_MAGIC):
                return length
        return 0

    def _note_gap(self, start: int, end: int) -> None:
        if 0 < start < end:
            self.note(f"{end - start} bytes belong to no member", kind="hidden-data", offset=start)

    def _data_start(self, member: Member) -> int:
        header = self.reader.read_exactly(member.offset, _LOCAL.size)
        name_length: int
        extra_length: int
        magic, _, _, flags, method, _, _, crc, packed, size, name_length, extra_length = _LOCAL.unpack(header)
        if magic != _LOCAL_MAGIC:
            raise Damaged("there is no local header where the directory points", where=self.reader.where)
        name = _decode(self.reader.read_exactly(member.offset + _LOCAL.size, name_length), self._flags[member.offset])
        differing = [
            what
            for what, differs in (
                ("name", name != member.name),
                ("flags", (flags ^ self._flags[member.offset]) & (_ENCRYPTED | _DESCRIPTOR | _UTF8)),
                ("method", _METHODS.get(method, f"method-{method}") != member.method),
                ("compressed size", _differs(packed, member.compressed_bytes, flags)),
                ("size", _differs(size, member.size_bytes, flags)),
                ("CRC-32", _differs(crc, member.crc32 or 0, flags)),
            )
            if differs
        ]
        if differing:
            what = f"the local header disagrees with the directory in its {', '.join(differing)}"
            named = f" ({name!r})" if "name" in differing else ""
            self.note(what + named, kind="local-header", member=member.name, offset=member.offset)
        return member.offset + _LOCAL.size + name_length + extra_length

    def _lzma_stream(self, raw: Reader, member: Member) -> tuple[Reader, bytes]:
        """Zip keeps the properties apart: (data, header of an lzma-alone stream to feed first)."""
        head = raw.read_exactly(0, 4)
        length = int.from_bytes(head[2:4], "little")
        properties = raw.read_exactly(4, length)
        has_mark = self._flags[member.offset] & _LZMA_END_MARK
        size = (1 << 64) - 1 if has_mark else member.size_bytes
        return raw.section(4 + length, raw.size - 4 - length), properties + size.to_bytes(8, "little")

    def _find_end(self) -> _End:
        base = max(0, self.reader.size - _TAIL_BYTES)
        tail = self.reader.read_at(base, _TAIL_BYTES)
        index = tail.rfind(_END_MAGIC, 0, max(0, len(tail) - _END.size + len(_END_MAGIC)))
        if index < 0:
            raise Damaged("no end record of a zip directory", where=self.reader.where)
        at = base + index
        _, _, _, _, count, size, offset, comment = _END.unpack_from(tail, index)
        after = self.reader.size - at - _END.size - comment
        if after:
            what = f"{after} bytes follow the archive" if after > 0 else "the archive comment is cut off"
            self.note(what, kind="trailing-data", offset=at + _END.size)
        limit = at
        wide = self._find_end64(at)
        if wide is not None:
            limit, count, size, offset = wide
        if count > MAX_MEMBERS:
            raise LimitExceeded(f"{count} members, more than {MAX_MEMBERS}", where=self.reader.where)
        if size > MAX_HEADER_BYTES:
            raise LimitExceeded(f"a directory of {size} bytes, more than {MAX_HEADER_BYTES}", where=self.reader.where)
        shift = limit - size - offset
        if shift < 0:
            raise Damaged("the zip directory lies beyond its end record", where=self.reader.where)
        if shift and self.reader.read_at(limit - size, 4) != _CENTRAL_MAGIC and self._is_directory(offset):
            self.note(f"{shift} bytes between directory and end record", kind="hidden-data", offset=offset + size)
            return _End(count, offset, size, 0)
        if size == 0 and self.reader.read_at(0, 4) != _END_MAGIC:
            raise Damaged("an end record without a directory", where=self.reader.where)
        return _End(count, limit - size, size, shift)

    def _find_end64(self, at: int) -> tuple[int, int, int, int] | None:
        """(where the 64-bit end record begins, members, directory size, directory offset)."""
        if at < _LOCATOR64.size:
            return None
        magic, _, stated, _ = _LOCATOR64.unpack(self.reader.read_exactly(at - _LOCATOR64.size, _LOCATOR64.size))
        if magic != _LOCATOR64_MAGIC:
            return None
        usual = at - _LOCATOR64.size - _END64.size
        for place in (usual, stated):
            data = self.reader.read_at(place, _END64.size)
            if len(data) == _END64.size and data.startswith(_END64_MAGIC):
                _, _, _, _, _, _, _, count, size, offset = _END64.unpack(data)
                if place != stated:
                    self.note("the 64-bit end record is not where its locator says", kind="prefixed-data", offset=place)
                return place, count, size, offset
        raise Damaged("no 64-bit end record where its locator points", where=self.reader.where)

    def _is_directory(self, offset: int) -> bool:
        return self.reader.read_at(offset, 4) == _CENTRAL_MAGIC

    def _read_directory(self) -> list[Member]:
        end = self._end
        members = self._walk(end.start, end.size, end.shift)
        if len(members) != end.count:
            self.note(f"the end record counts {end.count} members, there are {len(members)}", kind="member-count")
        if end.shift and self._is_directory(end.start - end.shift):
            self.note("a second directory where the offset points", kind="second-directory", offset=end.start)
            known = {member.offset for member in members}
            others = self._walk(end.start - end.shift, end.size, 0)
            members += [member for member in others if member.offset not in known]
        return members

    def _walk(self, start: int, size: int, shift: int) -> list[Member]:
        data = self.reader.read_at(start, size)
        members: list[Member] = []
        position = 0
        while position < len(data):
            if data[position : position + 4] != _CENTRAL_MAGIC or len(data) - position < _CENTRAL.size:
                if not members:
                    raise Damaged("the zip directory is damaged", where=self.reader.where)
                self.note("the directory is damaged", kind="directory-damaged", offset=start + position)
                break
            if len(members) >= MAX_MEMBERS:
                raise LimitExceeded(f"more than {MAX_MEMBERS} members", where=self.reader.where)
            member, position = self._entry(data, position, shift)
            members.append(member)
        return members

    def _entry(self, data: bytes, position: int, shift: int) -> tuple[Member, int]:
        (
            _, _, system, _, _, flags, method, time, date, crc, packed, size,
            name_length, extra_length, comment_length, _, _, attributes, offset,
        ) = _CENTRAL.unpack_from(data, position)  # fmt: skip
        names_at = position + _CENTRAL.size
        extra_at = names_at + name_length
        name = _decode(data[names_at:extra_at], flags)
        if extra_length:
            extra = data[extra_at : extra_at + extra_length]
            size, packed, offset = _widen(extra, size, packed, offset)
            self._note_unicode_name(extra, name)
        mode = attributes >> 16 if system == _UNIX else 0
        kind = mode & 0o170000
        member = Member(
            name=name,
            size_bytes=size,
            compressed_bytes=packed,
            method=_METHODS.get(method, f"method-{method}"),
            offset=offset + shift,
            crc32=crc,
            is_directory=name.endswith("/"),
            is_link=kind == 0o120000,
            is_special=kind not in (0, 0o040000, 0o100000, 0o120000),
            is_encrypted=bool(flags & (_ENCRYPTED | _STRONG_ENCRYPTION)),
            modified=_timestamp(date, time),
        )
        self._flags[member.offset] = flags
        self._spans.append((member.offset, member.offset + _LOCAL.size + name_length + packed, member))
        return member, extra_at + extra_length + comment_length

    def _note_unicode_name(self, extra: bytes, name: str) -> None:
        for identifier, field in _extra_fields(extra):
            if identifier == _UNICODE_PATH and (other := field[5:].decode("utf-8", "surrogateescape")) != name:
                self.note(f"a second name for some readers: {other!r}", kind="second-name", member=name)

    def _note_layout(self) -> None:
        end = 0
        ordered = sorted(self._spans, key=lambda span: span[:2])
        if ordered and ordered[0][0] > 0:
            self.note(f"{ordered[0][0]} bytes precede the archive", kind="prefixed-data", offset=0)
        for start, least_end, member in ordered:
            name = member.name
            if start < end:
                self.note("overlaps the member before it", kind="overlap", member=name, offset=start)
            if least_end > self._end.start:
                self.note("reaches into the directory or beyond", kind="overlap", member=name, offset=start)
            end = max(end, least_end)
            if member.is_encrypted:
                self.note("is flagged as encrypted", kind="encrypted", member=name, offset=start)
            if member.size_bytes > max(_RATIO_FREE_BYTES, MAX_EXPANSION_RATIO * member.compressed_bytes):
                self.note(
                    f"declares {member.size_bytes} bytes from {member.compressed_bytes}", kind="bomb", member=name
                )


def _decode(name: bytes, flags: int) -> str:
    return name.decode("utf-8", "surrogateescape") if flags & _UTF8 else name.decode("cp437")


def _differs(local: int, central: int, flags: int) -> bool:
    """Does a local field say something else? Zero before a data descriptor and all ones (zip64) say nothing."""
    return local not in (central, _FULL32) and not (flags & _DESCRIPTOR and local == 0)


def _extra_fields(extra: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position + 4 <= len(extra):
        identifier, length = struct.unpack_from("<2H", extra, position)
        yield identifier, extra[position + 4 : position + 4 + length]
        position += 4 + length


def _widen(extra: bytes, size: int, packed: int, offset: int) -> tuple[int, int, int]:
    """Replace fields of all ones by their 64-bit values, in the order of APPNOTE 4.5.3."""
    for identifier, field in _extra_fields(extra):
        if identifier != _ZIP64:
            continue
        values = iter(struct.unpack(f"<{len(field) // 8}Q", field[: len(field) // 8 * 8]))
        size = next(values, size) if size == _FULL32 else size
        packed = next(values, packed) if packed == _FULL32 else packed
        offset = next(values, offset) if offset == _FULL32 else offset
    return size, packed, offset


def _timestamp(date: int, time: int) -> str | None:
    if not date:
        return None
    day = f"{1980 + (date >> 9)}-{date >> 5 & 15:02d}-{date & 31:02d}"
    return f"{day}T{time >> 11:02d}:{time >> 5 & 63:02d}:{(time & 31) * 2:02d}"
