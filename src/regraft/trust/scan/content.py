"""Rules about what files are: unknown formats, names that contradict content, damage."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

from regraft.errors import Implausible, RegraftError
from regraft.package.formats import Loading, Role, formats
from regraft.package.package import Package
from regraft.record.evidence import Finding, Severity
from regraft.trust.scan.descriptions import description_of
from regraft.trust.scan.entrypoints import path_of
from regraft.trust.scan.interface import Rule, Site
from regraft.trust.scan.raw_data import is_text_of_another_encoding, looks_like_numbers, raw_files

UNKNOWN_FORMAT = Rule(
    "RGS-FMT-001",
    Severity.UNKNOWN,
    "A format that is not known",
    "Nobody can say what a loader would do with bytes that nobody recognises.",
    "Find out which program reads the file; if it only holds numbers, pass --allow RGS-FMT-001:FILE.",
)
DISGUISED = Rule(
    "RGS-FMT-002",
    Severity.UNKNOWN,
    "Content that can run code under a name that promises data",
    "The name says data, the bytes are a format whose loader runs code: a way around checks that go by the name.",
    "Ask why it is named so; load it only through a restricted loader.",
    cwe=646,
)
DAMAGED = Rule(
    "RGS-FMT-003",
    Severity.UNKNOWN,
    "Damaged content",
    "The content contradicts its own format. Loaders differ in what they do with it, and so does what they execute.",
    "Get a sound copy.",
)
MISNAMED = Rule(
    "RGS-FMT-004",
    Severity.INFO,
    "The name promises another format",
    "The content is of another kind than the suffix says.",
    "Nothing, if your loader goes by content.",
)
EMPTY_FILE = Rule(
    "RGS-FMT-005",
    Severity.INFO,
    "An empty file",
    "It holds nothing, although its name promises a model.",
    "Check that the download is complete.",
)

RAW_NUMBERS = Rule(
    "RGS-FMT-006",
    Severity.INFO,
    "Numbers without a header",
    "No format was recognised, but its head, middle and end read as float32 values of ordinary size, under a name that "
    "promises no other format.",
    "Nothing; the code that reads the file decides what the numbers mean.",
)

OVERFLOWING = Rule(
    "RGS-FMT-007",
    Severity.HIGH,
    "Numbers that are made to overflow a parser",
    "Counts or sizes that no writer writes and no cut leaves. Loaders in C multiply them, allocate too little and "
    "write beyond it (CVE-2024-21836, CVE-2024-25664 and CVE-2024-25665 of GGUF).",
    "Do not load it. Report it to where you got it from.",
    cwe=190,
)

_ANYTHING = frozenset({".bin", ".dat", ".data", ".raw", ".params", ".weights"})
"""Suffixes that say no more than that it is data."""
_DATA_SUFFIXES = frozenset(
    ".json .jsonl .txt .md .rst .csv .tsv .yaml .yml .toml .xml .html .safetensors .onnx .gguf .tflite .npy .png .jpg "
    ".jpeg .gif .bmp .webp .wav .mp3 .flac .ogg .mp4 .pdf .svg .parquet .arrow .vocab .lock .cfg .ini .log".split()
)
_PARTS_OF_A_FORMAT = frozenset({"torch-zip", "torchscript", "torch-package", "torch-export", "aotinductor", "keras-v3"})
"""Containers whose members of unknown format are tensors that the container describes."""
_MAX_PROBLEMS = 20
_TOLD_ELSEWHERE = frozenset({"path-escape"})
"""Kinds of problems that a family of its own judges: onnx, repository."""
_NO_DAMAGE = frozenset({"limit", "partial", "text-cut"})
"""Kinds that say how far a description went; what an inert format holds beyond runs nothing."""
_SMALLEST_PROGRAM = 2
"""Bytes up to which nothing can be done: `N.` is the pickle of None."""
_LEFTOVERS = (b"\x00\x05\x16\x07", b"\x00\x05\x16\x00", b"\x00\x00\x00\x01Bud1")
"""What macOS leaves in folders and archives: AppleDouble files, .DS_Store."""


class ContentFamily:
    """Judges every file by what it is."""

    name = "content"
    judges: frozenset[str] = frozenset()
    rules: Sequence[Rule] = (UNKNOWN_FORMAT, DISGUISED, DAMAGED, MISNAMED, EMPTY_FILE, RAW_NUMBERS, OVERFLOWING)

    def examine(self, site: Site) -> Iterator[Finding]:
        """Is the format known, does it fit the name, is the content sound?"""
        if site.probe.reader.size == 0:
            if site.probe.suffix in _weight_suffixes():
                yield EMPTY_FILE.finding("the file is empty", site.where())
            return
        if site.format is None:
            return
        yield from _contradiction(site)
        yield from _damage(site)

    def examine_package(self, package: Package, sites: Sequence[Site]) -> Iterator[Finding]:
        """Unknown formats, unless another file says that they are its raw numbers."""
        unknown = [site for site in sites if _is_unknown(site)]
        raw = raw_files(sites) if unknown else frozenset()
        for site in unknown:
            if path_of(site) in raw or is_text_of_another_encoding(site.probe.reader):
                continue
            is_raw = site.probe.suffix not in _promising_suffixes() and looks_like_numbers(site.probe.reader)
            yield _numbers(site) if is_raw else _unknown(site)


def _is_unknown(site: Site) -> bool:
    return (
        site.format is None
        and not site.is_container
        and site.probe.reader.size > _SMALLEST_PROGRAM
        and not site.probe.head.startswith(_LEFTOVERS)
        and site.inside not in _PARTS_OF_A_FORMAT
    )


def _numbers(site: Site) -> Finding:
    return RAW_NUMBERS.finding(f"{site.probe.reader.size} bytes that read as float32 numbers", site.where())


def _unknown(site: Site) -> Finding:
    size = site.probe.reader.size
    head = site.probe.head[:8].hex(" ")
    return UNKNOWN_FORMAT.finding(f"{size} bytes of an unknown format, beginning with {head}", site.where(), head=head)


def _contradiction(site: Site) -> Iterator[Finding]:
    kind, suffix = site.format, site.probe.suffix
    assert kind is not None
    if not suffix or suffix in kind.suffixes:
        return
    if kind.loading is Loading.CODE and kind.role is not Role.CODE and suffix in _DATA_SUFFIXES:
        yield DISGUISED.finding(f"named {suffix}, but the content is {kind.title}", site.where(), format=kind.name)
    elif suffix in _model_suffixes() and kind.suffixes:
        yield MISNAMED.finding(f"named {suffix}, but the content is {kind.title}", site.where(), format=kind.name)


def _damage(site: Site) -> Iterator[Finding]:
    assert site.format is not None
    found = description_of(site)
    if isinstance(found, RegraftError):
        rule = OVERFLOWING if isinstance(found, Implausible) else DAMAGED
        yield rule.finding(f"{site.format.title}: {found.what}", site.where(), format=site.format.name)
        return
    problems = found.problems if found is not None else ()
    if site.archive is not None and site.archive.problems:
        return  # told by the archive family, in more detail
    ignored = _TOLD_ELSEWHERE | (_NO_DAMAGE if site.format.loading is Loading.INERT else frozenset())
    problems = tuple(problem for problem in problems if problem.kind not in ignored)
    for problem in problems[:_MAX_PROBLEMS]:
        where = site.where(offset=problem.offset)
        yield DAMAGED.finding(f"{site.format.title}: {problem.what}", where, member=problem.member)


@functools.cache
def _model_suffixes() -> frozenset[str]:
    return frozenset(suffix for member in formats() if member.suffixes for suffix in member.suffixes)


@functools.cache
def _promising_suffixes() -> frozenset[str]:
    """Suffixes of formats that have a loader of their own, which would not read raw numbers."""
    return _model_suffixes() - _ANYTHING


@functools.cache
def _weight_suffixes() -> frozenset[str]:
    return frozenset(
        suffix for member in formats() if member.role in (Role.WEIGHTS, Role.GRAPH) for suffix in member.suffixes
    )
