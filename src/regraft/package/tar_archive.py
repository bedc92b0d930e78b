"""Tar archives through tarfile, with bounded reads and every escape of its parser closed."""

from __future__ import annotations

import io
import tarfile
from datetime import UTC, datetime
from typing import IO, cast

from regraft.errors import Damaged, LimitExceeded, RegraftError, Unsupported
from regraft.package.archive import Archive, Member
from regraft.package.limits import MAX_MEMBERS
from regraft.package.reader import Reader

_MAX_HEADER_BYTES = 1 << 20
"""A pax or GNU header that tarfile reads in one piece."""


class TarArchive(Archive):
    """See `archive.open_tar`; `reader` holds the uncompressed archive."""

    def __init__(self, reader: Reader) -> None:
        super().__init__("tar", reader, ())
        self._data_offsets: dict[int, int] = {}
        self.members = self._walk()
        self.note_names()

    def open(self, member: Member) -> Reader:
        """See `Archive.open`."""
        where = f"{self.reader.where}!{member.name}"
        if member.method != "stored":
            raise Unsupported("a sparse member cannot be read", where=where)
        return self.reader.section(self._data_offsets[member.offset], member.size_bytes, where=where)

    def _walk(self) -> list[Member]:
        members: list[Member] = []
        try:
            tar = tarfile.TarFile(fileobj=_bounded_file(self.reader), errorlevel=2)
            while (info := tar.next()) is not None:
                if len(members) >= MAX_MEMBERS:
                    raise LimitExceeded(f"more than {MAX_MEMBERS} members", where=self.reader.where)
                if (members and info.offset <= members[-1].offset) or info.size < 0:
                    raise Damaged("a tar header points backwards", where=self.reader.where)
                members.append(self._member(info))
        except RegraftError:
            raise
        except Exception as error:  # TarError, ValueError, OverflowError, RecursionError, OSError, KeyError …
            if not members:
                raise Damaged(f"not a readable tar archive: {error}", where=self.reader.where) from error
            self.note(f"the archive is damaged: {error}", kind="directory-damaged", offset=members[-1].offset)
        return members

    def _member(self, info: tarfile.TarInfo) -> Member:
        name = info.name
        is_link = info.issym() or info.islnk()
        is_sparse = info.sparse is not None
        size = info.size if info.isreg() else 0
        if not is_sparse and info.offset_data + size > self.reader.size:
            self.note("the archive ends within this member", kind="truncated", member=name, offset=info.offset)
        self._data_offsets[info.offset] = info.offset_data
        return Member(
            name=name,
            size_bytes=size,
            compressed_bytes=size,
            method="sparse" if is_sparse else "stored",
            offset=info.offset,
            is_directory=info.isdir(),
            is_link=is_link,
            target=info.linkname if is_link else None,
            is_special=not (info.isreg() or info.isdir() or is_link),
            modified=_timestamp(info.mtime),
        )


class _BoundedFile(io.BufferedReader):
    """tarfile reads a pax header by its declared size; beyond 1 MiB that is an attack."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0 or size > _MAX_HEADER_BYTES:
            raise LimitExceeded(f"a tar header of {size} bytes, more than {_MAX_HEADER_BYTES}")
        return super().read(size)


def _bounded_file(reader: Reader) -> IO[bytes]:
    raw = cast("io.BufferedReader", reader.as_file()).detach()
    return _BoundedFile(raw, buffer_size=8 << 10)


def _timestamp(seconds: float) -> str | None:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return None
