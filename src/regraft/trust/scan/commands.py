"""Shell text that runs what it fetches or decodes, in scripts, notebooks and calls of code."""

from __future__ import annotations

import re

from regraft.record.evidence import Severity
from regraft.trust.scan.interface import Rule

HOSTILE_COMMAND = Rule(
    "RGS-INS-009",
    Severity.HIGH,
    "A script or notebook that hands the machine over",
    "It gives a shell to an address, runs text that it decodes first, or runs what a server sends without protection: "
    "nobody who has nothing to hide writes this beside a model.",
    "Do not run it. Report it to where you got it from.",
    cwe=506,
)

_INTO_A_SHELL = r"\|\s*(sudo\s+)?(ba|z|da)?sh\b"
HIDES_OR_PIPES = re.compile(
    rf"\b(curl|wget)\b[^\n|;&]*{_INTO_A_SHELL}|\bbase64\s+(-d|-D|--decode)\b|/dev/(tcp|udp)/|\bnc\s+-\w*e\b"
    r"|\bbash\s+-i\b|<\(\s*(curl|wget)\b"
)
"""Runs what it fetches or decodes, or hands a shell to somebody else; installers of tools are started like this too."""
HOSTILE = re.compile(
    rf"/dev/(tcp|udp)/|\bnc\s+-\w*e\b|\bbash\s+-i\b|\bbase64\s+(-d|-D|--decode)\b[^\n;&]*{_INTO_A_SHELL}"
    rf"|\b(curl|wget)\b(?![^\n|;&]*(https://[A-Za-z]|[${{]))[^\n|;&]*{_INTO_A_SHELL}"
)
"""A shell for an address, decoded text, or a download that whoever is on the way can change: no TLS, or no name."""
