"""Rules about YAML tags: names that an unsafe YAML loader, or HyperPyYAML, imports and calls while it parses."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from urllib.parse import unquote

from regraft.package.limits import MAX_TEXT_BYTES
from regraft.package.package import Package
from regraft.record.evidence import Finding, Severity
from regraft.trust.scan.interface import Rule, Site
from regraft.trust.scan.repository import is_dangerous, is_known_library

DANGEROUS_TAG = Rule(
    "RGS-YML-001",
    Severity.CRITICAL,
    "A YAML tag makes its loader call something dangerous",
    "Loaders that follow such tags (PyYAML without SafeLoader, HyperPyYAML of SpeechBrain) import the name and call "
    "it with arguments of the file, while they parse it.",
    "Do not load this package. Report it to where you got it from.",
    cwe=502,
)
FOREIGN_TAG = Rule(
    "RGS-YML-002",
    Severity.UNKNOWN,
    "A YAML tag names code to import",
    "Loaders that follow such tags import the name, and call it; the library that it belongs to is not known here.",
    "Look at what the name does, then pass --allow NAME.",
    cwe=470,
)

_TAG = re.compile(
    r"(?:(?:!!|!<tag:yaml\.org,2002:|tag:yaml\.org,2002:)python/(?:object/apply|object/new|object|name|module):"
    r"|(?<![^\s\[{,:-])!(?:new|apply|name|module|applyref):)(?P<name>[\w.%]*)"
)
"""Source: PyYAML 6, constructor.py; HyperPyYAML 1.2, core.py."""
_HANDLE = re.compile(r"^%TAG\s+(?P<handle>\S+)\s+tag:yaml\.org,2002:python/?(?P<prefix>\S*)", re.MULTILINE)
_MARKS = (b"python/", b"!new:", b"!apply:", b"!name:", b"!module:", b"!applyref:", b"%TAG")
_SUFFIXES = frozenset({".yaml", ".yml"})
_MAX_FINDINGS = 40


class YamlTagsFamily:
    """Judges the tags of YAML files."""

    name = "yaml_tags"
    judges: frozenset[str] = frozenset()
    rules: Sequence[Rule] = (DANGEROUS_TAG, FOREIGN_TAG)

    def examine(self, site: Site) -> Iterator[Finding]:
        """One finding for each name that a tag of the file mentions."""
        if site.probe.suffix not in _SUFFIXES or site.probe.reader.size > MAX_TEXT_BYTES:
            return
        data = site.probe.reader.read_all(limit=MAX_TEXT_BYTES)
        if not any(mark in data for mark in _MARKS):
            return
        text = data.decode("utf-8", errors="replace")
        for handle in islice(_HANDLE.finditer(text), _MAX_FINDINGS):
            where = site.where(line=text.count("\n", 0, handle.start()) + 1)
            yield FOREIGN_TAG.finding("declares a handle for tags of Python objects", where)
            yield from _by_handle(handle, text, site)
        met: set[str] = set()
        for tag in _TAG.finditer(text):
            name = tag["name"]
            if name not in met and len(met) < _MAX_FINDINGS and not _is_comment(text, tag.start()):
                met.add(name)
                line = text.count("\n", 0, tag.start()) + 1
                yield from _judge(name, site, line)

    def examine_package(self, package: Package, sites: Sequence[Site]) -> Iterator[Finding]:
        """Nothing here needs several files."""
        return iter(())


def _by_handle(handle: re.Match[str], text: str, site: Site) -> Iterator[Finding]:
    """Tags that are written with a handle: `!p!os.system` after `%TAG !p! tag:yaml.org,2002:python/object/apply:`."""
    uses = re.compile(rf"(?<![^\s\[{{,:-]){re.escape(handle['handle'])}(?P<name>[\w.%/:]+)")
    for use in islice(uses.finditer(text, handle.end()), _MAX_FINDINGS):
        name = f"{handle['prefix']}{use['name']}".rpartition(":")[2]
        yield from _judge(name, site, text.count("\n", 0, use.start()) + 1)


def _judge(name: str, site: Site, line: int) -> Iterator[Finding]:
    where, name = site.where(line=line), unquote(name)
    if name and is_dangerous(name):
        yield DANGEROUS_TAG.finding(f"a tag calls {name}", where, call=name)
    elif not is_known_library(name):
        yield FOREIGN_TAG.finding(f"a tag imports {name or 'a name of the file'}", where, name=name)


def _is_comment(text: str, position: int) -> bool:
    """Does a comment begin before this place in its line?"""
    line = text[text.rfind("\n", 0, position) + 1 : position]
    return line.lstrip().startswith("#") or " #" in line
