"""Licences as claims: the text of a licence file, and when two statements contradict each other."""

from __future__ import annotations

import re
from collections.abc import Iterator

from regraft.package.licence import identify_licence, normalise_licence
from regraft.workflow.facts.interface import Claim, InspectedFile, Origin

_NOTHING = frozenset({"", "unknown", "none"})
_MAX_NAME = 80
_MAIN_NAME = re.compile(r"(?:licen[cs]e|copying)(?:\.(?:txt|md|rst))?", re.IGNORECASE)
_MAIN_FOLDER = re.compile(r"|package|[^/]*\.(?:dist|egg)-info(?:/licenses)?|[^/]*\.(?:zip|whl|tgz|gz)")


def licence_value(name: str) -> str | None:
    """The SPDX identifier behind what a person wrote; their own words when it is not clear; None for nothing."""
    words = " ".join(name.split())
    if words.lower() in _NOTHING:
        return None
    return normalise_licence(name) or words[:_MAX_NAME]


def claims_from_licence(file: InspectedFile) -> Iterator[Claim]:
    """Which licence a licence text is; one that is not recognised says that it is a text of its own.

    `LICENSE` at the top or in the wheel's metadata speaks for the package; a text with another name or deeper
    inside (`LICENSE-shadcn.md`, `vendored/license.txt`) speaks for a part of it and contradicts nothing.
    """
    match = identify_licence(file.text or "")
    is_main = _MAIN_NAME.fullmatch(file.basename) and _MAIN_FOLDER.fullmatch(file.folder.rsplit("!", 1)[-1])
    field = "licence" if is_main else "licences_inside"
    if match is not None:
        yield Claim(field, match.spdx, Origin.LICENCE_TEXT, file.path)
    elif (file.text or "").strip():
        yield Claim(field, f"a text that is not recognised: read {file.basename}", Origin.LICENCE_TEXT, file.path)


def is_same_licence(one: str, other: str) -> bool:
    """Whether two statements do not contradict each other. Words that name no licence clearly contradict nothing."""
    a, b = normalise_licence(one) or _reference(one), normalise_licence(other) or _reference(other)
    return a is None or b is None or _family(a) == _family(b)


def _reference(identifier: str) -> str | None:
    return identifier if identifier.startswith("LicenseRef-") else None


def _family(identifier: str) -> str:
    """`-only` and `-or-later` share their text, so a text cannot tell them apart."""
    return re.sub(r"-(?:only|or-later)$", "", identifier).lower()
