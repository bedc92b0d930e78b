"""Licences as claims: the text of a licence file, and when two statements contradict each other."""

from __future__ import annotations

import re
from collections.abc import Iterator

from regraft.package.licence import identify_licence, normalise_licence
from regraft.workflow.facts.interface import Claim, InspectedFile, Origin

_NOTHING = frozenset({"", "unknown", "none"})
_MAX_NAME = 80


def licence_value(name: str) -> str | None:
    """The SPDX identifier behind what a person wrote; their own words when it is not clear; None for nothing."""
    words = " ".join(name.split())
    if words.lower() in _NOTHING:
        return None
    return normalise_licence(name) or words[:_MAX_NAME]


def claims_from_licence(file: InspectedFile) -> Iterator[Claim]:
    """Which licence a licence text is; nothing when it is not recognised."""
    match = identify_licence(file.text or "")
    if match is not None:
        yield Claim("licence", match.spdx, Origin.LICENCE_TEXT, file.path)


def is_same_licence(one: str, other: str) -> bool:
    """Whether two statements do not contradict each other. Words that name no licence clearly contradict nothing."""
    a, b = normalise_licence(one) or _reference(one), normalise_licence(other) or _reference(other)
    return a is None or b is None or _family(a) == _family(b)


def _reference(identifier: str) -> str | None:
    return identifier if identifier.startswith("LicenseRef-") else None


def _family(identifier: str) -> str:
    """`-only` and `-or-later` share their text, so a text cannot tell them apart."""
    return re.sub(r"-(?:only|or-later)$", "", identifier).lower()
