from __future__ import annotations

import json
import random
import struct

import pytest

from regraft.record.evidence import Verdict

ODD = bytes((i * 131 + 17) % 251 for i in range(4096))
NONE = b"\x80\x04N."


def safetensors(data: bytes = bytes(64), declared: int = 64) -> bytes:
    head = json.dumps({"w": {"dtype": "F32", "shape": [declared // 4], "data_offsets": [0, declared]}}).encode()
    return struct.pack("<Q", len(head)) + head + data


def test_a_sound_file_of_an_inert_format_passes(scan_files):
    evidence = scan_files({"model.safetensors": safetensors()})
    assert (evidence.verdict, evidence.outcome) == (Verdict.PASS, "clean")


def test_a_truncated_file_is_inconclusive(scan_files):
    evidence = scan_files({"model.safetensors": safetensors(bytes(10))})
    assert evidence.verdict is Verdict.INCONCLUSIVE
    assert {f.rule for f in evidence.findings} == {"RGS-FMT-003"}


def test_bytes_that_nobody_knows_are_inconclusive(scan_files):
    evidence = scan_files({"odd.bin": ODD})
    assert evidence.verdict is Verdict.INCONCLUSIVE
    assert [f.rule for f in evidence.findings] == ["RGS-FMT-001"]


def test_reviewed_bytes_pass(scan_files):
    assert scan_files({"odd.bin": ODD}, allow=["RGS-FMT-001:odd.bin"]).verdict is Verdict.PASS


@pytest.mark.parametrize(
    "files",
    [
        {"a.txt": "hello world\n"},
        {"a.csv": "a,b\n1,2\n"},
        {"a.md": "# Title\n"},
        {"config.json": "{}"},
        {
            "a.png": b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x02\x00\x00\x00"
            + bytes(20)
        },
        {"latin.txt": "caf\u00e9 na\u00efve".encode("latin-1")},
        {"utf16.txt": "hello".encode("utf-16")},
        {"a.bin": b"N"},
    ],
)
def test_text_images_and_trifles_pass(scan_files, files):
    assert scan_files(files).verdict is Verdict.PASS


def test_a_pickle_under_the_name_of_data_is_inconclusive_even_if_it_is_harmless(rules_of):
    assert "RGS-FMT-002" in rules_of({"a.json": NONE})
    assert "RGS-FMT-002" not in rules_of({"a.pkl": NONE})


def test_numbers_without_a_header_are_noted(scan_files):
    noise = random.Random(0)
    data = struct.pack("<4096f", *(noise.gauss(0, 0.05) for _ in range(4096)))
    evidence = scan_files({"w.bin": data})
    assert evidence.verdict is Verdict.PASS
    assert [f.rule for f in evidence.findings] == ["RGS-FMT-006"]


def test_random_bytes_are_no_numbers(rules_of):
    assert "RGS-FMT-001" in rules_of({"w.bin": b"\x07" + random.Random(0).randbytes(4095)})


def test_shards_that_a_manifest_describes_are_raw_data(scan_files):
    manifest = {
        "modelTopology": {"node": []},
        "weightsManifest": [{"paths": ["group1-shard1of1.bin"], "weights": []}],
    }
    evidence = scan_files({"model.json": json.dumps(manifest), "group1-shard1of1.bin": ODD})
    assert "RGS-FMT-001" not in {f.rule for f in evidence.findings}
    evidence = scan_files({"model.json": json.dumps(manifest), "other.bin": ODD})
    assert "RGS-FMT-001" in {f.rule for f in evidence.findings if f.where.file == "other.bin"}


@pytest.mark.parametrize("name", ["w.pkl", "w.onnx", "w.safetensors", "w.pt", "w.json", "w.h5"])
def test_numbers_under_the_name_of_another_format_are_unknown(rules_of, name):
    noise = random.Random(0)
    data = struct.pack("<4096f", *(noise.gauss(0, 0.05) for _ in range(4096)))
    assert "RGS-FMT-001" in rules_of({name: data})


@pytest.mark.parametrize(
    "head", [b"\x80\x04\x8e" + struct.pack("<Q", 3 << 30), b"\x08\x08\x3a\xff\xff\xff\xff\x0f", b"text\n", b""]
)
def test_a_head_before_zeros_and_zeros_alone_are_no_numbers(rules_of, head):
    assert "RGS-FMT-001" in rules_of({"w.bin": head.ljust(1 << 20, b"\0")})


def test_counts_that_are_made_to_overflow_a_parser_fail(scan_files):
    for count in (1 << 60, 1 << 41):
        header = b"GGUF" + (3).to_bytes(4, "little") + count.to_bytes(8, "little") + bytes(40)
        evidence = scan_files({"m.gguf": header})
        assert evidence.verdict is Verdict.FAIL
        assert "RGS-FMT-007" in {finding.rule for finding in evidence.findings}


def test_a_file_that_is_cut_off_is_only_damaged(rules_of):
    header = b"GGUF" + (3).to_bytes(4, "little") + (290).to_bytes(8, "little") + (20).to_bytes(8, "little")
    assert "RGS-FMT-007" not in rules_of({"m.gguf": header})
