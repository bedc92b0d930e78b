"""Rules about XML: entities that make a parser read files or servers, or grow without end."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from regraft.package.package import Package
from regraft.record.evidence import Finding, Severity
from regraft.trust.scan.interface import Rule, Site

EXTERNAL_ENTITY = Rule(
    "RGS-XML-001",
    Severity.HIGH,
    "An XML entity that stands for a file or an address",
    "Parsers that resolve external entities put the content of that file, or what the server answers, into the model's "
    "description, and may send it elsewhere.",
    "Do not load this file. Report it to where you got it from.",
    cwe=611,
)
GROWING_ENTITY = Rule(
    "RGS-XML-002",
    Severity.HIGH,
    "XML entities that multiply",
    "Entities made of entities expand to far more than the file holds: a parser that resolves them fills the memory.",
    "Do not load this file. Report it to where you got it from.",
    cwe=776,
)

EXTERNAL_TYPE = Rule(
    "RGS-XML-003",
    Severity.HIGH,
    "A model in XML whose document type lies elsewhere",
    "No exporter of PMML or OpenVINO writes one. A parser that loads it reads a file of yours, or tells a server that "
    "the model is loaded and takes entities from there.",
    "Do not load this file. Report it to where you got it from.",
    cwe=611,
)

_DOCTYPE = re.compile(rb"<!DOCTYPE\s+(PMML|net)\s+(SYSTEM|PUBLIC)\s+[^>\[]{1,400}")
_ENTITY = re.compile(
    rb"<!ENTITY\s+(?:%\s+)?[^\s>]+\s+"
    rb"(?:(?P<external>SYSTEM|PUBLIC)\s[^>]{0,400}|\"(?P<value>[^\"]{0,4096})|'(?P<single>[^']{0,4096}))"
)
_REFERENCE = re.compile(rb"&[A-Za-z_][\w.-]*;")
_PROLOGUE_BYTES = 1 << 20
_MAX_ENTITIES = 1000
_MULTIPLYING = 3
"""Entities that each hold several references to others, from which on expansion is more than an abbreviation."""


class XmlEntitiesFamily:
    """Looks at the document type declaration of whatever is XML."""

    name = "xml_entities"
    judges: frozenset[str] = frozenset()
    rules: Sequence[Rule] = (EXTERNAL_ENTITY, GROWING_ENTITY, EXTERNAL_TYPE)

    def examine(self, site: Site) -> Iterator[Finding]:
        """Findings about one document."""
        if not site.probe.head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
            return
        prologue = site.probe.reader.read_at(0, min(site.probe.reader.size, _PROLOGUE_BYTES))
        elsewhere = _DOCTYPE.search(prologue)
        if elsewhere is not None:
            what = elsewhere[0].decode("utf-8", "replace")[:160]
            yield EXTERNAL_TYPE.finding(f"declares {what}", site.where(offset=elsewhere.start()))
        if b"<!ENTITY" not in prologue:
            return
        multiplying = 0
        for count, entity in enumerate(_ENTITY.finditer(prologue)):
            if count >= _MAX_ENTITIES:
                break
            if entity["external"]:
                what = entity[0].decode("utf-8", "replace")[:160]
                yield EXTERNAL_ENTITY.finding(f"declares {what}", site.where(offset=entity.start()))
            multiplying += len(_REFERENCE.findall(entity["value"] or entity["single"] or b"")) > 1
        if multiplying >= _MULTIPLYING:
            message = f"{multiplying} entities are made of several others"
            yield GROWING_ENTITY.finding(message, site.where(), entities=multiplying)

    def examine_package(self, package: Package, sites: Sequence[Site]) -> Iterator[Finding]:
        """Nothing here needs several files."""
        return iter(())
