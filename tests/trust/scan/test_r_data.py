from __future__ import annotations

import gzip
import struct

import pytest

from regraft.record.evidence import Verdict

HEAD = b"X\n" + struct.pack(">III", 3, 0x040300, 0x030500) + struct.pack(">I", 5) + b"UTF-8"


def symbol(name: str) -> bytes:
    return struct.pack(">III", 1, 0x00040009, len(name)) + name.encode()


@pytest.mark.parametrize("name", ["system", "shell.exec", "download.file"])
@pytest.mark.parametrize("wrap", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_call_to_the_machine_fails(scan_files, name, wrap):
    promise = struct.pack(">II", 5, 252) + struct.pack(">I", 6) + symbol(name) + struct.pack(">I", 254)
    evidence = scan_files({"model.rds": wrap(HEAD + promise)})
    assert evidence.verdict is Verdict.FAIL
    assert "RGS-RDS-001" in {finding.rule for finding in evidence.findings}


def test_numbers_and_formulas_do_not(rules_of):
    numbers = HEAD + struct.pack(">II", 14, 3) + struct.pack(">3d", 1, 2, 3)
    formula = HEAD + struct.pack(">I", 6) + symbol("~") + symbol("system.time") + struct.pack(">I", 254)
    for data in (numbers, formula):
        assert "RGS-RDS-001" not in rules_of({"model.rds": data})
