"""Rules about ONNX graphs: data outside of the file, operators outside of the standard."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence

from regraft.package.formats import Description
from regraft.package.package import Package
from regraft.record.evidence import Finding, Severity
from regraft.trust.scan.descriptions import description_of
from regraft.trust.scan.entrypoints import path_of
from regraft.trust.scan.interface import Rule, Site

DATA_OUTSIDE = Rule(
    "RGS-ONX-001",
    Severity.HIGH,
    "External data outside of the package",
    "The runtime reads (and some tools write) the file that this path names: '..' and absolute paths reach your own.",
    "Do not load this model. Report it to where you got it from.",
    cwe=22,
)
CUSTOM_DOMAIN = Rule(
    "RGS-ONX-002",
    Severity.UNKNOWN,
    "Operators outside of the ONNX standard",
    "The runtime needs a native library, or Python (PyOp), to run them; what they do cannot be told from here.",
    "Find the library that registers the domain, then pass --allow DOMAIN.",
    cwe=829,
)
MISSING_DATA = Rule(
    "RGS-ONX-003",
    Severity.INFO,
    "External data is missing",
    "The file that holds the weights is not in the package; loading will fail.",
    "Fetch the complete package.",
)

_STANDARD_DOMAINS = frozenset(
    {"", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training", "com.microsoft"}
    | {
        "com.microsoft.nchwc",
        "com.microsoft.experimental",
        "com.ms.internal.nhwc",
        "com.microsoft.dml",
        "ai.onnx.preview",
    }
)
_OUT = re.compile(r"(^|[/\\])\.\.([/\\]|$)|^[/\\~]|^[A-Za-z]:[\\/]|^\w+://|\x00")


class OnnxFamily:
    """Judges what an ONNX graph refers to."""

    name = "onnx"
    judges: frozenset[str] = frozenset()
    rules: Sequence[Rule] = (DATA_OUTSIDE, CUSTOM_DOMAIN, MISSING_DATA)

    def examine(self, site: Site) -> Iterator[Finding]:
        """Findings about one model."""
        description = _description(site)
        if description is None:
            return
        for name in external_files(description):
            if _OUT.search(name):
                yield DATA_OUTSIDE.finding(f"reads weights from {name[:200]!r}", site.where(), target=name[:200])
        for domain in sorted(domains_of(description) - _STANDARD_DOMAINS):
            yield CUSTOM_DOMAIN.finding(f"uses operators of the domain {domain!r}", site.where(), name=domain)

    def examine_package(self, package: Package, sites: Sequence[Site]) -> Iterator[Finding]:
        """External data that should lie in the package and does not."""
        paths = {path_of(site) for site in sites}
        for site in sites:
            description = _description(site)
            for name in external_files(description) if description is not None else ():
                place = posixpath.normpath(posixpath.join(posixpath.dirname(path_of(site)), name))
                if not _OUT.search(name) and place not in paths:
                    yield MISSING_DATA.finding(f"{name[:200]!r} is not here", site.where())


def external_files(description: Description) -> list[str]:
    """Names of the files that hold the model's weights outside of it."""
    return [name for name in description.metadata.get("external_data", "").split(", ") if name]


def domains_of(description: Description) -> set[str]:
    """Operator domains that the graph uses, those of its own functions left out; imported only is not used."""
    used = {name.rpartition("::")[0] for name in description.operators if "::" in name}
    return used - set(description.metadata.get("function_domains", "").split(", "))


def _description(site: Site) -> Description | None:
    if site.format is None or site.format.name != "onnx":
        return None
    found = description_of(site)
    return found if isinstance(found, Description) else None
