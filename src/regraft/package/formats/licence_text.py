"""Licence texts as a file format."""

from __future__ import annotations

import re

from regraft.errors import Damaged
from regraft.package.formats.interface import Description, Loading, Probe, Role
from regraft.package.licence import identify_licences

_NAME = re.compile(
    r"(?:licen[cs]es?|copying|copyright|notice|patents|unlicense|use_policy)\b.*|.*[-_.]licen[cs]e", re.DOTALL
)
_TEXT_SUFFIXES = frozenset({"", ".txt", ".md", ".rst", ".html", ".lesser", ".mit", ".apache", ".bsd", ".license"})
_MAX_BYTES = 1 << 20
_MAX_OTHER_BYTES = 60 << 10  # a licence under another name is not longer than the GNU licences


class LicenceText:
    """Format `licence-text`."""

    name = "licence-text"
    title = "licence"
    role = Role.LICENCE
    loading = Loading.INERT
    suffixes = (".txt", ".md")

    def matches(self, probe: Probe) -> bool:
        """Text named like a licence, or plain text that is one with certainty."""
        if probe.reader.size > _MAX_BYTES or probe.suffix not in _TEXT_SUFFIXES or not probe.head.strip():
            return False
        if _NAME.fullmatch(probe.basename):
            return probe.text is not None
        if probe.suffix not in ("", ".txt") or probe.reader.size > _MAX_OTHER_BYTES or b"icen" not in probe.head:
            return False
        return probe.text is not None and any(match.confidence == 1 for match in identify_licences(probe.text))

    def describe(self, probe: Probe) -> Description:
        """The licences found in it, the surest first."""
        if probe.text is None:
            raise Damaged("not UTF-8 text, or too large", where=probe.reader.where)
        matches = identify_licences(probe.text)
        if not matches:
            return Description(metadata={"spdx": "unknown"})
        return Description(
            metadata={
                "spdx": ", ".join(match.spdx for match in matches),
                "confidence": ", ".join(str(match.confidence) for match in matches),
            }
        )
