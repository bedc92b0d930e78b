"""The header of a 7z archive: packed streams, the coders that they pass, and the files in what comes out.

Source: 7zFormat.txt of the 7-Zip SDK 24.
"""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from regraft.errors import Damaged, LimitExceeded, Unsupported
from regraft.package.formats.cursor import Cursor
from regraft.package.limits import MAX_MEMBERS

START_BYTES = 32
"""The start header, from whose end positions are counted."""
END, HEADER, PROPERTIES, MORE_STREAMS, STREAMS, FILES, _PACKED, _FOLDERS, _PARTS = range(9)
_SIZE, _CRC, _FOLDER, _UNPACK_SIZES, _PART_COUNT, _EMPTY_STREAM, _EMPTY_FILE = range(9, 16)
_NAMES, _MODIFIED, _ATTRIBUTES, ENCODED_HEADER = 0x11, 0x14, 0x15, 0x17
COPY, LZMA, LZMA2, DEFLATE, BZIP2, ZSTD = "00", "030101", "21", "040108", "040202", "04f71101"
_METHODS = {COPY: "stored", LZMA: "lzma", LZMA2: "lzma2", DEFLATE: "deflate", BZIP2: "bzip2", ZSTD: "zstd"}
_MAX_CODERS = 4
_EPOCH_1601 = 11_644_473_600


class Coder(msgspec.Struct, frozen=True):
    """A compression or filter, by its number in hexadecimal."""

    method: str
    properties: bytes


class Folder(msgspec.Struct):
    """A stream of compressed bytes and the coders that it passes, from the packed side.

    Attributes:
        last: which of its coders, in the order of the header, puts out the content.
        parts: size and CRC-32 of each file in what it expands to.
    """

    coders: tuple[Coder, ...]
    last: int = 0
    size: int = 0
    crc32: int | None = None
    packed_at: int = 0
    packed_size: int = 0
    parts: list[tuple[int, int | None]] = []

    @property
    def method(self) -> str:
        """The word for the way in which its files are stored."""
        last = self.coders[0].method
        return _METHODS.get(last, f"method-{last}") if len(self.coders) == 1 else f"{_METHODS.get(last, last)}-filtered"


class File(msgspec.Struct):
    """One entry; `is_empty` is a file without content, where neither is set it is a folder."""

    name: str = ""
    has_content: bool = True
    is_empty: bool = False
    attributes: int = 0
    modified: str | None = None


def read_number(cursor: Cursor) -> int:
    """A number as 7z packs it: the leading ones of the first byte say how many bytes follow. Damaged: they do not."""
    first = cursor.uint(1)
    length = 0
    while length < 8 and first & (0x80 >> length):
        length += 1
    low = cursor.uint(length)
    return low + ((first & (0x7F >> length)) << (8 * length)) if length < 8 else low


def _count(cursor: Cursor) -> int:
    count = read_number(cursor)
    if count > MAX_MEMBERS:
        raise LimitExceeded(f"{count} parts of a 7z archive, more than {MAX_MEMBERS}")
    return count


def _flags(cursor: Cursor, count: int) -> list[bool]:
    raw = cursor.take((count + 7) // 8)
    return [bool(raw[i // 8] & (0x80 >> i % 8)) for i in range(count)]


def _optional_flags(cursor: Cursor, count: int) -> list[bool]:
    return [True] * count if cursor.uint(1) else _flags(cursor, count)


def _digests(cursor: Cursor, count: int) -> list[int | None]:
    return [cursor.uint(4) if known else None for known in _optional_flags(cursor, count)]


def read_streams(cursor: Cursor) -> list[Folder]:
    """Packed streams, folders and what lies in them.

    Raises:
        Damaged: the header ends early or contradicts itself. LimitExceeded: more parts than an archive may have.
        Unsupported: streams that no archiver for files writes.
    """
    position, sizes = START_BYTES, list[int]()
    folders: list[Folder] = []
    while (kind := cursor.uint(1)) != END:
        if kind == _PACKED:
            position += read_number(cursor)
            sizes = _packed_sizes(cursor)
        elif kind == _FOLDERS:
            folders = _folders(cursor)
        elif kind == _PARTS:
            _parts(cursor, folders)
        else:
            raise Damaged(f"a part of the kind {kind} among the streams of a 7z header")
    if len(sizes) < len(folders):
        raise Damaged("fewer packed streams than folders in a 7z header")
    for folder, size in zip(folders, sizes, strict=False):
        folder.packed_at, folder.packed_size = position, size
        position += size
        folder.parts = folder.parts or [(folder.size, folder.crc32)]
    return folders


def _packed_sizes(cursor: Cursor) -> list[int]:
    count, sizes = _count(cursor), list[int]()
    while (kind := cursor.uint(1)) != END:
        if kind == _SIZE:
            sizes = [read_number(cursor) for _ in range(count)]
        elif kind == _CRC:
            _digests(cursor, count)
        else:
            raise Damaged(f"a part of the kind {kind} among the packed streams of a 7z header")
    return sizes


def _folders(cursor: Cursor) -> list[Folder]:
    if cursor.uint(1) != _FOLDER:
        raise Damaged("a 7z header without its folders")
    count = _count(cursor)
    if cursor.uint(1):
        raise Unsupported("a 7z header whose folders lie elsewhere")
    folders = [_folder(cursor) for _ in range(count)]
    while (kind := cursor.uint(1)) != END:
        if kind == _UNPACK_SIZES:
            for folder in folders:  # the sizes of all coders; the last on the way out is that of the content
                sizes = [read_number(cursor) for _ in folder.coders]
                folder.size = sizes[folder.last]
        elif kind == _CRC:
            for folder, crc in zip(folders, _digests(cursor, count), strict=True):
                folder.crc32 = crc
        else:
            raise Damaged(f"a part of the kind {kind} among the folders of a 7z header")
    return folders


def _folder(cursor: Cursor) -> Folder:
    """Coders in the order in which packed bytes pass them."""
    count = read_number(cursor)
    if not 1 <= count <= _MAX_CODERS:
        raise Unsupported(f"a 7z folder with {count} coders")
    coders = []
    for _ in range(count):
        flags = cursor.uint(1)
        if flags & 0x90:
            raise Unsupported("a 7z coder with several streams")
        method = cursor.take(flags & 0x0F).hex()
        coders.append(Coder(method, cursor.take(_count(cursor)) if flags & 0x20 else b""))
    feeds = {read_number(cursor): read_number(cursor) for _ in range(count - 1)}  # what a coder takes in ← whose output
    after = {source: taker for taker, source in feeds.items()}
    order = [next((i for i in range(count) if i not in feeds), 0)]
    while (taker := after.get(order[-1])) is not None and taker < count and taker not in order:
        order.append(taker)
    if len(order) != count:
        raise Damaged("the coders of a 7z folder are no chain")
    return Folder(tuple(coders[i] for i in order), order[-1])


def _parts(cursor: Cursor, folders: list[Folder]) -> None:
    counts = [1] * len(folders)
    kind = cursor.uint(1)
    if kind == _PART_COUNT:
        counts = [_count(cursor) for _ in folders]
        kind = cursor.uint(1)
    sizes = []
    for folder, count in zip(folders, counts, strict=True):
        stated = [read_number(cursor) for _ in range(max(count - 1, 0))] if kind == _SIZE else []
        rest = folder.size - sum(stated)
        if rest < 0 or (count > 1 and kind != _SIZE):
            raise Damaged("files of a 7z archive are larger than what holds them")
        sizes.append([*stated, rest] if count else [])
    if kind == _SIZE:
        kind = cursor.uint(1)
    unknown = [len(own) for own, folder in zip(sizes, folders, strict=True) if len(own) != 1 or folder.crc32 is None]
    digests = iter(_digests(cursor, sum(unknown)) if kind == _CRC else [None] * sum(unknown))
    for own, folder in zip(sizes, folders, strict=True):
        is_known = len(own) == 1 and folder.crc32 is not None
        folder.parts = [(size, folder.crc32 if is_known else next(digests)) for size in own]
    while kind != END:
        kind = cursor.uint(1)


def read_files(cursor: Cursor, where: str) -> list[File]:
    """The entries of the archive, in the order in which those with content share the folders' parts.

    Raises:
        Damaged, LimitExceeded: as `read_streams`.
    """
    files = [File() for _ in range(_count(cursor))]
    empty: list[File] = []
    while (kind := cursor.uint(1)) != END:
        part = Cursor(cursor.take(read_number(cursor)), where=where)
        if kind == _EMPTY_STREAM:
            for file, is_empty in zip(files, _flags(part, len(files)), strict=True):
                file.has_content = not is_empty
            empty = [file for file in files if not file.has_content]
        elif kind == _EMPTY_FILE:
            for file, is_file in zip(empty, _flags(part, len(empty)), strict=True):
                file.is_empty = is_file
        elif kind == _NAMES:
            part.skip(1)
            names = part.take(part.left).decode("utf-16-le", "surrogatepass").split("\0")
            for file, name in zip(files, names, strict=False):
                file.name = name
        elif kind in (_MODIFIED, _ATTRIBUTES):
            known = _optional_flags(part, len(files))
            part.skip(1)
            for file in (file for file, is_known in zip(files, known, strict=True) if is_known):
                if kind == _ATTRIBUTES:
                    file.attributes = part.uint(4)
                else:
                    file.modified = _timestamp(part.uint(8))
    return files


def _timestamp(ticks: int) -> str | None:
    try:
        return datetime.fromtimestamp(ticks // 10_000_000 - _EPOCH_1601, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return None
