"""The walk over a package: every file, and every member of every container in it, within limits."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from regraft.errors import Bomb, Damaged, LimitExceeded, RegraftError, Unsupported
from regraft.package.archive import Archive, Member, open_archive
from regraft.package.compression import Codec, sniff
from regraft.package.formats import Format, Probe, recognise
from regraft.package.formats.iree import is_only_code
from regraft.package.limits import MAX_ARCHIVE_DEPTH, MAX_MEMBERS
from regraft.package.package import Package
from regraft.package.reader import Reader
from regraft.package.sources.interface import Entry
from regraft.record.evidence import Finding, Severity, Where
from regraft.trust.scan.descriptions import forget
from regraft.trust.scan.interface import Rule, Site, WeightCount

UNOPENED = Rule(
    "RGS-WLK-001",
    Severity.UNKNOWN,
    "Content that could not be looked at",
    "What cannot be read cannot be judged; a loader that is less careful may still read it.",
    "Get a sound copy, unpack the container yourself, or install the extra that is named.",
)
BEYOND_LIMITS = Rule(
    "RGS-WLK-002",
    Severity.UNKNOWN,
    "Content beyond the limits of the scan",
    "Nesting, member count or expanded size go beyond what a scan looks at; something may hide there.",
    "Unpack the container under limits of your own and scan what comes out.",
)
BOMB = Rule(
    "RGS-WLK-003",
    Severity.HIGH,
    "An archive that is made to fill memory or disk",
    "It expands to more than a thousand times its size. Nothing but long runs of one byte packs that well.",
    "Do not unpack it. Report it to where you got it from.",
    cwe=409,
)
RULES = (UNOPENED, BEYOND_LIMITS, BOMB)

_SEALED = {
    b"!<arch>\ndebian-binary": "Debian package",
    b"\xed\xab\xee\xdb": "RPM package",
    b"MSCF\x00\x00\x00\x00": "cabinet",
    b"hsqs": "squashfs image",
    b"xar!": "xar archive",
    b"07070": "cpio archive",
}
"""Containers that can be recognised, not opened."""
FAULTS = (RecursionError, MemoryError, ValueError, LookupError, TypeError, ArithmeticError, AttributeError)
"""What a parser with a fault raises. It ends in a finding, whatever the bytes, and never in a pass."""
_SMALL_BYTES = 64 << 10
_RAW_STORAGE = re.compile(r"(^|/)(data|tensors|weights|constants|\.data)/([\w.-]*\d[\w.-]*)$")
_OF_ARRAYS = frozenset(
    {"npz", "joblib", "keras-v3", "skops", "torch-zip", "torchscript", "torch-package", "torch-export", "aotinductor"}
)
"""Formats whose archives hold arrays, which may well be nothing but zeros."""
RAW_HOLDERS = frozenset({"torch-zip", "torchscript", "torch-package", "torch-export", "aotinductor"})
"""Formats whose members of plain numbers are no sites of their own."""


class OnDemandReader(Reader):
    """A reader that opens its content when it is read and can be closed in between: it holds no descriptor.

    A small content is read at once: one file is looked at some fifteen times.
    """

    def __init__(self, opened: Reader, reopen: Callable[[], Reader]) -> None:
        super().__init__(opened.size, where=opened.where, meter=opened.meter)
        self._inner: Reader | None = opened
        self._reopen = reopen
        self._whole: bytes | None = None

    def _fetch(self, offset: int, length: int) -> bytes:
        if self._whole is None and self.size <= _SMALL_BYTES:
            self._whole = self._fetched(0, self.size)
        if self._whole is not None:
            return self._whole[offset : offset + length]
        return self._fetched(offset, length)

    def _fetched(self, offset: int, length: int) -> bytes:
        if self._inner is None:
            self._inner = self._reopen()
            if self._inner.size != self.size:
                raise Damaged("the content changed while it was examined", where=self.where)
        return self._inner._fetch(offset, length)

    def close(self) -> None:
        """Let go of the content; the next read opens it again."""
        self._whole = None
        if self._inner is not None:
            self._inner.close()
            self._inner = None


class Walk:
    """One pass over a package.

    Args:
        package: whose files are visited.
        weights: every site says that the numbers of its tensors are to be read too.
    Attributes:
        findings: what could not be opened, and why.
        files, members: how many were seen so far.
        weights: counts the tensors that were read; None where none are to be.
    """

    def __init__(self, package: Package, *, weights: bool = False) -> None:
        self.findings: list[Finding] = []
        self.files = 0
        self.members = 0
        self._package = package
        self.weights = WeightCount() if weights else None

    def sites(self) -> Iterator[Site]:
        """Every site. A site's archive and descriptors are released when the next one is asked for."""
        for entry in self._package.entries:
            self.files += 1
            if entry.obstacle is not None:
                self._unopened(entry.obstacle, Where(file=entry.path))
                continue
            try:
                yield from self._file(entry)
            except (RegraftError, OSError) as error:
                self._unopened(_reason(error), Where(file=entry.path))

    def _file(self, entry: Entry) -> Iterator[Site]:
        def reopen() -> Reader:
            return self._package.open(entry.path)

        probe = Probe(OnDemandReader(reopen(), reopen), entry.path)
        yield from self._visit(entry.path, None, probe, None, 0)

    def _visit(self, file: str, member: str | None, probe: Probe, inside: str | None, depth: int) -> Iterator[Site]:
        where = Where(file=file, member=member)
        try:
            kind = recognise(probe)
        except FAULTS as fault:
            self._unopened(f"it cannot be told what it is: {type(fault).__name__}: {str(fault)[:100]}", where)
            kind = None
        archive = self._archive(probe, kind, where)
        site = Site(file, member, probe, kind, archive, inside, archive is not None, self.weights)
        if archive is not None:  # first the members: opening them tells more about the archive
            yield from self._members(file, member, archive, kind, depth)
        yield site
        forget(site)
        probe.reader.close()

    def _archive(self, probe: Probe, kind: Format | None, where: Where) -> Archive | None:
        sealed = next((title for magic, title in _SEALED.items() if probe.head.startswith(magic)), None)
        if sealed is not None:
            self._unopened(f"members of a {sealed} cannot be read here", where)
            return None
        if kind is not None and kind.name == "iree" and probe.zip is not None and is_only_code(probe.zip):
            return None  # its runtime maps it as one piece: its parts are the code that the whole is judged for
        if probe.head.startswith(b"PK") and probe.zip is not None:
            return probe.zip  # opened when its format was recognised
        try:
            return open_archive(probe.reader)
        except Damaged as damage:
            looks_like_zlib = sniff(probe.head) is Codec.ZLIB  # two bytes prove nothing
            if not (looks_like_zlib and not isinstance(damage, LimitExceeded)):
                self._unreadable(damage, where, kind.name if kind is not None else None)
        except (RegraftError, OSError) as error:
            self._unopened(_reason(error), where)
        return None

    def _members(
        self, file: str, parent: str | None, archive: Archive, kind: Format | None, depth: int
    ) -> Iterator[Site]:
        if depth >= MAX_ARCHIVE_DEPTH:
            self._unopened(f"more than {MAX_ARCHIVE_DEPTH} archives within archives", Where(file, parent), beyond=True)
            return
        kind_name = kind.name if kind is not None else archive.kind
        for member in archive.members:
            self.members += 1
            if self.members > MAX_MEMBERS:
                self._unopened(f"more than {MAX_MEMBERS} members in all", Where(file, parent), beyond=True)
                return
            if member.is_directory or (kind_name in RAW_HOLDERS and _RAW_STORAGE.search(member.name)):
                continue
            name = member.name if parent is None else f"{parent}!{member.name}"
            try:
                yield from self._member(file, name, archive, member, kind_name, depth)
            except (RegraftError, OSError) as error:
                self._unreadable(error, Where(file, name), kind_name)

    def _member(
        self, file: str, name: str, archive: Archive, member: Member, inside: str, depth: int
    ) -> Iterator[Site]:
        if member.is_link and archive.kind != "zip":
            return  # judged by its target, in the archive family; it has no content of its own
        if member.is_special:
            raise Unsupported("a device, pipe or socket")

        def reopen() -> Reader:
            return archive.open_lazily(member)

        yield from self._visit(file, name, Probe(OnDemandReader(reopen(), reopen), name), inside, depth + 1)

    def _unreadable(self, error: Exception, where: Where, holder: str | None) -> None:
        if isinstance(error, Bomb) and holder not in _OF_ARRAYS:
            self.findings.append(BOMB.finding(_reason(error), where))
        else:
            self._unopened(_reason(error), where, beyond=isinstance(error, LimitExceeded))

    def _unopened(self, reason: str, where: Where, *, beyond: bool = False) -> None:
        rule = BEYOND_LIMITS if beyond else UNOPENED
        self.findings.append(rule.finding(f"not examined: {reason}", where, reason=reason))


def _reason(error: Exception) -> str:
    if isinstance(error, RegraftError):
        return f"{error.what} ({error.hint})" if error.hint else error.what
    return f"{type(error).__name__}: {getattr(error, 'strerror', None) or error}"
