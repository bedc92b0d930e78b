"""Rules about data formats whose libraries unpickle a part of what they read: HDF5 by PyTables, Arrow by pyarrow."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Sequence

from regraft.package.formats.hdf5 import tree_or_none
from regraft.package.formats.pickle_machine import read_pickle
from regraft.package.package import Package
from regraft.package.reader import BytesReader
from regraft.record.evidence import Finding, Severity
from regraft.trust.scan.interface import Rule, Site
from regraft.trust.scan.pickle_judgement import Judge

ATTRIBUTE = Rule(
    "RGS-DAT-001",
    Severity.CRITICAL,
    "An attribute of an HDF5 file is a pickle that runs code",
    "PyTables, and pandas through it, unpickle attributes that look like pickles when a node is read.",
    "Do not read this file with PyTables or pandas. Report it to where you got it from.",
    cwe=502,
)
EXTENSION_TYPE = Rule(
    "RGS-DAT-002",
    Severity.HIGH,
    "Arrow data with a pickled extension type",
    "pyarrow before 14.0.1 unpickles the type while it reads the schema of an Arrow or Parquet file (CVE-2023-47248).",
    "Do not read it with an old pyarrow. Report it to where you got it from.",
    cwe=502,
)

_HDF5 = frozenset({"hdf5", "keras-h5"})
_MAX_ATTRIBUTES = 20_000
_MAX_ATTRIBUTE_CHARS = 64 << 10
_SCHEMA_BYTES = 1 << 20
_EXTENSION = b"arrow.py_extension_type"
_STORED_SCHEMA = re.compile(rb"ARROW:schema[^A-Za-z0-9+/]{1,12}([A-Za-z0-9+/]{40,})")


class DataPicklesFamily:
    """Looks where libraries of data unpickle."""

    name = "data_pickles"
    judges: frozenset[str] = frozenset()
    rules: Sequence[Rule] = (ATTRIBUTE, EXTENSION_TYPE)

    def examine(self, site: Site) -> Iterator[Finding]:
        """Findings about one HDF5, Arrow or Parquet file."""
        kind = site.format.name if site.format is not None else ""
        if kind in _HDF5:
            yield from _attributes(site)
        elif kind == "binary-data" and _has_extension_type(site):
            yield EXTENSION_TYPE.finding("its schema holds a pickled type", site.where())

    def examine_package(self, package: Package, sites: Sequence[Site]) -> Iterator[Finding]:
        """Nothing: files are judged one by one."""
        return iter(())


def _attributes(site: Site) -> Iterator[Finding]:
    tree = tree_or_none(site.probe)
    if tree is None:
        return
    seen = 0
    for node in tree.nodes.values():
        for name, value in node.attributes.items():
            seen += 1
            if seen > _MAX_ATTRIBUTES:
                return
            if isinstance(value, str) and "." in value and 4 < len(value) <= _MAX_ATTRIBUTE_CHARS:
                yield from _of_text(site, f"{node.path}@{name}", value)


def _of_text(site: Site, field: str, value: str) -> Iterator[Finding]:
    """A text that an unpickler would follow to a call that does harm. Protocol 0 is text, as attributes are."""
    stream = read_pickle(BytesReader(value.encode("utf-8", "surrogateescape"), where=field), max_opcodes=5_000)
    if not stream.calls:
        return
    for judgement in Judge(stream).judge():
        if judgement.kind in ("runs", "hidden", "handed_over"):
            yield ATTRIBUTE.finding(judgement.message, site.where(field=field), call=judgement.path)
            return


def _has_extension_type(site: Site) -> bool:
    reader = site.probe.reader
    for start in {0, max(0, reader.size - _SCHEMA_BYTES)}:
        data = reader.read_at(start, _SCHEMA_BYTES)
        if _EXTENSION in data:
            return True
        for match in _STORED_SCHEMA.finditer(data):
            text = match[1] + b"AAA"  # zeros instead of the padding, which may be missing or wrong
            if _EXTENSION in base64.b64decode(text[: len(text) // 4 * 4]):
                return True
    return False
