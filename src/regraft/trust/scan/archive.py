"""Rules about containers: names that lead out, headers that disagree, content that hides."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence

from regraft.errors import RegraftError
from regraft.package.archive import Archive, Member, name_problems
from regraft.package.formats.interface import Problem
from regraft.package.package import Package
from regraft.package.reader import Reader
from regraft.record.evidence import Finding, Severity, Where
from regraft.trust.scan.interface import Rule, Site

LEADS_OUT = Rule(
    "RGS-ARC-001",
    Severity.HIGH,
    "A member would be written outside of the folder it is unpacked into",
    "Its name is absolute or climbs with '..': unpacking overwrites files of your own.",
    "Do not unpack it. Report it to where you got it from.",
    cwe=22,
)
LINK_OUT = Rule(
    "RGS-ARC-002",
    Severity.HIGH,
    "A link leads out of the archive",
    "Unpacking and then reading or writing through the link reaches files outside of the package.",
    "Do not unpack it. Report it to where you got it from.",
    cwe=59,
)
AMBIGUOUS = Rule(
    "RGS-ARC-003",
    Severity.UNKNOWN,
    "Readers disagree about what is in the archive",
    "Members that share a name, a second directory, or headers that contradict each other let one tool see "
    "harmless content while the loader opens something else.",
    "Rebuild the archive with a current tool from content that you trust.",
    cwe=436,
)
ENCRYPTED = Rule(
    "RGS-ARC-004",
    Severity.UNKNOWN,
    "A member is flagged as encrypted",
    "It cannot be examined; loaders that ignore the flag read it all the same.",
    "Ask for an archive without encryption.",
)
BOMB = Rule(
    "RGS-ARC-005",
    Severity.UNKNOWN,
    "A member expands far beyond its size",
    "Unpacking it may fill memory or disk.",
    "Open it only under a limit on memory and disk.",
    cwe=409,
)
PREFIXED = Rule(
    "RGS-ARC-006",
    Severity.UNKNOWN,
    "Something else precedes the archive",
    "The file is two things at once: what opens it by its head sees other content than what opens it as an archive.",
    "Ask why; cut the archive out and scan both parts.",
    cwe=436,
)
EXECUTABLE = Rule(
    "RGS-ARC-007",
    Severity.HIGH,
    "A program and an archive in one file",
    "The file is executable, and carries an archive behind the program: starting it runs the program.",
    "Take the model from a file that holds only the model.",
    cwe=506,
)
ODD_NAME = Rule(
    "RGS-ARC-008",
    Severity.UNKNOWN,
    "A name that hides what it is",
    "Control, invisible or direction-changing characters make a name look like another, or cut it short.",
    "Look at the name's characters before you open the file.",
    cwe=451,
)
BROKEN = Rule(
    "RGS-ARC-009",
    Severity.UNKNOWN,
    "A damaged archive",
    "Checksums or sizes are wrong. Some loaders refuse such content, others (torch among them) read it.",
    "Get a sound copy.",
)
CASE_TWIN = Rule(
    "RGS-ARC-010",
    Severity.LOW,
    "Names that differ only in case",
    "On a file system that ignores case the later one replaces the earlier.",
    "Unpack it on a file system that distinguishes case.",
    cwe=178,
)
EXTRA_BYTES = Rule(
    "RGS-ARC-011",
    Severity.LOW,
    "Bytes that belong to no member",
    "They may be padding, a comment, or something stored where few tools look.",
    "Nothing, if you know the tool that wrote it.",
)

DEVICE = Rule(
    "RGS-ARC-012",
    Severity.HIGH,
    "A device or pipe in an archive",
    "Unpacking it with enough rights makes a door to a disk, or a file that whoever reads it waits on for ever.",
    "Do not unpack it. Report it to where you got it from.",
)

_RULE_OF_KIND: dict[str, Rule] = {
    "traversal": LEADS_OUT,
    "absolute-name": LEADS_OUT,
    "duplicate-name": AMBIGUOUS,
    "second-name": AMBIGUOUS,
    "second-directory": AMBIGUOUS,
    "local-header": AMBIGUOUS,
    "overlap": AMBIGUOUS,
    "member-count": AMBIGUOUS,
    "encrypted": ENCRYPTED,
    "bomb": BOMB,
    "prefixed-data": PREFIXED,
    "control-character": ODD_NAME,
    "invisible-character": ODD_NAME,
    "undecodable-name": ODD_NAME,
    "empty-name": ODD_NAME,
    "crc-mismatch": BROKEN,
    "size-mismatch": BROKEN,
    "directory-damaged": BROKEN,
    "truncated": BROKEN,
    "damaged": BROKEN,
    "case-twin": CASE_TWIN,
    "hidden-data": EXTRA_BYTES,
    "trailing-data": EXTRA_BYTES,
}
_RULES_OF_NAMES = (LEADS_OUT, ODD_NAME)
_EXECUTABLE_HEADS = (b"\x7fELF", b"MZ", b"#!", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe")
_MAX_LINK_BYTES = 4096
_GUARDED_PLACE = re.compile(
    r"a link that leads out .*(/etc\b|/root\b|/proc\b|/sys\b|/dev\b|/boot\b|/var/(run|log|spool)\b"
    r"|/\.(ssh|aws|gnupg|kube|docker|netrc|config|bash\w*|profile|git-credentials)\b|\bWindows\b|\bAppData\b)"
)
"""Places where systems and people keep what no model needs. A link to data elsewhere on a disk is no attack."""
_VERIFIED_BYTES = 1 << 20
"""Stored members up to this size are checked against their CRC-32: code and pickles, not weights."""


class ArchiveFamily:
    """Judges the directory of every container, and the names of files."""

    name = "archive"
    judges: frozenset[str] = frozenset({"sealed-archive"})
    rules: Sequence[Rule] = (
        LEADS_OUT,
        LINK_OUT,
        AMBIGUOUS,
        ENCRYPTED,
        BOMB,
        PREFIXED,
        EXECUTABLE,
        ODD_NAME,
        BROKEN,
        CASE_TWIN,
        EXTRA_BYTES,
        DEVICE,
    )

    def examine(self, site: Site) -> Iterator[Finding]:
        """What is odd about one archive."""
        if site.archive is None:
            return
        try:
            for member in site.archive.members:
                if member.method == "stored" and member.size_bytes <= _VERIFIED_BYTES and member.crc32 is not None:
                    site.archive.verify(member)
            problems: Sequence[Problem] = site.archive.audit()
        except RegraftError as error:
            yield BROKEN.finding(f"the headers cannot be checked: {error.what}", site.where())
            problems = site.archive.problems
        for problem in problems:
            yield _of_problem(problem, site)
        links = {member.name.rstrip("/") for member in site.archive.members if member.is_link}
        for member in site.archive.members:
            if member.is_link:
                yield from _of_link(member, site)
            elif member.is_special:
                yield DEVICE.finding("a device, pipe or socket", _place(member, site))
            if links and (above := _link_above(member.name, links)) is not None:
                message = f"is written through the link {above!r}, wherever that leads by then"
                yield LINK_OUT.finding(message, _place(member, site), target=above)

    def examine_package(self, package: Package, sites: Sequence[Site]) -> Iterator[Finding]:
        """What is odd about the names of the files themselves."""
        for entry in package.entries:
            for kind, what in name_problems(entry.path):
                yield _RULE_OF_KIND[kind].finding(what, Where(file=entry.path), kind=kind)
            if entry.obstacle is not None and _GUARDED_PLACE.search(entry.obstacle):
                yield LINK_OUT.finding(entry.obstacle, Where(file=entry.path))
        if package.container is not None:
            yield from _of_container(package.container)


def _of_container(archive: Archive) -> Iterator[Finding]:
    """What is odd about the archive that the package itself lies in; names of files are judged as names."""
    try:
        problems = archive.audit()
    except RegraftError as error:
        yield BROKEN.finding(f"the headers of the package's archive cannot be checked: {error.what}", Where())
        problems = archive.problems
    for problem in problems:
        rule = _RULE_OF_KIND.get(problem.kind or "", BROKEN)
        if rule not in _RULES_OF_NAMES:
            where = Where(file=problem.member, offset=problem.offset)
            yield rule.finding(problem.what, where, kind=problem.kind or "damaged")


def _of_problem(problem: Problem, site: Site) -> Finding:
    rule = _RULE_OF_KIND.get(problem.kind or "", BROKEN)
    if rule is PREFIXED and site.probe.head.startswith(_EXECUTABLE_HEADS):
        rule = EXECUTABLE
    member = problem.member
    if member is not None and site.member is not None:
        member = f"{site.member}!{member}"
    where = Where(site.file, member or site.member, problem.offset)
    return rule.finding(problem.what, where, kind=problem.kind or "damaged")


def _of_link(member: Member, site: Site) -> Iterator[Finding]:
    archive = site.archive
    assert archive is not None
    target = member.target if member.target is not None else _link_text(archive, member)
    if target is None:
        return
    base = "" if archive.kind == "tar" and _is_hard_link(archive, target) else posixpath.dirname(member.name)
    resolved = posixpath.normpath(posixpath.join(base, target.replace("\\", "/")))
    if target.startswith(("/", "\\")) or resolved == ".." or resolved.startswith("../") or target[1:2] == ":":
        yield LINK_OUT.finding(f"a link to {target!r}", _place(member, site), target=target)


def _place(member: Member, site: Site) -> Where:
    return Where(site.file, member.name if site.member is None else f"{site.member}!{member.name}")


def _link_above(name: str, links: set[str]) -> str | None:
    """The link that a member lies below. Who packs a folder does not follow links: nothing lies below them."""
    parts = posixpath.normpath(name).split("/")
    above = ("/".join(parts[:length]) for length in range(1, len(parts)))
    return next((path for path in above if path in links or f"./{path}" in links), None)


def _is_hard_link(archive: Archive, target: str) -> bool:
    return target in archive.by_name  # a hard link names a member from the root of the archive


def _link_text(archive: Archive, member: Member) -> str | None:
    try:
        reader: Reader = archive.open(member)
        return reader.read_at(0, _MAX_LINK_BYTES).decode("utf-8", errors="replace")
    except RegraftError:
        return None
