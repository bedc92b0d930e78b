"""Rule family `pickle`: what unpickling would import and call, judged call by call; nothing is unpickled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from regraft.package.formats.pickle_machine import read_pickle
from regraft.package.formats.pickle_opcodes import OPCODES
from regraft.package.formats.pickle_streams import PICKLE_FORMATS, follow_torch_legacy, pickle_streams
from regraft.package.formats.pickle_values import Blob, PickleStream
from regraft.package.package import Package
from regraft.package.reader import BytesReader, Reader
from regraft.record.evidence import Finding, Severity
from regraft.trust.scan.interface import Rule, Site
from regraft.trust.scan.pickle_judgement import Judge, Judgement, Nested

RUNS = Rule(
    "RGS-PKL-001",
    Severity.CRITICAL,
    "Loading runs code",
    "The unpickler calls this while it loads the file, with the rights of whoever loads it.",
    "Do not load it. Report it to where you got it from.",
    cwe=502,
)
HANDED_OVER = Rule(
    "RGS-PKL-002",
    Severity.HIGH,
    "A dangerous function is handed over as a value",
    "The pickle does not call it itself, but leaves it where the object that is loaded can call it.",
    "Do not load it unless you know why this object needs that function.",
    cwe=502,
)
UNLISTED = Rule(
    "RGS-PKL-003",
    Severity.UNKNOWN,
    "A name that nobody has reviewed",
    "What it does when it is called or restored depends on code outside of the file.",
    "Read the constructor, __reduce__ and __setstate__ of that class; if they only keep data, pass --allow NAME.",
    cwe=502,
)
UNUSUAL = Rule(
    "RGS-PKL-004",
    Severity.UNKNOWN,
    "A known name used in an unusual way",
    "Its own library never writes this into a pickle; somebody wrote the stream by hand or changed it.",
    "Find out which program wrote the file.",
    cwe=502,
)
COMPUTED = Rule(
    "RGS-PKL-005",
    Severity.UNKNOWN,
    "A name that cannot be known from the file",
    "What the stream computes or takes from the extension registry is known only to the process that loads it.",
    "Ask for a file without such names; ordinary picklers do not write them.",
    cwe=502,
)
BROKEN = Rule(
    "RGS-PKL-006",
    Severity.UNKNOWN,
    "A pickle that cannot be followed to its end",
    "An unpickler runs everything before the damage; what stands behind it could not be judged.",
    "Get a sound copy.",
)
CHANGES = Rule(
    "RGS-PKL-007",
    Severity.HIGH,
    "Loading changes an imported object",
    "The pickle writes into a class or module that the whole process uses.",
    "Do not load it.",
    cwe=915,
)
TRAILING = Rule(
    "RGS-PKL-008",
    Severity.LOW,
    "Bytes after the pickle that are no pickle",
    "pickle.load stops before them; a loader that reads on would fail there.",
    "Nothing, unless something else reads that file.",
)

HIDDEN = Rule(
    "RGS-PKL-009",
    Severity.HIGH,
    "A stream that is written to mislead",
    "No pickler writes this: a name that the stream puts together while it is loaded, or raw bytes that would be taken "
    "for objects. It is there to get past whoever looks.",
    "Do not load it. Report it to where you got it from.",
    cwe=502,
)

_RULES = {
    "runs": RUNS,
    "handed_over": HANDED_OVER,
    "unlisted": UNLISTED,
    "unusual": UNUSUAL,
    "computed": COMPUTED,
    "changes": CHANGES,
    "hidden": HIDDEN,
}
_ZIP_MAGIC = b"PK\x03\x04"
_TORCHSCRIPT = frozenset({"torchscript", "torch-package", "torch-export", "aotinductor", "pt2"})
_TORCHSCRIPT_NAMES = ("__torch__.", "torch.jit._pickle.", "torch.jit._script.unpackage_script_module.")
_POLYGLOT_OPCODES = 5_000
"""Opcodes to look at in a file of another format; one that holds more well-formed opcodes is followed to its end."""
_MAX_FINDINGS = 60
_MAX_NESTED = 10_000


class PickleFamily:
    """Applies to every file and member that is or embeds pickle streams."""

    name = "pickle"
    judges: frozenset[str] = frozenset(PICKLE_FORMATS)
    rules: Sequence[Rule] = (RUNS, HANDED_OVER, UNLISTED, UNUSUAL, COMPUTED, BROKEN, CHANGES, TRAILING, HIDDEN)

    def examine(self, site: Site) -> Iterator[Finding]:
        """Findings about the streams of one file or member."""
        kind = site.format.name if site.format is not None else None
        if kind not in PICKLE_FORMATS:
            yield from _polyglot(site)
            return
        findings = _Findings(site)
        for index, (_, stream) in enumerate(pickle_streams(site.probe, kind)):
            yield from findings.of(stream, trailing=index > 0 and kind == "pickle")
        if kind == "joblib":
            yield from _polyglot(site)

    def examine_package(self, package: Package, sites: Sequence[Site]) -> Iterator[Finding]:
        """Nothing here needs several files."""
        return iter(())


def _polyglot(site: Site) -> Iterator[Finding]:
    """A file of another format that an unpickler would begin to execute: only what would run is reported.

    A zip begins with P, an object outside of the stream: an unpickler that knows of none stops there, and torch's,
    which does, takes the file for a zip. Its first line, which may be gigabytes of weights, need not be looked for.
    """
    head = site.probe.head
    if head and head[0] in OPCODES and not head.startswith(_ZIP_MAGIC):
        stream = read_pickle(site.probe.reader, max_opcodes=_POLYGLOT_OPCODES)
        if stream.limited:
            stream = read_pickle(site.probe.reader)
        if stream.calls:
            for finding in _Findings(site).of(stream, trailing=False):
                if finding.severity is Severity.CRITICAL:
                    yield finding


class _Findings:
    """Turns judgements into findings, each name once a file."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._met: set[tuple[str, str, str | None]] = set()
        self._inert = _TORCHSCRIPT_NAMES if _is_torchscript(site) else ()
        self._nested = 0

    def of(self, stream: PickleStream, *, trailing: bool, base: int | None = None) -> Iterator[Finding]:
        """Findings about a stream; `base`: offset of the opcode that unpickles it, for bytes within another stream."""
        judge = Judge(stream, inert_prefixes=self._inert)
        for judgement in judge.judge():
            key = (judgement.kind, judgement.path, judgement.args if judgement.kind == "runs" else None)
            if key not in self._met and len(self._met) < _MAX_FINDINGS:
                self._met.add(key)
                yield self._finding(judgement, stream, base)
        for nested in judge.nested:
            self._nested += 1
            if self._nested <= _MAX_NESTED:
                yield from self._within(nested)
        if stream.problem is not None:
            yield self._broken(stream, trailing and not stream.globals, base)

    def _finding(self, judgement: Judgement, stream: PickleStream, base: int | None) -> Finding:
        data = {"call" if judgement.kind == "runs" else "global": judgement.path}
        if judgement.args is not None:
            data["args"] = judgement.args
        if judgement.effect is not None:
            data["effect"] = judgement.effect
        message = judgement.message
        if base is not None:
            message += f" (in bytes that the call at byte {base} unpickles)"
        where = self._site.where(offset=judgement.offset if base is None else base)
        return _RULES[judgement.kind].finding(message, where, **data)

    def _broken(self, stream: PickleStream, trailing: bool, base: int | None) -> Finding:
        problem = stream.problem
        assert problem is not None
        rule = TRAILING if trailing else BROKEN
        offset = problem.offset if base is None else base
        message = f"the pickle at byte {stream.offset} cannot be followed: {problem.what}"
        return rule.finding(message, self._site.where(offset=offset), problem=problem.what)

    def _within(self, nested: Nested) -> Iterator[Finding]:
        """What torch.load would do with the bytes of a tensor that was pickled without torch.save."""
        content = nested.content
        reader: Reader
        if isinstance(content, Blob):
            reader = self._site.probe.reader.section(content.offset, content.length)
        else:
            reader = BytesReader(content, where=self._site.probe.reader.where)
        if reader.read_at(0, len(_ZIP_MAGIC)) == _ZIP_MAGIC:
            message = "unpickles an archive that is hidden in bytes of the pickle"
            yield UNUSUAL.finding(
                message, self._site.where(offset=nested.offset), call="torch.storage._load_from_bytes"
            )
            return
        for stream in follow_torch_legacy(reader):
            yield from self.of(stream, trailing=False, base=nested.offset)


def _is_torchscript(site: Site) -> bool:
    return getattr(site, "inside", None) in _TORCHSCRIPT
