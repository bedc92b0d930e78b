"""Compressed streams, expanded in bounded pieces: gzip, zlib, bzip2, xz, lzma, zstd, lz4."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import msgspec

from regraft.errors import Bomb, Damaged, MissingExtra, RegraftError, StoreError, Unsupported
from regraft.package.archive import Archive, Member
from regraft.package.formats.interface import Problem
from regraft.package.limits import MAX_EXPANSION_RATIO
from regraft.package.reader import BytesReader, FileReader, Meter, Reader

_PIECE_BYTES = 256 << 10
_IN_MEMORY_BYTES = 8 << 20
_RATIO_FREE_BYTES = 16 << 20
"""Output below which the expansion ratio does not matter."""
_MAX_WINDOW_BYTES = 256 << 20
"""Memory that a stream may demand of its decoder."""


class Codec(StrEnum):
    """A compression, under the name that members and archives carry."""

    GZIP = "gzip"
    ZLIB = "zlib"
    DEFLATE = "deflate"
    BZIP2 = "bzip2"
    XZ = "xz"
    LZMA = "lzma"
    ZSTD = "zstd"
    LZ4 = "lz4"


_MAGIC: tuple[tuple[re.Pattern[bytes], Codec], ...] = (
    (re.compile(rb"\x1f\x8b\x08"), Codec.GZIP),
    (re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)"), Codec.BZIP2),
    (re.compile(rb"\xfd7zXZ\x00"), Codec.XZ),
    (re.compile(rb"(?:[\x50-\x5f]\x2a\x4d\x18|\x28\xb5\x2f\xfd)", re.DOTALL), Codec.ZSTD),
    (re.compile(rb"\x04\x22\x4d\x18"), Codec.LZ4),
    (re.compile(rb"\x5d\x00\x00.[\x00-\x08](?:\xff{8}|.{4}.\x00\x00\x00)", re.DOTALL), Codec.LZMA),
    (re.compile(rb"\x78[\x01\x5e\x9c\xda]"), Codec.ZLIB),
)


def sniff(head: bytes) -> Codec | None:
    """The compression that the first bytes announce; zlib by two bytes only, so `peek` before believing it."""
    return next((codec for pattern, codec in _MAGIC if pattern.match(head)), None)


class Expanded(msgspec.Struct, frozen=True):
    """Expanded content, its CRC-32, and what was odd about the stream."""

    reader: Reader
    crc32: int
    problems: tuple[Problem, ...] = ()


def peek(reader: Reader, codec: Codec, length: int) -> bytes:
    """Up to `length` bytes from the beginning of the expanded content; empty where it cannot be expanded."""
    head = b""
    try:
        for piece in expanded_pieces(reader, codec, []):
            head += piece
            if len(head) >= length:
                break
    except (Damaged, MissingExtra, Unsupported):
        pass
    return head[:length]


def expand(
    reader: Reader, codec: Codec, *, where: str | None = None, prefix: bytes = b"", up_to_damage: bool = False
) -> Expanded:
    """Expand a stream into memory up to 8 MiB, into an unlinked temporary file beyond.

    Args:
        reader: the compressed bytes.
        where: how errors name the expanded content; default: as the reader.
        prefix: bytes to feed to the decoder before the content.
        up_to_damage: of a damaged stream return what stands before the damage, as a reader that reads on demand (an
            unpickler) would have had it; the damage is a problem of the kind `truncated`.
    Raises:
        Damaged: the stream is corrupt or ends early.
        Bomb: more than `MAX_EXPANSION_RATIO` times its size. LimitExceeded: more than the budget of the examination.
        MissingExtra: zstd and lz4 without `regraft[scan]`.
    """
    problems: list[Problem] = []
    pieces = expanded_pieces(reader, codec, problems, prefix)
    if up_to_damage:
        pieces = _up_to_damage(pieces, problems)
    content = spooled(pieces, packed=reader, where=where or reader.where)
    return Expanded(content.reader, content.crc32, tuple(problems))


def _up_to_damage(pieces: Iterator[bytes], problems: list[Problem]) -> Iterator[bytes]:
    count = 0
    try:
        for piece in pieces:
            count += len(piece)
            yield piece
    except Damaged as damage:
        if not count:
            raise
        problems.append(Problem(f"{damage.what}; {count} bytes before that could be read", kind="truncated"))


def spooled(pieces: Iterator[bytes], *, packed: Reader, where: str) -> Expanded:
    """Pieces of expanded content as a reader, bounded by the size of what they were expanded from.

    Raises:
        Bomb, LimitExceeded: as `expand`.
    """
    import zlib

    spool = _Spool(where, Meter(packed.meter))
    crc = 0
    try:
        for piece in pieces:
            spool.write(piece)
            if spool.size > max(_RATIO_FREE_BYTES, MAX_EXPANSION_RATIO * packed.size):
                raise Bomb(f"expands to more than {MAX_EXPANSION_RATIO} times its size", where=where)
            crc = zlib.crc32(piece, crc)
        return Expanded(spool.reader(), crc)
    finally:
        spool.close()


class CompressedArchive(Archive):
    """A compressed stream seen as an archive with one member, named like the stream without its suffix."""

    def __init__(self, reader: Reader, codec: Codec) -> None:
        self._content = expand(reader, codec, up_to_damage=True)
        name = re.split(r"[/\\!]", reader.where)[-1]
        stem = name.rsplit(".", 1)[0] if "." in name[1:] else name
        size = self._content.reader.size
        member = Member(name=stem or "content", size_bytes=size, compressed_bytes=reader.size, method=codec.value)
        super().__init__(codec.value, reader, (member,))
        for problem in self._content.problems:
            self.note(problem.what, kind=problem.kind or "damaged", offset=problem.offset)

    def open(self, member: Member) -> Reader:
        """The expanded content; every call returns the same reader."""
        return self._content.reader


class _Spool:
    def __init__(self, where: str, meter: Meter) -> None:
        self.size = 0
        self._where = where
        self._meter = meter
        self._pieces: list[bytes] = []
        self._file: Any = None

    def write(self, piece: bytes) -> None:
        self.size += len(piece)
        self._meter.add_expanded(len(piece), where=self._where)
        self._pieces.append(piece)
        if self._file is None and self.size > _IN_MEMORY_BYTES:
            self._file = tempfile.NamedTemporaryFile(prefix="regraft-")  # noqa: SIM115 - lives until close()
        if self._file is not None:
            self._flush()

    def _flush(self) -> None:
        try:
            self._file.writelines(self._pieces)
            self._file.flush()
        except OSError as error:
            raise StoreError(
                f"no room for expanded content: {error.strerror}",
                where=tempfile.gettempdir(),
                hint="free some space, or point TMPDIR at a larger disk",
            ) from error
        self._pieces.clear()

    def reader(self) -> Reader:
        if self._file is None:
            return BytesReader(b"".join(self._pieces), where=self._where, meter=self._meter)
        return FileReader(Path(self._file.name), where=self._where, meter=self._meter)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()  # also unlinks; a reader keeps its own descriptor


class _Decoder(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes | None: ...  # lz4 says None for nothing
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Zlib:
    """zlib's decoder with the interface of bz2's and lzma's."""

    def __init__(self, window_bits: int) -> None:
        import zlib

        self._decoder = zlib.decompressobj(window_bits)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._decoder.eof

    @property
    def unused_data(self) -> bytes:
        return self._decoder.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        piece = self._decoder.decompress(self._decoder.unconsumed_tail + data, max_length)
        self.needs_input = not self._decoder.unconsumed_tail and len(piece) < max_length
        return piece


def _decoder(codec: Codec, where: str) -> _Decoder:
    if codec in (Codec.GZIP, Codec.ZLIB, Codec.DEFLATE):
        return _Zlib({Codec.GZIP: 31, Codec.ZLIB: 15, Codec.DEFLATE: -15}[codec])
    if codec is Codec.BZIP2:
        import bz2

        return bz2.BZ2Decompressor()
    if codec in (Codec.XZ, Codec.LZMA):
        import lzma

        form = lzma.FORMAT_XZ if codec is Codec.XZ else lzma.FORMAT_ALONE
        return lzma.LZMADecompressor(form, memlimit=_MAX_WINDOW_BYTES)
    try:
        import lz4.frame
    except ImportError as error:
        raise MissingExtra("lz4", extra="scan", where=where) from error
    decoder: _Decoder = lz4.frame.LZ4FrameDecompressor()
    return decoder


def expanded_pieces(reader: Reader, codec: Codec, problems: list[Problem], prefix: bytes = b"") -> Iterator[bytes]:
    """The expanded content in pieces of at most 256 KiB, without any bound on their sum; see `expand`.

    Raises:
        Damaged: whatever the decoder raises becomes this. MissingExtra as `expand`.
    """
    try:
        if codec is Codec.ZSTD:
            yield from _zstd_pieces(reader)
        else:
            yield from _stream_pieces(reader, codec, problems, prefix)
    except (RegraftError, GeneratorExit):
        raise
    except Exception as error:  # zlib.error, OSError, LZMAError, RuntimeError, ZstdError: no common base
        raise Damaged(f"the {codec} stream is corrupt: {error}", where=reader.where) from error


def _stream_pieces(reader: Reader, codec: Codec, problems: list[Problem], prefix: bytes) -> Iterator[bytes]:
    decoder = _decoder(codec, reader.where)
    position, data = 0, prefix
    while True:
        piece = decoder.decompress(data, _PIECE_BYTES)
        data = b""
        if piece:
            yield piece
        if decoder.eof:
            unused = decoder.unused_data or b""
            data = unused + reader.read_at(position, _PIECE_BYTES)
            position += len(data) - len(unused)
            rest = data.lstrip(b"\x00")
            if codec in (Codec.DEFLATE, Codec.ZLIB, Codec.LZMA) or sniff(rest) is not codec:
                if rest:
                    start = position - len(rest)
                    problems.append(Problem("bytes follow the compressed stream", start, None, "trailing-data"))
                return
            decoder, data = _decoder(codec, reader.where), rest
        elif decoder.needs_input:
            data = reader.read_at(position, _PIECE_BYTES)
            position += len(data)
            if not data:
                raise Damaged(f"the {codec} stream ends before its end mark", where=reader.where)


def _zstd_pieces(reader: Reader) -> Iterator[bytes]:
    try:
        import zstandard
    except ImportError as error:
        raise MissingExtra("zstandard", extra="scan", where=reader.where) from error
    decoder = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
    with decoder.stream_reader(reader.as_file(), read_across_frames=True) as stream:
        while piece := stream.read(_PIECE_BYTES):
            yield piece
