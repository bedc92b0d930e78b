"""Source code by what stands in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from regraft.package.formats import recognise
from regraft.package.formats.code import Notebook
from regraft.package.formats.interface import Loading, Probe
from regraft.package.reader import BytesReader, FileReader


def language(data: bytes | str, name: str) -> tuple[str | None, str | None]:
    probe = Probe(BytesReader(data if isinstance(data, bytes) else data.encode(), where="x"), name)
    member = recognise(probe)
    return (None, None) if member is None else (member.name, member.describe(probe).metadata.get("language"))


@pytest.mark.parametrize(
    ("data", "name", "expected"),
    [
        ("x = 1\n", "a.py", "python"),
        ('"""Doc\n\nstring."""\n# comment\nimport os\n', "notes.txt", "python"),
        ("from torch import nn\nclass A(nn.Module): ...\n", "no-suffix", "python"),
        ("#!/usr/bin/env python3\nprint(1)\n", "tool", "python"),
        ("#!/bin/sh\nrm -rf x\n", "install", "shell"),
        ("#include <cuda.h>\n__global__ void f() {}\n", "kernel.cu", "cuda"),
        ("#include <stdio.h>\nint main() {}\n", "main.txt", "c++"),
        ("'use strict';\nmodule.exports = 1;\n", "bundle", "javascript"),
        ("export const a: number = 1;\n", "a.ts", "typescript"),
    ],
)
def test_languages(data: str, name: str, expected: str) -> None:
    found = language(data, name)
    assert found == ("python-source" if expected == "python" else "source-code", expected)


@pytest.mark.parametrize(
    "text",
    ["import the model from the hub\n", "From here on it is easy.\n", "class of 2024: graduates\n", "Deep learning\n"],
)
def test_prose_is_not_code(text: str) -> None:
    assert language(text, "notes.txt")[0] == "text"


def test_binary_under_a_code_suffix_is_not_code() -> None:
    assert language(b"\x00\x01\x02" * 50, "a.py")[0] != "python-source"


def test_real_sources(asset: Callable[[str, str, str], Path]) -> None:
    for path in asset("pypi", "silero-vad", "6.2.3").glob("**/*.py"):
        if path.stat().st_size:
            member = recognise(Probe(FileReader(path), path.name))
            assert member is not None
            assert member.name == "python-source"
            assert member.loading is Loading.CODE


def test_a_notebook() -> None:
    content = {
        "nbformat": 4, "metadata": {"kernelspec": {"name": "python3"}},
        "cells": [{"cell_type": "code", "source": ["1"]}, {"cell_type": "markdown"}, 3],
    }  # fmt: skip
    probe = Probe(BytesReader(json.dumps(content).encode(), where="x"), "a.json")
    assert Notebook().matches(probe)
    assert Notebook().describe(probe).metadata == {"cells": "3", "code_cells": "1", "kernel": "python3"}


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("#The data was generated\n@problemName Arrow\n@data\n1,2:a\n", "Arrow_TRAIN.ts"),
        ("@problemName Arrow\n@timestamps false\n@data\n1,2:a\n", "Arrow.ts"),
        ("%%MatrixMarket matrix coordinate real general\n2 2 1\n1 1 0.5\n", "corpus.mm"),
    ],
)
def test_data_that_share_a_suffix_with_a_language_are_no_code(data: str, name: str) -> None:
    assert language(data, name)[0] not in ("source-code", "python-source")


def test_typescript_with_a_decorator_stays_code() -> None:
    assert language("@Component({})\nexport class A {}\n", "a.ts") == ("source-code", "typescript")
