"""Archives under hostile conditions: members are listed and read, nothing is ever extracted to a path.

An anomaly that one loader refuses and another ignores must not hide content from a scan: members
stay readable as far as they can be, and `problems` names what is odd.
"""

from __future__ import annotations

import functools
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from regraft.errors import Damaged, Unsupported
from regraft.package.formats.interface import Problem
from regraft.package.reader import Reader

_MAX_PROBLEMS = 1_000
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_INVISIBLE = re.compile(r"[\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]")
_UNDECODABLE = re.compile(r"[\ud800-\udfff]")
_DRIVE = re.compile(r"[A-Za-z]:(?!\d)")  # variables are called W:0
_SEVEN_ZIP = b"7z\xbc\xaf\x27\x1c"
_RAR = b"Rar!\x1a\x07"
_TAR_MAGIC_OFFSET = 257


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of an archive, as its directory states it.

    Attributes:
        name: exactly as stored, never normalised; bytes that do not decode are surrogate escapes.
        size_bytes: size of the content.
        compressed_bytes: bytes it takes in the archive.
        method: `stored`, `deflate`, `bzip2`, `lzma`, `lzma2`, `zstd`, `sparse`, or `method-N`.
        offset: where its header begins in the archive's reader.
        crc32: declared checksum; None where the container keeps none.
        is_directory: a folder, no content.
        is_link: a symbolic or hard link.
        target: what the link points to; None for a zip link, whose target is its content.
        is_special: a device, pipe or socket.
        is_encrypted: flagged as encrypted; loaders that ignore the flag still read it.
        modified: local time `YYYY-MM-DDTHH:MM:SS` as stored; None when there is none.
    """

    name: str
    size_bytes: int
    compressed_bytes: int
    method: str = "stored"
    offset: int = 0
    crc32: int | None = None
    is_directory: bool = False
    is_link: bool = False
    target: str | None = None
    is_special: bool = False
    is_encrypted: bool = False
    modified: str | None = None


class Archive(ABC):
    """A directory of members over one reader.

    Attributes:
        kind: `zip`, `tar`, `7z`, or the name of a compression that holds one member.
        reader: the content that `Member.offset` counts in (for a compressed tar, the expanded one).
        members: every entry in the order of the directory, duplicates included.
    """

    def __init__(self, kind: str, reader: Reader, members: Sequence[Member]) -> None:
        self.kind = kind
        self.reader = reader
        self.members = members
        self._problems: dict[Problem, None] = {}

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is odd about the directory, and about the members opened so far. At most 1,000."""
        return tuple(self._problems)

    @functools.cached_property
    def by_name(self) -> Mapping[str, Member]:
        """Members by name; of duplicates the last, as Python's zipfile and tarfile choose."""
        return {member.name: member for member in self.members}

    @abstractmethod
    def open(self, member: Member) -> Reader:
        """The content of a member. Stored content is a section of the archive, nothing is copied.

        Raises:
            Damaged: its bytes cannot be found or expanded.
            LimitExceeded: it expands beyond the bounds of `package.limits`.
            Unsupported: a compression method or kind of entry that cannot be read.
            MissingExtra: the compression needs `regraft[scan]`.
        """

    def open_lazily(self, member: Member) -> Reader:
        """As `open`, but a compressed member is expanded only as far as it is read, up to its declared size.

        What `open` notes about the content is noted once the end was read; `Damaged` and `LimitExceeded`
        may come from the reader.
        """
        return self.open(member)

    def audit(self) -> tuple[Problem, ...]:
        """Check what needs a read per member (local headers, gaps), and return all problems."""
        return self.problems

    def verify(self, member: Member) -> None:  # noqa: B027 - most kinds keep no checksum
        """Read a member whole and note a checksum that is not the declared one; tar keeps no checksums.

        Raises:
            As `open`.
        """

    def read(self, name: str, *, limit: int) -> bytes:
        """The whole content of the member of that name, at most `limit` bytes.

        Raises:
            Damaged: there is none, or as `open` and `Reader.read_all`.
        """
        if name not in self.by_name:
            raise Damaged(f"the archive has no member {name!r}", where=self.reader.where)
        return self.open(self.by_name[name]).read_all(limit=limit)

    def note(self, what: str, *, kind: str, offset: int | None = None, member: str | None = None) -> None:
        """Record a problem once; beyond 1,000 they are dropped."""
        if len(self._problems) < _MAX_PROBLEMS:
            self._problems[Problem(what, offset, member, kind)] = None

    def note_names(self) -> None:
        """Record what is wrong with the names: unsafe, duplicate, or the same but for case."""
        names: set[str] = set()
        folded: dict[str, str] = {}
        for member in self.members:
            name = member.name
            for kind, what in name_problems(name):
                self.note(what, kind=kind, member=name, offset=member.offset)
            first = folded.setdefault(name.casefold(), name)
            if name in names:
                self.note("several members have this name", kind="duplicate-name", member=name)
            elif first != name:
                self.note(f"differs from {first!r} only in case", kind="case-twin", member=name)
            names.add(name)


def name_problems(name: str) -> Iterable[tuple[str, str]]:
    """Why a member name is unsafe: (kind, sentence) pairs; none for an ordinary relative name."""
    path = name.replace("\\", "/")
    if ".." in path and ".." in path.split("/"):
        yield "traversal", "the name leads out of the archive through '..'"
    if path.startswith("/") or _DRIVE.match(path):
        yield "absolute-name", "the name is an absolute path"
    if not name.isprintable() or not name.isascii():
        if _CONTROL.search(name):
            yield "control-character", "the name contains a control character"
        if _INVISIBLE.search(name):
            yield "invisible-character", "the name contains an invisible or direction-changing character"
        if _UNDECODABLE.search(name):
            yield "undecodable-name", "the name is not text in its encoding"
    if not name:
        yield "empty-name", "the name is empty"


def open_zip(reader: Reader) -> Archive:
    """The members of a zip archive, from its central directory alone.

    Raises:
        Damaged: it is no zip archive, or its directory cannot be read.
        LimitExceeded: more members or a larger directory than `package.limits` allows.
    """
    from regraft.package.zip_archive import ZipArchive

    return ZipArchive(reader)


def open_tar(reader: Reader) -> Archive:
    """The members of a tar archive: plain, or in gzip, bzip2, xz, lzma, zstd or lz4 (expanded first, bounded).

    Raises:
        Damaged, LimitExceeded: as `open_zip`; MissingExtra: zstd or lz4 without `regraft[scan]`.
    """
    from regraft.package.compression import expand, sniff
    from regraft.package.tar_archive import TarArchive

    codec = sniff(reader.read_at(0, 32))
    if codec is None or is_tar(reader):
        return TarArchive(reader)
    content = expand(reader, codec, up_to_damage=True)
    archive = TarArchive(content.reader)
    for problem in content.problems:
        archive.note(problem.what, kind=problem.kind or "damaged", offset=problem.offset)
    return archive


def open_compressed(reader: Reader) -> Archive:
    """A compressed stream as an archive with one member; it is expanded here, bounded.

    Raises:
        Damaged: no compression that is known, or it cannot be expanded.
        LimitExceeded, MissingExtra: as `Archive.open`.
    """
    from regraft.package.compression import CompressedArchive, sniff

    codec = sniff(reader.read_at(0, 32))
    if codec is None:
        raise Damaged("not a compressed stream that is known", where=reader.where)
    return CompressedArchive(reader, codec)


def open_archive(reader: Reader) -> Archive | None:
    """Whatever archive this is; None when it is none.

    Raises:
        Unsupported: recognised, but its members cannot be read here (rar, methods of 7z that Python lacks).
        Damaged, LimitExceeded, MissingExtra: as the function of its kind.
    """
    from regraft.package.compression import peek, sniff

    head = reader.read_at(0, 512)
    if head.startswith(_SEVEN_ZIP):
        from regraft.package.seven_zip_archive import SevenZipArchive

        return SevenZipArchive(reader)
    if head.startswith(_RAR):
        raise Unsupported(
            "members of a rar archive cannot be read", where=reader.where, hint="unpack it, then look at the files"
        )
    if is_tar(reader):
        return open_tar(reader)
    codec = sniff(head)
    if codec is not None:
        return open_tar(reader) if is_tar_head(peek(reader, codec, 512)) else open_compressed(reader)
    if head.startswith(b"PK"):
        return open_zip(reader)
    try:
        return open_zip(reader)
    except Damaged:
        return None


def is_tar(reader: Reader) -> bool:
    """Does the content begin with a tar header whose checksum is right?"""
    return is_tar_head(reader.read_at(0, 512))


def is_tar_head(block: bytes) -> bool:
    """Is this 512-byte block a tar header? By its checksum, which old tars without a magic have too."""
    if len(block) < 512 or not any(block[:100]):
        return False
    digits = block[148:156].strip(b" \x00")
    if not digits or not all(48 <= digit < 56 for digit in digits):
        return False
    return int(digits, 8) == sum(block[:148]) + 8 * 32 + sum(block[156:])
