from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from regraft.record.evidence import Evidence, Verdict

Scan = Callable[..., Evidence]
HARM = b"0cos\nsystem\n(S'echo pwned'\ntR."
PLAIN = b"(K\x03X\x01\0\0\0<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
MADE = b"cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81"
FIELD = b"}X\x01\0\0\0acnumpy\ndtype\nX\x02\0\0\0O8\x89\x88\x87RK\0\x86s"
"""The fields of a structured element type: `a`, a Python object at offset 0."""


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def dtype(code: str, state: bytes) -> bytes:
    return b"cnumpy\ndtype\n" + text(code) + b"\x89\x88\x87R" + state


def wrapper(*, made: bytes = MADE, state: bytes = PLAIN, alignment: bytes = b"N") -> bytes:
    """joblib's placeholder for one float64 number, memoised as 1; its 8 bytes follow."""
    fields = {
        "subclass": b"cnumpy\nndarray\n",
        "shape": b"K\x01\x85",
        "order": text("C"),
        "dtype": dtype("f8", state),
        "allow_mmap": b"\x88",
        "numpy_array_alignment_bytes": alignment,
    }
    return b"\x80\x03" + made + b"q\x01}(" + b"".join(text(name) + code for name, code in fields.items()) + b"ub"


def covered(raw_bytes: int) -> bytes:
    """Raw bytes, then harm: whoever takes the raw bytes for opcodes sees one long byte string and STOP."""
    return b"B" + struct.pack("<I", raw_bytes - 5 + len(HARM)) + bytes(raw_bytes - 5) + HARM + b"."


@pytest.mark.parametrize(
    "data",
    [
        wrapper(state=PLAIN.replace(b"J\xff\xff\xff\xff", b"K\x00", 1)) + covered(8),
        wrapper(made=b"ccopyreg\n_reconstructor\n" + MADE[:-2] + b"cbuiltins\nobject\nN\x87R") + covered(8),
        wrapper(alignment=text("a")) + covered(1 + ord("B") + 8),
        wrapper() + bytes(8) + b"0h\x01}b" + covered(8),
    ],
    ids=["size of a number in the state", "made by _reconstructor", "alignment that is no number", "built twice"],
)
def test_joblib_and_the_machine_never_read_unlike_lengths(scan_files: Scan, data: bytes) -> None:
    assert scan_files({"model.joblib": data}).verdict is not Verdict.PASS
    assert scan_files({"model.joblib": wrapper() + bytes(8) + b"."}).verdict is Verdict.PASS


def test_an_archive_within_the_bytes_of_a_pickle_is_not_taken_for_a_pickle(scan_files: Scan) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as out:
        out.writestr("\n.N.N.N.N.N.", "so that the local header reads as five short pickles")
        out.writestr("archive/data.pkl", b"\x80\x02" + HARM[1:])
    held = archive.getvalue()
    data = b"\x80\x03ctorch.storage\n_load_from_bytes\nB" + struct.pack("<I", len(held)) + held + b"\x85R"
    far = data + b"X" + struct.pack("<I", 200_000) + b"a" * 200_000 + b"\x86."
    found = scan_files({"model.pkl": far})
    assert found.verdict is not Verdict.PASS
    assert "RGS-PKL-004" in {finding.rule for finding in found.findings}


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"\x80\x03cbuiltins\ntype\ncargparse\nNamespace\n)\x81\x85RN}" + text("a") + b"K\1s\x86b.", "RGS-PKL-007"),
        (
            b"\x80\x02ccopy_reg\n_reconstructor\ncargparse\nNamespace\ncnumpy\nmemmap\n" + text("/x") + b"\x87R.",
            "RGS-PKL-004",
        ),
        (b"(" + text("abc") + b"iuuid\nUUID\n.", "RGS-PKL-004"),
        (b"\x80\x02" + dtype("V8", b"(K\3X\1\0\0\0|NX\1\0\0\0a\x85" + FIELD + b"K\x08K\1K\0tb") + b".", "RGS-PKL-009"),
        (b"\x80\x02" + dtype("O8", PLAIN) + b".", "RGS-PKL-009"),
    ],
    ids=["class of an object", "constructor of another class", "INST with arguments", "hidden field", "hidden objects"],
)
def test_allowed_names_cannot_be_turned_into_something_else(scan_files: Scan, data: bytes, rule: str) -> None:
    found = scan_files({"model.pkl": data})
    assert found.verdict is not Verdict.PASS
    assert rule in {finding.rule for finding in found.findings}


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_with_objects_pass_as_numpy_writes_them(scan_files: Scan, protocol: int) -> None:
    nested = np.dtype([("a", "O"), ("b", [("c", "O"), ("d", "f4")])])
    value = [np.zeros(2, dtype=nested), np.array([1, None], dtype=object), np.zeros(2, dtype="datetime64[s]")]
    assert scan_files({"model.pkl": pickle.dumps(value, protocol=protocol)}).verdict is Verdict.PASS


@pytest.mark.parametrize("spelled", ["'object'", "'O,O'", "'(2,)O'", "'\\x4f'", "[('a', 'object')]", "'|O'"])
def test_every_spelling_of_an_array_of_objects_is_followed(scan_files: Scan, spelled: str) -> None:
    header = f"{{'descr': {spelled}, 'fortran_order': False, 'shape': (1,), }}".ljust(117) + "\n"
    data = b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header.encode() + b"\x80\x02" + HARM[1:]
    assert scan_files({"a.npy": data}).verdict is Verdict.FAIL


def test_a_field_whose_name_is_that_of_objects_is_no_pickle(scan_files: Scan, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones(2, dtype=[("O", "i4")]))
    assert scan_files({"a.npy": (tmp_path / "a.npy").read_bytes()}).verdict is Verdict.PASS


@pytest.mark.parametrize("padding", [0, 6000])
def test_a_safetensors_file_that_an_unpickler_would_run(scan_files: Scan, padding: int) -> None:
    """Its length begins with BINUNICODE; byte strings of 126 bytes lead through the header to the data."""
    opening = b'{"__metadata__":{"a":"'
    length = 0x58 | (3 + len(opening)) << 8
    header = bytearray(opening.ljust(length - 3, b"a") + b'"}}')
    at = len(opening)
    while length - at > 5:
        header[at : at + 2] = b"C~"
        at += 128
    data = struct.pack("<Q", length) + header + b"a" * max(0, at - length) + b"N0" * padding + HARM
    assert json.loads(bytes(header))
    assert scan_files({"pytorch_model.bin": data}).verdict is Verdict.FAIL
