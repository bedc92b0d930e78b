"""A file of what has been reviewed, with reasons, and with until when or for which bytes a review counts.

allow:
  - entry: RGS-COD-004:modeling_custom.py
    reason: read on 2026-11-26, builds a network and nothing else
    until: 2027-05-01
    sha256: 2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import msgspec

from regraft.errors import NotFound, UsageError
from regraft.record.bounded_yaml import MAX_YAML_BYTES, YamlError, parse_yaml
from regraft.record.evidence import JSON, Evidence, Finding, Severity, Where
from regraft.trust.scan.interface import Rule

EXPIRED = Rule(
    "RGS-PKG-006",
    Severity.INFO,
    "A review has run out",
    "The entry of the allow file that covers this names a day that has passed: the finding counts again.",
    "Look at it again, then set a new day.",
)
UNUSED = Rule(
    "RGS-PKG-007",
    Severity.INFO,
    "An entry of the allow file that covers nothing",
    "What it allowed is no longer there; the entry would silently cover the next thing of that name.",
    "Remove the entry.",
)
CHANGED_SINCE = Rule(
    "RGS-PKG-008",
    Severity.INFO,
    "What was reviewed has changed",
    "The entry of the allow file names the digest of the bytes that were read; the file has others now: the finding "
    "counts again.",
    "Look at what changed, then set the new digest.",
)
_HALF_A_YEAR = 182
_KEYS = ("entry", "reason", "until", "sha256")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_REASONLESS = re.compile(r"^\W*(todo|tbd|fixme|xxx|none|n/a)?\W*$", re.IGNORECASE)


class Allowance(msgspec.Struct, frozen=True):
    """What a person has reviewed.

    Attributes:
        entry: as `--allow` takes it: a global, a rule, or a rule in one file.
        reason: why it is all right.
        until: the last day on which it counts; None: it never runs out.
        sha256: of the file that was read; None: any bytes will do.
        line: in the file, from 1.
    """

    entry: str
    reason: str
    until: date | None = None
    sha256: str | None = None
    line: int | None = None

    def flaw(self, today: date, sha256: str | None) -> Finding | None:
        """Why the review of a file with this digest does not count any more; None where it does."""
        where = Where(line=self.line)
        if self.until is not None and today > self.until:
            return EXPIRED.finding(f"{self.entry} was allowed until {self.until}", where, entry=self.entry)
        if self.sha256 is not None and self.sha256 != sha256:
            return CHANGED_SINCE.finding(f"{self.entry} was allowed for other bytes", where, entry=self.entry)
        return None


def read_allow_file(path: Path) -> tuple[Allowance, ...]:
    """The entries of an allow file.

    Raises:
        NotFound: there is no such file.
        UsageError: it is no allow file; the message names the line.
    """
    try:
        text = path.read_bytes()[: MAX_YAML_BYTES + 1].decode("utf-8")
    except (FileNotFoundError, IsADirectoryError) as error:
        raise NotFound("there is no allow file at this path", where=str(path)) from error
    except (UnicodeDecodeError, OSError) as error:
        raise UsageError(f"the allow file cannot be read: {error}", where=str(path)) from error
    try:
        content, lines = parse_yaml(text)
    except YamlError as error:
        raise UsageError(f"not an allow file: {error}", where=f"{path}:{error.line or 1}") from error
    entries = content.get("allow") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise UsageError("an allow file is a list under the key `allow`", where=str(path))
    return tuple(_allowance(item, lines.get(("allow", i)), path) for i, item in enumerate(entries))


def write_allow_file(path: Path, records: Iterable[Evidence], *, until: date | None = None) -> int:
    """Write an entry for everything that is inconclusive now, with the reason left to be filled in.

    Args:
        records: evidence of scans.
        until: the last day of all entries; default: half a year from now.
    Returns:
        the number of entries; 0 writes an empty list.
    Raises:
        UsageError: the file exists already, or cannot be written.
    """
    until = until or datetime.now(UTC).date() + timedelta(days=_HALF_A_YEAR)
    entries: dict[str, str | None] = {}
    for evidence in records:
        digests = {subject.name: str(subject.sha256) for subject in evidence.subject}
        for finding in evidence.findings:
            if finding.severity is Severity.UNKNOWN:
                entries.setdefault(_entry_for(finding), digests.get(finding.where.file or ""))
    lines = [
        "# What has been reviewed, why it is all right, and until when, or for which bytes, that counts.",
        "allow:",
    ]
    for entry, sha256 in entries.items():
        quoted = msgspec.json.encode(entry).decode()
        lines += [f"  - entry: {quoted}", "    reason: TODO", f"    until: {until.isoformat()}"]
        lines += [f"    sha256: {sha256}"] if sha256 else []
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write("\n".join(lines if entries else [lines[0], "allow: []"]) + "\n")
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(f"the allow file cannot be written: {reason}", where=str(path)) from error
    return len(entries)


def apply_allowances(
    findings: Sequence[Finding],
    allow: Collection[str],
    allowances: Sequence[Allowance] = (),
    *,
    digests: Mapping[str, str] | None = None,
    today: date | None = None,
) -> list[Finding]:
    """Inconclusive findings that a person has reviewed, as notes that say so; and what is wrong with the reviews.

    Args:
        allow: entries without a reason, as the command line gives them.
        digests: path → sha256 of the package's files.
        today: default: the day by the clock, in UTC.
    """
    reviews = _Reviews(allow, allowances, digests or {}, today or datetime.now(UTC).date())
    judged = [reviews.applied(finding) for finding in findings]
    return [*judged, *reviews.flaws.values(), *reviews.unused()]


class _Reviews:
    """What was allowed, and what was wrong with that so far."""

    def __init__(
        self, allow: Collection[str], allowances: Sequence[Allowance], digests: Mapping[str, str], day: date
    ) -> None:
        self.flaws: dict[str, Finding] = {}
        self._allow = sorted(allow)
        self._allowances = allowances
        self._digests = digests
        self._day = day
        self._used: set[str] = set()

    def applied(self, finding: Finding) -> Finding:
        """The finding, as a note where somebody has reviewed it."""
        if finding.severity is not Severity.UNKNOWN:
            return finding
        names = {finding.rule, f"{finding.rule}:{finding.where.file}", *_globals_named(finding)}
        data = self._by_file(names, self._digests.get(finding.where.file or ""))
        if data is None and (entry := next((item for item in self._allow if item in names), None)) is not None:
            data = {"allowed": entry}
        if data is None:
            return finding
        return msgspec.structs.replace(finding, severity=Severity.INFO, data={**finding.data, **data})

    def unused(self) -> Iterator[Finding]:
        """A note about each entry of the allow file that covered nothing."""
        for allowance in self._allowances:
            if allowance.entry not in self._used:
                where = Where(line=allowance.line)
                yield UNUSED.finding(f"{allowance.entry} covers nothing", where, entry=allowance.entry)

    def _by_file(self, names: set[str], sha256: str | None) -> dict[str, JSON] | None:
        for allowance in self._allowances:
            if allowance.entry not in names:
                continue
            self._used.add(allowance.entry)
            flaw = allowance.flaw(self._day, sha256)
            if flaw is None:
                return {"allowed": allowance.entry, "reason": allowance.reason}
            self.flaws[allowance.entry] = flaw
        return None


def _globals_named(finding: Finding) -> list[str]:
    values = (finding.data.get(key) for key in ("global", "call", "name"))
    return [value for value in values if isinstance(value, str)]


def _entry_for(finding: Finding) -> str:
    """The narrowest entry that covers a finding: a rule in its file, the rule where there is no file."""
    return f"{finding.rule}:{finding.where.file}" if finding.where.file else finding.rule


def _allowance(item: object, line: int | None, path: Path) -> Allowance:
    where = f"{path}:{line}" if line else str(path)
    if not isinstance(item, dict):
        raise UsageError("each entry has the keys `entry` and `reason`, and may have `until` and `sha256`", where=where)
    unknown = next((key for key in item if key not in _KEYS), None)
    if unknown is not None:
        raise UsageError(f"an entry has no key {unknown!r}", where=where, hint=f"its keys are {', '.join(_KEYS)}")
    entry, reason, until, sha256 = (item.get(key) for key in _KEYS)
    if not isinstance(entry, str) or not entry.strip():
        raise UsageError("an entry without `entry`", where=where, hint="name a global, a rule, or RULE:FILE")
    if not isinstance(reason, str) or _REASONLESS.match(reason):
        raise UsageError(f"{entry} has no reason", where=where, hint="say in `reason` why it is all right")
    try:
        day = None if until is None else date.fromisoformat(str(until))
    except ValueError:
        raise UsageError(f"`until` of {entry} is no day", where=where, hint="write it as 2027-05-01") from None
    if sha256 is not None and not _SHA256.fullmatch(str(sha256)):
        raise UsageError(f"`sha256` of {entry} is no digest", where=where, hint="64 hexadecimal digits")
    return Allowance(entry, reason, day, None if sha256 is None else str(sha256), line)
