"""Weights in every container: the same bits come back, whatever was unusual about them, and damage is found."""

from __future__ import annotations

import io
import json
import pickle
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from regraft.deployment.convert.weights import WeightsMade, convert_weights
from regraft.deployment.convert.weights import conversion as conversion_module
from regraft.deployment.convert.weights.npz_file import NpzFile
from regraft.errors import Damaged, DigestMismatch, LimitExceeded, Unsupported, UsageError
from regraft.package.package import open_package
from regraft.record.evidence import Severity, Verdict
from regraft.record.permit import Permit, Scope
from regraft.runtime.verified import VerifiedFiles

FORMS = ["safetensors", "npz", "hdf5", "gguf", "torch-weights"]


def made_from(path: Path, to: str, out: Path, *, is_permitted: bool = False) -> WeightsMade:
    out.mkdir(exist_ok=True, parents=True)
    with open_package(path) as package:
        digest = package.manifest().digest
        permit = Permit(digest, Scope.DATA, digest) if is_permitted else None
        name = next((e.path for e in package.entries if e.path.endswith("index.json")), package.entries[0].path)
        return convert_weights(VerifiedFiles(package, permit), name, to=to, folder=out)


def unusual_tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(6, 8, generator=generator)
    base[0, 0], base[0, 1], base[0, 2] = float("nan"), float("-inf"), -0.0
    tensors = {
        "float32": base,
        "tied": base,
        "transposed.view": base.t(),
        "sliced": base[1:, ::2],
        "expanded": base[0].expand(3, 8),
        "scalar": torch.tensor(3.5),
        "empty": torch.empty(0, 3),
        "bool": base > 0,
        "complex": torch.complex(base, base.flip(0)),
    }
    for dtype in (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int8, torch.uint8, torch.int16):
        tensors[f"of.{dtype}"] = (base.nan_to_num(0, 1, -1) * 20).to(dtype)
    for dtype in (torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz):
        tensors[f"of.{dtype}"] = torch.arange(256, dtype=torch.uint8).view(dtype)
    return tensors


def loaded(form: str, path: Path) -> dict[str, torch.Tensor]:
    """By the library of the container, to numbers of torch."""
    if form == "safetensors":
        return load_file(path)
    if form == "torch-weights":
        return torch.load(path, weights_only=True)
    if form == "npz":
        return {name: torch.from_numpy(array) for name, array in np.load(path).items()}
    if form == "hdf5":
        with h5py.File(path) as file:
            found: dict[str, Any] = {}
            file.visititems(lambda name, node: found.update({name: node[()]}) if hasattr(node, "shape") else None)
            return {name: torch.from_numpy(np.asarray(array)) for name, array in found.items()}
    import gguf

    found = {}
    for tensor in gguf.GGUFReader(path).tensors:
        shape = tuple(reversed(tensor.shape.tolist()))
        data = torch.from_numpy(np.array(tensor.data))
        is_bf16 = tensor.tensor_type is gguf.GGMLQuantizationType.BF16
        found[tensor.name] = (data.view(torch.bfloat16) if is_bf16 else data).reshape(shape)
    return found


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("to", FORMS)
def test_every_kind_of_tensor_comes_back_with_its_values(to: str, is_zip: bool, tmp_path: Path) -> None:
    tensors = unusual_tensors()
    if to == "gguf":  # has no complex numbers
        del tensors["complex"]
    if not is_zip:  # torch writes no float8 there
        tensors = {name: tensor for name, tensor in tensors.items() if "float8" not in name}
    torch.save(tensors, tmp_path / "model.bin", _use_new_zipfile_serialization=is_zip)
    made = made_from(tmp_path / "model.bin", to, tmp_path / "out", is_permitted=True)
    assert made.verdict is Verdict.PASS, made.findings
    got = loaded(to, tmp_path / "out" / made.file)
    assert got.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert got[name].shape == tensor.shape
        ours, theirs = (
            torch.view_as_real(got[name].to(torch.complex128)),
            torch.view_as_real(tensor.to(torch.complex128)),
        )
        assert torch.equal(ours.nan_to_num(7e300), theirs.nan_to_num(7e300)), name
        is_number = ~theirs.isnan()
        assert torch.equal(torch.signbit(ours)[is_number], torch.signbit(theirs)[is_number]), name
    rules = [finding.rule for finding in made.findings]
    assert "weights.shared" in rules
    assert "weights.unconfirmed" not in rules  # torch.load saw the same in the source
    if to == "torch-weights":
        assert got["tied"].data_ptr() == got["float32"].data_ptr()


def test_the_same_weights_have_the_same_digest_in_every_container_and_return_unchanged(tmp_path: Path) -> None:
    tensors = {"a.weight": torch.randn(4, 5), "b": torch.arange(7), "half": torch.randn(3).half()}
    save_file(tensors, tmp_path / "model.safetensors")
    contents = set()
    for to in FORMS[1:]:
        there = made_from(tmp_path / "model.safetensors", to, tmp_path / to)
        back = made_from(tmp_path / to / there.file, "safetensors", tmp_path / f"{to}-back")
        contents |= {there.content, back.content}
        assert all(
            torch.equal(value, tensors[name]) for name, value in load_file(tmp_path / f"{to}-back" / back.file).items()
        )
    assert len(contents) == 1


NAMES = ["a", "a/b", "../escaped", "/absolute", "", ".", "..", "x" * 150, "x" * 151, "ü.weight", "a\\b", "C:x", "a//b",
         "__metadata__", "tab\t", "a%2Fb", "con/..", "line\nbreak", "arr.npy"]  # fmt: skip


@pytest.mark.parametrize("to", FORMS)
def test_names_that_a_container_forbids_are_changed_and_told(to: str, tmp_path: Path) -> None:
    tensors = {name: torch.full((2,), float(index)) for index, name in enumerate(NAMES)}
    torch.save(tensors, tmp_path / "model.bin")
    made = made_from(tmp_path / "model.bin", to, tmp_path / "out", is_permitted=True)
    assert made.verdict is Verdict.PASS, made.findings
    got = loaded(to, tmp_path / "out" / made.file)
    assert sorted(float(value[0]) for value in got.values()) == list(range(len(NAMES)))
    (told,) = [finding.data["names"] for finding in made.findings if finding.rule == "weights.renamed"] or [{}]
    for name, tensor in tensors.items():
        if name not in told and name in got:
            assert torch.equal(got[name], tensor)
    assert all(torch.equal(got[new], tensors[name]) for name, new in told.items() if name in tensors)
    if to == "npz":
        assert not any(".." in name.split("/") or name.startswith("/") for name in got)


def test_a_writer_that_flips_one_bit_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Faulty(NpzFile):
        def write(self, path: Path, tensors: Any, metadata: Any) -> dict[str, str]:
            arrays = {item.stored.name: np.array(item.read()) for item in tensors}
            arrays["b"].reshape(-1).view(np.uint8)[3] ^= 1
            np.savez(path, **arrays)
            return {}

    save_file({"a": torch.ones(3), "b": torch.ones(2, 2)}, tmp_path / "model.safetensors")
    monkeypatch.setattr(conversion_module, "container_for", lambda form: Faulty())
    made = made_from(tmp_path / "model.safetensors", "npz", tmp_path / "out")
    assert made.verdict is Verdict.FAIL
    (finding,) = [finding for finding in made.findings if finding.rule == "weights.differs"]
    assert finding.data == {"tensors": ["b"], "readers": ["target", "target by library"]}
    assert "1 of 2 tensors" in made.summary


class Opaque:
    """A class that no loader of tensors knows; pickled by its name."""

    def __init__(self) -> None:
        self.weight = torch.arange(4.0)


def test_a_pickle_that_torch_refuses_gives_its_tensors_and_runs_nothing(tmp_path: Path) -> None:
    class Runs:
        def __reduce__(self) -> Any:
            return print, ("this must not be run",)

    checkpoint = {
        "epoch": 3, "hyper_parameters": Runs(), "optimizer": {"state": torch.ones(2)},
        "state_dict": OrderedDict(weight=torch.arange(6.0).reshape(2, 3)),
    }  # fmt: skip
    torch.save(checkpoint, tmp_path / "model.ckpt")
    command = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[3]); from test_conversion import made_from;"
        "made = made_from(Path(sys.argv[1]), 'safetensors', Path(sys.argv[2])); print(made.summary, made.findings)"
    )
    arguments = [str(tmp_path / "model.ckpt"), str(tmp_path / "out"), str(Path(__file__).parent)]
    said = subprocess.run([sys.executable, "-c", command, *arguments], capture_output=True, text=True, check=True)
    assert "must not be run" not in said.stdout.replace("findings", "")
    assert "1 of 1 tensors" in said.stdout
    assert "optimizer.state" in said.stdout
    assert load_file(tmp_path / "out" / "model.safetensors")["weight"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_pickled_modules_and_other_objects_give_every_tensor_in_them(tmp_path: Path) -> None:
    torch.save(torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3)), tmp_path / "module.pt")
    made = made_from(tmp_path / "module.pt", "safetensors", tmp_path / "out")
    expected = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3)).state_dict()
    assert load_file(tmp_path / "out" / made.file).keys() == expected.keys()
    torch.save(Opaque(), tmp_path / "opaque.pt")
    made_from(tmp_path / "opaque.pt", "npz", tmp_path / "other")
    assert np.load(tmp_path / "other" / "weights.npz")["weight"].tolist() == [0, 1, 2, 3]


def test_shards_become_one_container(tmp_path: Path) -> None:
    folder = tmp_path / "sharded"
    folder.mkdir()
    save_file({"a": torch.ones(2)}, folder / "1.safetensors")
    torch.save({"b": torch.zeros(3)}, folder / "2.bin")
    index = {"metadata": {"total_size": 20}, "weight_map": {"a": "1.safetensors", "b": "2.bin"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    made = made_from(folder, "npz", tmp_path / "out")
    assert made.verdict is Verdict.PASS
    assert set(np.load(tmp_path / "out" / made.file)) == {"a", "b"}
    index["weight_map"]["b"] = "../../etc/passwd"
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(Damaged, match="which is no weights file"):
        made_from(folder, "npz", tmp_path / "out2")


def test_what_cannot_be_read_makes_it_inconclusive(tmp_path: Path) -> None:
    lists = np.array([np.ones(2), np.ones(3)], dtype=object)
    np.savez(tmp_path / "weights.npz", a=np.ones(3), lists=lists, text=np.array(["x"]))
    made = made_from(tmp_path / "weights.npz", "safetensors", tmp_path / "out")
    assert made.verdict is Verdict.INCONCLUSIVE
    left_out = {f.severity: f.data["entries"] for f in made.findings if f.rule == "weights.left_out"}
    assert left_out == {Severity.UNKNOWN: ["lists"], Severity.INFO: ["text"]}
    sparse = {"a": torch.ones(2), "s": torch.eye(3).to_sparse()}
    torch.save(sparse, tmp_path / "sparse.pt")
    assert made_from(tmp_path / "sparse.pt", "npz", tmp_path / "out2").verdict is Verdict.INCONCLUSIVE


def test_arrays_of_other_machines_and_orders(tmp_path: Path) -> None:
    values = np.arange(6, dtype=">f4").reshape(2, 3)
    np.savez_compressed(tmp_path / "weights.npz", big=values, fortran=np.asfortranarray(values.astype("<f8")))
    made = made_from(tmp_path / "weights.npz", "safetensors", tmp_path / "out")
    assert made.verdict is Verdict.PASS
    assert all(t.tolist() == values.tolist() for t in load_file(tmp_path / "out" / made.file).values())


def write_views_without_end(path: Path) -> None:
    torch.save({"a": torch.zeros(1).expand(1 << 20, 1 << 20)}, path)


def write_npz_bomb(path: Path) -> None:
    header = np.lib.format.magic(1, 0)
    text = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,), }".ljust(117) + b"\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", header + len(text).to_bytes(2, "little") + text)


def write_external(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("a", (4,), "u1", external=[("/etc/hostname", 0, 4)])


@pytest.mark.parametrize(
    ("write", "error"),
    [
        (write_views_without_end, LimitExceeded),
        (write_npz_bomb, LimitExceeded),
        (write_external, Unsupported),
        (lambda path: path.write_bytes(b"\0" * 100), Unsupported),
        (lambda path: torch.save({"epoch": 3}, path), Unsupported),
        (lambda path: path.write_bytes(saved({"a": torch.ones(100)})[:-700]), (Damaged, Unsupported)),
    ],
)
def test_hostile_and_empty_files_are_refused(write: Callable[[Path], None], error: Any, tmp_path: Path) -> None:
    write(tmp_path / "model.file")
    with pytest.raises(error):
        made_from(tmp_path / "model.file", "safetensors", tmp_path / "out")


def saved(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def test_what_a_container_cannot_hold_is_named(tmp_path: Path) -> None:
    save_file({"ok": torch.ones(2), "wave": torch.ones(2, dtype=torch.complex64)}, tmp_path / "model.safetensors")
    with pytest.raises(Unsupported, match="gguf cannot hold 'wave', which is complex64"):
        made_from(tmp_path / "model.safetensors", "gguf", tmp_path / "out")
    with pytest.raises(UsageError, match="no container of weights"):
        made_from(tmp_path / "model.safetensors", "onnx", tmp_path / "out")


def test_a_file_that_changed_since_it_was_scanned_is_not_converted(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "model.bin")
    with open_package(tmp_path / "model.bin") as package:
        digest = package.manifest().digest
        files = VerifiedFiles(package, Permit(digest, Scope.DATA, digest))
        content = bytearray((tmp_path / "model.bin").read_bytes())
        content[-300] ^= 1
        (tmp_path / "model.bin").write_bytes(content)
        with pytest.raises(DigestMismatch):
            convert_weights(files, "model.bin", to="npz", folder=tmp_path)


def test_one_tensor_is_in_memory_at_a_time(tmp_path: Path) -> None:
    """24 tensors of 8 MiB: 192 MiB pass through, and less than five of them are held at once."""
    save_file(
        {f"layer.{index}": torch.full((2 << 20,), float(index)) for index in range(24)}, tmp_path / "m.safetensors"
    )
    command = (
        "import resource, sys; from pathlib import Path; from regraft.package.package import open_package;"
        "from regraft.runtime.verified import VerifiedFiles; import numpy, h5py;"
        "from regraft.deployment.convert.weights import convert_weights;"
        "import regraft.deployment.convert.weights.torch_file as t; t.has_torch = lambda: False;"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "p = open_package(sys.argv[1]);"
        "m = convert_weights(VerifiedFiles(p), p.entries[0].path, to='hdf5', folder=Path(sys.argv[2]));"
        "print(m.verdict, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    run = [sys.executable, "-c", command, str(tmp_path / "m.safetensors"), str(tmp_path)]
    verdict, grown_kib = subprocess.run(run, capture_output=True, text=True, check=True).stdout.split()
    assert verdict == "pass"
    assert int(grown_kib) < 40 << 10


def test_the_pickle_module_is_never_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "model.bin")

    def refuse(*_: Any, **__: Any) -> Any:
        pytest.fail("something was unpickled")

    monkeypatch.setattr(pickle, "load", refuse)
    monkeypatch.setattr(torch, "load", refuse)
    made = made_from(tmp_path / "model.bin", "npz", tmp_path / "out")  # without a permit
    assert [finding.rule for finding in made.findings] == ["weights.unconfirmed"]
