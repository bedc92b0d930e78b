"""Rules about R's saved objects: calls that R evaluates when the object is looked at."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from regraft.package.limits import MAX_TEXT_BYTES
from regraft.package.package import Package
from regraft.record.evidence import Finding, Severity
from regraft.trust.scan.interface import Rule, Site

ACTING_CALL = Rule(
    "RGS-RDS-001",
    Severity.HIGH,
    "R data that holds a call to the machine",
    "A saved object can be a promise, whose expression R evaluates when the object is first looked at, right after "
    "reading it (CVE-2024-27322); functions and formulas are evaluated when they are used.",
    "Do not read it. Report it to where you got it from.",
    cwe=502,
)

_ACTING = (
    "system system2 shell shell.exec pipe download.file dyn.load socketConnection browseURL install.packages "
    "file.remove Sys.setenv"
).split()
_SYMBOL = re.compile(
    rb"\x00\x00\x00\x01\x00[\x00-\x0f][\x00\x01]\x09"  # SYMSXP, then a CHARSXP in one of its encodings
    b"(" + b"|".join(re.escape(len(name).to_bytes(4, "big") + name.encode()) for name in _ACTING) + b")"
)
"""A symbol as the XDR serialisation writes it. Source: R Internals, section 1.8."""
_HEADS = (b"X\n\x00\x00\x00", b"RDX2\n", b"RDX3\n")


class RDataFamily:
    """Looks for symbols; whether the rest is data alone is not decided here."""

    name = "r_data"
    judges: frozenset[str] = frozenset()
    rules: Sequence[Rule] = (ACTING_CALL,)

    def examine(self, site: Site) -> Iterator[Finding]:
        """One finding for each function that is named, in the first 16 MiB."""
        if not site.probe.head.startswith(_HEADS):
            return
        data = site.probe.reader.read_at(0, min(site.probe.reader.size, MAX_TEXT_BYTES))
        names = {match[1][4:].decode(): match.start() for match in reversed([*_SYMBOL.finditer(data)])}
        for name, offset in sorted(names.items()):
            yield ACTING_CALL.finding(f"names the function {name}", site.where(offset=offset), name=name)

    def examine_package(self, package: Package, sites: Sequence[Site]) -> Iterator[Finding]:
        """Nothing: objects are judged one by one."""
        return iter(())
