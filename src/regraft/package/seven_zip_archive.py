"""7z archives: the header by a parser of our own, the content by the decoders that Python has.

Copy, LZMA, LZMA2, deflate, bzip2 and zstd are read, with the delta and branch filters before LZMA2; what is encrypted
or in another method is `Unsupported`. Source: 7zFormat.txt and Methods.txt of the 7-Zip SDK 24.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence

from regraft.errors import Bomb, Damaged, LimitExceeded, RegraftError, Unsupported
from regraft.package.archive import Archive, Member
from regraft.package.compression import Codec, Expanded, expanded_pieces, spooled
from regraft.package.formats.cursor import Cursor
from regraft.package.limits import MAX_EXPANSION_RATIO, MAX_HEADER_BYTES
from regraft.package.reader import BytesReader, Reader
from regraft.package.seven_zip_header import (
    BZIP2,
    COPY,
    DEFLATE,
    ENCODED_HEADER,
    END,
    FILES,
    HEADER,
    LZMA,
    LZMA2,
    PROPERTIES,
    STREAMS,
    ZSTD,
    Coder,
    File,
    Folder,
    read_files,
    read_number,
    read_streams,
)

MAGIC = b"7z\xbc\xaf\x27\x1c"
_START = struct.Struct("<6s2BL2QL")
_CODECS = {DEFLATE: Codec.DEFLATE, BZIP2: Codec.BZIP2, ZSTD: Codec.ZSTD}
_ENCRYPTIONS = frozenset({"06f10701", "06f10303"})
_MAX_DICTIONARY_BYTES = 256 << 20
_PIECE_BYTES = 256 << 10
_MAX_ENCODED_HEADERS = 4
"""A packed header may expand to another one, or to itself; archivers write one."""
_UNIX_EXTENSION, _DIRECTORY = 0x8000, 0x10


class SevenZipArchive(Archive):
    """See `archive.open_archive`. Several files lie in one compressed stream, which is expanded as a whole."""

    def __init__(self, reader: Reader) -> None:
        super().__init__("7z", reader, ())
        self._places: dict[int, tuple[Folder, int]] = {}
        self._open: tuple[Folder, Expanded] | None = None
        self.members = self._read()
        self.note_names()

    def open(self, member: Member) -> Reader:
        """See `Archive.open`."""
        where = f"{self.reader.where}!{member.name}"
        if member.offset not in self._places:
            return BytesReader(b"", where=where, meter=self.reader.meter)
        folder, start = self._places[member.offset]
        return self._content(folder).reader.section(start, member.size_bytes, where=where)

    def verify(self, member: Member) -> None:
        """See `Archive.verify`."""
        crc = 0
        for chunk in self.open(member).chunks():
            crc = zlib.crc32(chunk, crc)
        if member.crc32 is not None and crc != member.crc32:
            self.note("its checksum is wrong", kind="crc-mismatch", member=member.name)

    def _content(self, folder: Folder) -> Expanded:
        if self._open is None or self._open[0] is not folder:
            packed = self.reader.section(folder.packed_at, folder.packed_size)
            self._open = (folder, expand_folder(packed, folder))
        return self._open[1]

    def _read(self) -> tuple[Member, ...]:
        start = self.reader.read_exactly(0, _START.size)
        _, _, _, crc, offset, size, header_crc = _START.unpack(start)
        if zlib.crc32(start[12:]) != crc:
            self.note("the checksum of the start header is wrong", kind="crc-mismatch", offset=8)
        if size == 0:
            return ()
        header = self._header(_START.size + offset, size, header_crc)
        end = _START.size + offset + size
        if end < self.reader.size:
            self.note(f"{self.reader.size - end} bytes follow the archive", kind="trailing-data", offset=end)
        return self._members(self._plain_header(Cursor(header, where=self.reader.where)))

    def _plain_header(self, cursor: Cursor) -> Cursor:
        """The header behind its kind, expanded where it is packed."""
        for _ in range(_MAX_ENCODED_HEADERS + 1):
            kind = cursor.uint(1)
            if kind == HEADER:
                return cursor
            if kind != ENCODED_HEADER:
                raise Damaged(f"a 7z header of the kind {kind}", where=self.reader.where)
            folder = next(iter(read_streams(cursor)), None)
            if folder is None or folder.size > MAX_HEADER_BYTES:
                raise LimitExceeded("a packed header without an end", where=self.reader.where)
            packed = self.reader.section(folder.packed_at, folder.packed_size)
            cursor = Cursor(expand_folder(packed, folder).reader.read_all(), where=self.reader.where)
        raise LimitExceeded(f"a header packed more than {_MAX_ENCODED_HEADERS} times", where=self.reader.where)

    def _header(self, at: int, size: int, crc: int) -> bytes:
        if size > MAX_HEADER_BYTES:
            raise LimitExceeded(f"a 7z header of {size} bytes, more than {MAX_HEADER_BYTES}", where=self.reader.where)
        header = self.reader.read_exactly(at, size)
        if zlib.crc32(header) != crc:
            self.note("the checksum of the header is wrong", kind="crc-mismatch", offset=at)
        return header

    def _members(self, cursor: Cursor) -> tuple[Member, ...]:
        folders: list[Folder] = []
        while (kind := cursor.uint(1)) != END:
            if kind == STREAMS:
                folders = read_streams(cursor)
            elif kind == FILES:
                return tuple(self._files(read_files(cursor, self.reader.where), folders))
            elif kind == PROPERTIES:
                while cursor.uint(1) != END:
                    cursor.skip(read_number(cursor))
            else:
                raise Damaged(f"a part of the kind {kind} in a 7z header", where=self.reader.where)
        return ()

    def _files(self, files: Sequence[File], folders: Sequence[Folder]) -> Iterator[Member]:
        contents = ((folder, start, size, crc) for folder in folders for start, size, crc in _parts_of(folder))
        for index, file in enumerate(files):
            found = next(contents, None) if file.has_content else None
            if file.has_content and found is None:
                raise Damaged("a 7z archive with fewer contents than files", where=self.reader.where)
            folder, start, size, crc = found or (None, 0, 0, None)
            if folder is not None:
                self._places[index] = (folder, start)
            mode = file.attributes >> 16 if file.attributes & _UNIX_EXTENSION else 0
            yield Member(
                name=file.name,
                size_bytes=size,
                compressed_bytes=size if folder is None or folder.method == "stored" else 0,
                method="stored" if folder is None else folder.method,
                offset=index,
                crc32=crc,
                is_directory=bool(file.attributes & _DIRECTORY) or not (file.has_content or file.is_empty),
                is_link=mode & 0o170000 == 0o120000,
                target=self._target(folder, start, size) if mode & 0o170000 == 0o120000 else None,
                is_encrypted=folder is not None and any(coder.method in _ENCRYPTIONS for coder in folder.coders),
                modified=file.modified,
            )

    def _target(self, folder: Folder | None, start: int, size: int) -> str:
        """What a link points to is its content."""
        if folder is None:
            return ""
        try:
            return self._content(folder).reader.read_at(start, min(size, 4096)).decode("utf-8", "replace")
        except RegraftError:
            return ""


def _parts_of(folder: Folder) -> Iterator[tuple[int, int, int | None]]:
    start = 0
    for size, crc in folder.parts:
        yield start, size, crc
        start += size


def expand_folder(packed: Reader, folder: Folder) -> Expanded:
    """What a stream expands to, in memory or a temporary file.

    Raises:
        Damaged: it is corrupt or ends early. Bomb, LimitExceeded: as `compression.expand`.
        Unsupported: a method that cannot be read here, or encryption.
    """
    if folder.size > MAX_EXPANSION_RATIO * max(packed.size, 16 << 10):
        raise Bomb(f"declares more than {MAX_EXPANSION_RATIO} times its compressed size", where=packed.where)
    methods = [coder.method for coder in folder.coders]
    if methods == [COPY]:
        return Expanded(packed.section(0, min(folder.size, packed.size)), 0)
    found = spooled(_bounded(_pieces(packed, folder, methods), folder.size), where=packed.where, packed=packed)
    if found.reader.size < folder.size:
        raise Damaged(f"expands to {found.reader.size} of {folder.size} bytes", where=packed.where)
    return found


def _pieces(packed: Reader, folder: Folder, methods: list[str]) -> Iterator[bytes]:
    if len(methods) == 1 and methods[0] in _CODECS:
        return expanded_pieces(packed, _CODECS[methods[0]], [])
    if methods[0] in (LZMA, LZMA2):
        return _lzma_pieces(packed, folder)
    if _ENCRYPTIONS & set(methods):
        raise Unsupported("a member is encrypted", where=packed.where)
    raise Unsupported(
        f"the method {'+'.join(methods)} of 7z cannot be read", where=packed.where, hint="unpack it first"
    )


def _bounded(pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
    for piece in pieces:
        yield piece[:size]
        size -= len(piece)
        if size <= 0:
            return


def _lzma_pieces(packed: Reader, folder: Folder) -> Iterator[bytes]:
    import lzma

    filters = [_lzma_filter(coder, packed.where) for coder in reversed(folder.coders)]
    try:
        decoder = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters)
        for chunk in packed.chunks():
            data = chunk
            while piece := decoder.decompress(data, _PIECE_BYTES):
                data = b""
                yield piece
                if decoder.eof:
                    return
    except (lzma.LZMAError, ValueError, EOFError) as error:
        raise Damaged(f"the LZMA stream is corrupt: {error}", where=packed.where) from error


def _lzma_filter(coder: Coder, where: str) -> dict[str, int]:
    import lzma

    plain = {
        "03030103": lzma.FILTER_X86, "03030205": lzma.FILTER_POWERPC, "03030401": lzma.FILTER_IA64,
        "03030501": lzma.FILTER_ARM, "03030701": lzma.FILTER_ARMTHUMB, "03030805": lzma.FILTER_SPARC,
    }  # fmt: skip
    properties = coder.properties
    if coder.method in plain:
        return {"id": plain[coder.method]}
    if coder.method == "03" and len(properties) == 1:
        return {"id": lzma.FILTER_DELTA, "dist": properties[0] + 1}
    if coder.method == LZMA2 and len(properties) == 1 and properties[0] <= 40:
        size = 0xFFFFFFFF if properties[0] == 40 else (2 | properties[0] & 1) << (properties[0] // 2 + 11)
        return {"id": lzma.FILTER_LZMA2, "dict_size": _dictionary(size, where)}
    if coder.method == LZMA and len(properties) == 5 and properties[0] < 225:
        size = _dictionary(int.from_bytes(properties[1:], "little"), where)
        rest, lc = divmod(properties[0], 9)
        return {"id": lzma.FILTER_LZMA1, "dict_size": size, "lc": lc, "lp": rest % 5, "pb": rest // 5}
    raise Unsupported(f"the filter {coder.method} of 7z cannot be read", where=where, hint="unpack it first")


def _dictionary(size: int, where: str) -> int:
    if size > _MAX_DICTIONARY_BYTES:
        raise LimitExceeded(f"a dictionary of {size} bytes, more than {_MAX_DICTIONARY_BYTES}", where=where)
    return max(size, 4096)
