"""What hides in weights, through the whole scan: in files, in members of archives, between tensors."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable

import pytest
from tests.trust.corpus.archive_writers import tarred, zipped
from tests.trust.corpus.weight_payloads import (
    PROGRAMS,
    in_gguf,
    in_hdf5,
    in_npy,
    in_onnx,
    in_safetensors,
    in_torch,
    weights,
    with_bytes,
    with_low_bytes,
)

from regraft.record.evidence import Verdict

WRITERS: dict[str, Callable[..., bytes]] = {
    "model.safetensors": in_safetensors,
    "pytorch_model.bin": in_torch,
    "weights.npy": in_npy,
    "model.onnx": in_onnx,
    "model.gguf": in_gguf,
    "model.h5": in_hdf5,
}


def found(scan_files, files, **options):
    return {finding.rule for finding in scan_files(files, **options).findings if finding.rule.startswith("RGS-WGT")}


@pytest.mark.parametrize("name", WRITERS)
def test_tensors_are_read_only_when_asked(scan_files, name):
    program = WRITERS[name](with_bytes(weights(), PROGRAMS["ELF"]))
    hidden = WRITERS[name](with_low_bytes(weights(), PROGRAMS["ELF"], (2, 1, 0)))
    for content in (program, hidden):
        assert found(scan_files, {name: content}) == set()
        assert "RGS-WGT-001" in found(scan_files, {name: content}, weights=True)
    clean = scan_files({name: WRITERS[name](weights())}, weights=True)
    assert clean.verdict is Verdict.PASS, clean.findings


def test_what_belongs_to_no_tensor_is_always_looked_at(scan_files):
    program = PROGRAMS["ELF"]
    torch = in_torch(weights())
    for files in (
        {"m.safetensors": in_safetensors(weights(), after=program)},
        {"m.safetensors": in_safetensors(weights(), gap=program + bytes(-len(program) % 4))},
        {"w.npy": in_npy(weights(), after=program)},
        {"m.pt": torch + program},
    ):
        assert found(scan_files, files) == {"RGS-WGT-001"}


def test_arrays_within_archives(scan_files):
    bad = in_npy(with_bytes(weights(), PROGRAMS["Windows program"]))
    for files in ({"w.npz": zipped({"w.npy": bad})}, {"m.tar.gz": tarred({"w.npy": bad}, mode="w:gz")}):
        assert found(scan_files, files, weights=True) == {"RGS-WGT-001"}


def test_statistics_are_inconclusive_and_name_the_tensor(scan_files):
    text = base64.b64encode(random.Random(5).randbytes(60_000))
    evidence = scan_files({"m.safetensors": in_safetensors(with_low_bytes(weights(), text, (0, 1)))}, weights=True)
    assert evidence.verdict is Verdict.INCONCLUSIVE
    [finding] = [finding for finding in evidence.findings if finding.rule == "RGS-WGT-003"]
    assert finding.data["tensor"] == "layer.weight"
    assert finding.data["kind"] == "structure"


def test_an_archive_in_numbers_is_inconclusive(scan_files):
    content = in_safetensors(with_bytes(weights(), zipped({"x": b"content"})))
    assert found(scan_files, {"m.safetensors": content}, weights=True) == {"RGS-WGT-002"}


def test_damaged_files_are_searched_all_the_same(scan_files):
    content = in_safetensors(with_bytes(weights(), PROGRAMS["ELF"]))[:-100]
    assert "RGS-WGT-001" in found(scan_files, {"m.safetensors": content}, weights=True)
