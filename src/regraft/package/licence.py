"""Licences: which one a text is, and what a free-text name means, as SPDX identifiers.

Licences that SPDX does not list (OpenRAIL, Llama, Gemma, …) are `LicenseRef-<name>`, as SPDX prescribes.
"""

from __future__ import annotations

import re

import msgspec

_MAX_TEXT_CHARS = 400_000
_MIN_CONFIDENCE = 0.6
_NOT_WORDS = re.compile(r"[^a-z0-9+]+")
_ADDRESS = re.compile(r"\(?\bhttps?://[^\s()]*\)?", re.IGNORECASE)
"""Where the text is to be found: `AGPL-3.0 License (https://ultralytics.com/license)`."""
_NO_ANSWER = frozenset({"", "unknown", "other", "none", "proprietary", "see license", "license", "license txt"})


class LicenceMatch(msgspec.Struct, frozen=True):
    """A licence that a text was recognised as.

    Attributes:
        spdx: SPDX identifier or `LicenseRef-…`. The GNU licences' texts are the same for `-only` and
            `-or-later`; `-only` is what the text alone grants.
        confidence: share of the licence's characteristic passages that were found, 0.6 to 1.
    """

    spdx: str
    confidence: float


class _Print(msgspec.Struct, frozen=True):
    """What is characteristic of a licence: passages (alternatives separated by `|`), and passages that exclude it.

    The first passage must be there.
    """

    spdx: str
    passages: tuple[str, ...]
    excludes: tuple[str, ...] = ()


_PERMIT = "permission is hereby granted free of charge to any person obtaining a copy of this software"
_AS_IS = "the software is provided as is without warranty of any kind|the software is provided as is without warranties"
_BSD = (
    "redistribution and use in source and binary forms with or without modification are permitted",
    "redistributions of source code must retain the above copyright notice|redistributions of source code must retain",
    "redistributions in binary form must reproduce the above copyright notice|redistributions in binary form must",
)
_NO_ENDORSEMENT = "be used to endorse or promote products derived from|neither the name of"
_ISC = "permission to use copy modify and or distribute this software for any purpose with or without fee is hereby"
_ISC_OLD = "permission to use copy modify and distribute this software for any purpose with or without fee is hereby"
_COPYLEFT = "everyone is permitted to copy and distribute verbatim copies of this license document"

_PRINTS: tuple[_Print, ...] = (
    _Print("MIT", (_PERMIT, "permission notice shall be included in all copies or substantial portions", _AS_IS)),
    _Print("MIT-0", (_PERMIT, _AS_IS), ("permission notice shall be included in",)),
    _Print(
        "Apache-2.0",
        (
            "apache license version 2 0",
            "terms and conditions for use reproduction and distribution",
            "grant of patent license",
            "submission of contributions",
            "disclaimer of warranty",
        ),
    ),
    _Print(
        "Apache-2.0",
        ("licensed under the apache license version 2 0", "you may not use this file except in compliance"),
        ("grant of patent license",),
    ),
    _Print(
        "BSD-3-Clause",
        (_NO_ENDORSEMENT, *_BSD),
        ("all advertising materials mentioning", "party s patent rights", "deal with the software without restriction"),
    ),
    _Print("BSD-3-Clause-Clear", ("no express or implied licenses to any party s patent rights", *_BSD)),
    _Print("NCSA", ("deal with the software without restriction", "redistributions of source code must retain")),
    _Print("BSD-2-Clause", _BSD, ("be used to endorse or promote", "neither the name of", "all advertising materials")),
    _Print("BSD-4-Clause", ("all advertising materials mentioning features or use", *_BSD)),
    _Print("ISC", (f"{_ISC}|{_ISC_OLD}", "copyright notice and this permission notice appear in all copies")),
    _Print("0BSD", (f"{_ISC}|{_ISC_OLD}", "the software is provided as is"), ("permission notice appear in all",)),
    _Print("GPL-3.0-only", ("gnu general public license version 3 29 june 2007", _COPYLEFT, "conveying verbatim")),
    _Print("GPL-2.0-only", ("gnu general public license version 2 june 1991", _COPYLEFT, "work based on the program")),
    _Print("LGPL-3.0-only", ("gnu lesser general public license version 3 29 june 2007", "combined works")),
    _Print("LGPL-2.1-only", ("gnu lesser general public license version 2 1 february 1999", _COPYLEFT)),
    _Print(
        "AGPL-3.0-only",
        ("gnu affero general public license version 3 19 november 2007", _COPYLEFT, "remote network interaction"),
    ),
    _Print("MPL-2.0", ("mozilla public license version 2 0", "covered software", "secondary license")),
    _Print("EPL-2.0", ("eclipse public license v 2 0", "secondary license")),
    _Print(
        "Unlicense",
        ("this is free and unencumbered software released into the public domain", "anyone is free to copy modify"),
    ),
    _Print("CC0-1.0", ("cc0 1 0 universal", "affirmer", "waiver")),
    _Print("BSL-1.0", ("boost software license version 1 0", "permission is hereby granted free of charge")),
    _Print("Zlib", ("this software is provided as is without any express or implied", "altered source versions must")),
    _Print("WTFPL", ("do what the fuck you want to public license",)),
    _Print("Artistic-2.0", ("the artistic license 2 0", "standard version")),
    _Print("Python-2.0", ("python software foundation license version 2", "beopen python open source license")),
    _Print("PSF-2.0", ("python software foundation license version 2",), ("beopen python open source",)),
    _Print("EUPL-1.2", ("european union public licence v 1 2",)),
    _Print("EUPL-1.1", ("european union public licence v 1 1",)),
    _Print("EPL-1.0", ("eclipse public license v 1 0", "recipient")),
    _Print("AFL-3.0", ("licensed under the academic free license version 3 0", "original work")),
    _Print("OSL-3.0", ("licensed under the open software license version 3 0", "original work")),
    _Print("ECL-2.0", ("educational community license version 2 0", "grant of patent license")),
    _Print("OFL-1.1", ("sil open font license version 1 1", "reserved font name")),
    _Print("MS-PL", ("microsoft public license ms pl", "patent grant")),
    _Print("MS-RL", ("microsoft reciprocal license ms rl", "patent grant")),
    _Print("PostgreSQL", ("postgresql license", "without a written agreement is hereby granted")),
    _Print("UPL-1.0", ("the universal permissive license upl version 1 0", "larger works")),
    _Print(
        "LicenseRef-CreativeML-OpenRAIL-M",
        ("creativeml open rail m", "use based restrictions|use restrictions"),
    ),
    _Print("LicenseRef-CreativeML-OpenRAIL++-M", ("creativeml open rail++ m", "use based restrictions")),
    _Print(
        "LicenseRef-BigScience-RAIL-1.0",
        ("bigscience rail license", "use based restrictions|use restrictions"),
    ),
    _Print("LicenseRef-BigScience-OpenRAIL-M", ("bigscience open rail m", "use based restrictions|use restrictions")),
    _Print("LicenseRef-BigCode-OpenRAIL-M", ("bigcode open rail m|bigcode openrail m", "use restrictions")),
    _Print("LicenseRef-Llama-2-Community", ("llama 2 community license agreement", "llama materials")),
    *(
        _Print(f"LicenseRef-Llama-{version}-Community", (f"{words} community license agreement", "llama materials"))
        for version, words in (
            ("3", "meta llama 3"), ("3.1", "llama 3 1"), ("3.2", "llama 3 2"), ("3.3", "llama 3 3"), ("4", "llama 4"),
        )
    ),
    _Print("LicenseRef-Gemma-Terms", ("gemma terms of use", "gemma prohibited use policy|model derivatives")),
    _Print("LicenseRef-DeepSeek-Model", ("deepseek license agreement", "use based restrictions|use restrictions")),
    _Print("LicenseRef-Tongyi-Qianwen", ("tongyi qianwen license agreement|qwen license agreement", "materials")),
    _Print("LicenseRef-Stability-AI-Community", ("stability ai community license agreement", "stability ai materials")),
    _Print("LicenseRef-NVIDIA-Open-Model", ("nvidia open model license", "derivative models|derivative model")),
    _Print("LicenseRef-Falcon-LLM", ("falcon llm license|tii falcon", "technology innovation institute|tii")),
)  # fmt: skip

_CREATIVE_COMMONS = re.compile(
    r"\battribution((?: (?:non ?commercial|share ?alike|noderivatives|noderivs|no derivatives))*)"
    r" ([1-4]) ([05])(?: (?:international|unported|generic))?"
)
_CC_PARTS = (("BY", ""), ("NC", "commercial"), ("SA", "alike"), ("ND", "deriv"))

_NAMES: dict[str, str] = {
    "mit": "MIT", "expat": "MIT", "mit x11": "MIT",
    "apache": "Apache-2.0", "apache 2": "Apache-2.0", "apache 2 0": "Apache-2.0", "apache v2": "Apache-2.0",
    "apache2": "Apache-2.0", "apache v2 0": "Apache-2.0", "apache version 2 0": "Apache-2.0", "asl 2 0": "Apache-2.0",
    "apache software": "Apache-2.0", "apache software 2 0": "Apache-2.0", "apache 2 0 software": "Apache-2.0",
    "bsd 2": "BSD-2-Clause", "bsd 2 clause": "BSD-2-Clause", "simplified bsd": "BSD-2-Clause",
    "2 clause bsd": "BSD-2-Clause", "freebsd": "BSD-2-Clause",
    "bsd 3": "BSD-3-Clause", "bsd 3 clause": "BSD-3-Clause", "3 clause bsd": "BSD-3-Clause", "new bsd": "BSD-3-Clause",
    "modified bsd": "BSD-3-Clause", "revised bsd": "BSD-3-Clause",
    "isc": "ISC", "iscl": "ISC", "isc iscl": "ISC", "zlib": "Zlib", "zlib libpng": "Zlib", "unlicense": "Unlicense",
    "unlicense unlicense": "Unlicense", "wtfpl": "WTFPL", "boost software 1 0": "BSL-1.0",
    "boost software 1 0 bsl 1 0": "BSL-1.0", "mit no attribution mit 0": "MIT-0", "mit no attribution": "MIT-0",
    "gpl 2": "GPL-2.0-only", "gplv2": "GPL-2.0-only", "gpl v2": "GPL-2.0-only", "gpl 2 0": "GPL-2.0-only",
    "gpl2": "GPL-2.0-only", "gplv2+": "GPL-2.0-or-later", "gpl 2+": "GPL-2.0-or-later", "gpl 2 0+": "GPL-2.0-or-later",
    "gnu general public v2 gplv2": "GPL-2.0-only", "gnu general public v2 or later gplv2+": "GPL-2.0-or-later",
    "gpl 3": "GPL-3.0-only", "gplv3": "GPL-3.0-only", "gpl v3": "GPL-3.0-only", "gpl 3 0": "GPL-3.0-only",
    "gpl3": "GPL-3.0-only", "gplv3+": "GPL-3.0-or-later", "gpl 3+": "GPL-3.0-or-later", "gpl 3 0+": "GPL-3.0-or-later",
    "gnu gplv3": "GPL-3.0-only", "gnu gpl v3": "GPL-3.0-only", "gnu general public v3": "GPL-3.0-only",
    "gnu general public v3 gplv3": "GPL-3.0-only", "gnu general public v3 or later gplv3+": "GPL-3.0-or-later",
    "lgplv3": "LGPL-3.0-only", "lgpl v3": "LGPL-3.0-only", "lgpl 3 0": "LGPL-3.0-only", "lgpl 3": "LGPL-3.0-only",
    "lgplv3+": "LGPL-3.0-or-later", "lgpl 3 0+": "LGPL-3.0-or-later", "lgpl 2 1": "LGPL-2.1-only",
    "lgpl 2 1+": "LGPL-2.1-or-later", "gnu lesser general public v3 lgplv3": "LGPL-3.0-only",
    "gnu lesser general public v3 or later lgplv3+": "LGPL-3.0-or-later",
    "gnu lesser general public v2 1": "LGPL-2.1-only",
    "gnu lesser general public v2 or later lgplv2+": "LGPL-2.0-or-later",
    "agpl 3 0": "AGPL-3.0-only", "agplv3": "AGPL-3.0-only", "agpl v3": "AGPL-3.0-only", "agpl 3": "AGPL-3.0-only",
    "gnu agplv3": "AGPL-3.0-only", "gnu affero general public v3": "AGPL-3.0-only",
    "gnu affero general public v3 or later agplv3+": "AGPL-3.0-or-later", "agplv3+": "AGPL-3.0-or-later",
    "mpl 2 0": "MPL-2.0", "mpl2": "MPL-2.0", "mozilla public 2 0": "MPL-2.0", "mozilla public 2 0 mpl 2 0": "MPL-2.0",
    "cc0": "CC0-1.0", "cc0 1 0": "CC0-1.0", "cc0 1 0 universal": "CC0-1.0",
    "cc0 1 0 universal cc0 1 0 public domain dedication": "CC0-1.0",
    "python software foundation": "PSF-2.0", "psf": "PSF-2.0",
    "openrail": "LicenseRef-OpenRAIL", "creativeml openrail m": "LicenseRef-CreativeML-OpenRAIL-M",
    "openrail++": "LicenseRef-CreativeML-OpenRAIL++-M", "bigscience openrail m": "LicenseRef-BigScience-OpenRAIL-M",
    "bigscience bloom rail 1 0": "LicenseRef-BigScience-RAIL-1.0",
    "bigcode openrail m": "LicenseRef-BigCode-OpenRAIL-M",
    "llama2": "LicenseRef-Llama-2-Community", "llama3": "LicenseRef-Llama-3-Community",
    "llama3 1": "LicenseRef-Llama-3.1-Community", "llama3 2": "LicenseRef-Llama-3.2-Community",
    "llama3 3": "LicenseRef-Llama-3.3-Community", "llama4": "LicenseRef-Llama-4-Community",
    "gemma": "LicenseRef-Gemma-Terms", "deepseek": "LicenseRef-DeepSeek-Model",
    "tongyi qianwen": "LicenseRef-Tongyi-Qianwen", "qwen": "LicenseRef-Tongyi-Qianwen",
}  # fmt: skip
"""Common names, lower case, words only, without `license`. `apache` without a version is taken as 2.0."""


def identify_licences(text: str) -> tuple[LicenceMatch, ...]:
    """Which known licences a text contains, the surest first; empty when none is recognised.

    Args:
        text: a LICENSE file or the like; the first 400,000 characters are looked at.
    """
    words = " " + _words(text[:_MAX_TEXT_CHARS]) + " "
    found: dict[str, float] = {}
    for print_ in _PRINTS:
        if any(passage in words for passage in print_.excludes):
            continue
        hits = [any(option in words for option in passage.split("|")) for passage in print_.passages]
        confidence = sum(hits) / len(hits)
        if hits[0] and confidence >= _MIN_CONFIDENCE:
            found[print_.spdx] = max(confidence, found.get(print_.spdx, 0.0))
    found |= _creative_commons(words)
    order = sorted(found.items(), key=lambda item: -item[1])
    return tuple(LicenceMatch(spdx, round(confidence, 2)) for spdx, confidence in order)


def identify_licence(text: str) -> LicenceMatch | None:
    """The licence that a text most likely is; None when none is recognised."""
    matches = identify_licences(text)
    return matches[0] if matches else None


def normalise_licence(name: str) -> str | None:
    """The SPDX identifier or expression that a licence's name, hub id, classifier or expression means.

    Args:
        name: `Apache 2.0`, `License :: OSI Approved :: MIT License`, `cc-by-nc-4.0`, `MIT OR Apache-2.0`, …
    Returns:
        None when it is not known or does not say which (`BSD`, `GPL`, `other`).
    """
    if len(name) > 500:
        matches = identify_licences(name)
        is_clear = len(matches) == 1 or (len(matches) > 1 and matches[0].confidence > matches[1].confidence)
        return matches[0].spdx if is_clear else None
    last = _ADDRESS.sub(" ", name.rsplit("::", 1)[-1]).strip()
    key = re.sub(r"\b(licen[cs]es?|the)\b", " ", _words(last))
    key = " ".join(key.split())
    if key in _NO_ANSWER or _words(last) in _NO_ANSWER:
        return None
    if key in _NAMES:
        return _NAMES[key]
    return _commons_name(key) or _expression(last)


def _words(text: str) -> str:
    return _NOT_WORDS.sub(" ", text.lower()).strip()


def _creative_commons(words: str) -> dict[str, float]:
    """Creative Commons licences by their full title; surer when their legal code follows."""
    if "creative commons" not in words[:4000]:
        return {}
    match = _CREATIVE_COMMONS.search(words)
    if match is None:
        return {}
    parts = [part for part, word in _CC_PARTS if word in match[1]]
    spdx = f"CC-{'-'.join(parts)}-{match[2]}.{match[3]}"
    return {spdx: 1.0 if "licensed material" in words or "licensor" in words else 0.7}


def _commons_name(key: str) -> str | None:
    match = re.fullmatch(r"(?:cc )?by((?: nc| sa| nd)*)(?: ([1-4])(?: ([05]))?)?(?: international| unported)?", key)
    if match and match[2]:
        return f"CC-BY{match[1].upper().replace(' ', '-')}-{match[2]}.{match[3] or 0}"
    match = _CREATIVE_COMMONS.search(key)
    if match is None or not key.startswith(("creative commons", "cc", "attribution")):
        return None
    return next(iter(_creative_commons("creative commons " + key)), None)


def _expression(text: str) -> str | None:
    """A valid SPDX expression in canonical spelling."""
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

    try:
        canonical = canonicalize_license_expression(text)
    except (InvalidLicenseExpression, ValueError, SyntaxError, RecursionError, MemoryError):
        return None
    old = re.fullmatch(r"([AL]?GPL-[0-9.]+)(\+?)", canonical)
    return f"{old[1]}-{'or-later' if old[2] else 'only'}" if old else canonical
