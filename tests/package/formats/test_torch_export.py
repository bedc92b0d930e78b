"""Exported programs: tensors, operators and ports as torch.export declares them."""

from __future__ import annotations

import io
import json
import random
import zipfile

import pytest
import torch

from regraft.errors import Damaged, RegraftError
from regraft.package.formats.interface import Loading, Port, Probe
from regraft.package.formats.torch_export import TorchExport
from regraft.package.reader import BytesReader


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 3)
        self.norm = torch.nn.BatchNorm1d(3)
        self.register_buffer("offset", torch.ones(2, dtype=torch.bfloat16), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.norm(self.linear(x))) + self.offset.sum().float()


@pytest.fixture(scope="module")
def program() -> bytes:
    batch = torch.export.Dim("batch")
    exported = torch.export.export(Net().eval(), (torch.randn(2, 4),), dynamic_shapes=({0: batch},))
    buffer = io.BytesIO()
    torch.export.save(exported, buffer)
    return buffer.getvalue()


def probe(data: bytes) -> Probe:
    return Probe(BytesReader(data, where="test"), "test.pt2")


def test_describes_what_was_exported(program: bytes) -> None:
    member = TorchExport()
    assert member.matches(probe(program))
    assert member.loading is Loading.CODE
    description = member.describe(probe(program))
    module = Net()
    expected = [
        *((name, str(value.dtype)[6:], tuple(value.shape)) for name, value in module.state_dict().items()),
        ("offset", "bfloat16", (2,)),
    ]
    assert [(t.name, t.dtype, t.shape) for t in description.tensors or ()] == expected
    assert description.operators["aten::linear.default"] == 1
    (given,), (result,) = description.inputs, description.outputs
    assert isinstance(given.shape, tuple)
    assert given == Port("x", "float32", (given.shape[0], 4))
    assert result.shape == (given.shape[0], 3)
    assert isinstance(given.shape[0], str)
    assert description.opsets["aten"] > 0
    assert description.metadata["torch_version"].startswith("2.")
    assert description.problems == ()


def older_layout(graph: str | bytes) -> Probe:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("version", "8.8")
        archive.writestr("serialized_exported_program.json", graph)
    return probe(buffer.getvalue())


def test_the_older_layout_takes_tensors_from_the_signature(program: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(program)) as archive:
        name = next(name for name in archive.namelist() if name.endswith("models/model.json"))
        graph = archive.read(name)
    assert TorchExport().matches(older_layout(graph))
    description = TorchExport().describe(older_layout(graph))
    assert ("linear.weight", (3, 4)) in [(t.name, t.shape) for t in description.tensors or ()]
    assert description.version == "8.8"


@pytest.mark.parametrize("graph", ["[]", "{}", '{"graph_module": {"graph": {"nodes": [1, {"target": 3}]}}}'])
def test_nonsense_programs_have_no_operators(graph: str) -> None:
    assert TorchExport().describe(older_layout(graph)).operators == {}


@pytest.mark.parametrize("graph", ["[" * 9999, "{", "\xff"])
def test_programs_that_are_no_json_are_damaged(graph: str) -> None:
    with pytest.raises(Damaged):
        TorchExport().describe(older_layout(graph))


def test_shared_libraries_are_named() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("m/archive_format", "pt2")
        archive.writestr("m/data/aotinductor/model/x.so", b"\x7fELF")
    assert TorchExport().matches(probe(buffer.getvalue()))
    assert TorchExport().describe(probe(buffer.getvalue())).metadata["native_code"].endswith("x.so")


def test_hostile_json_types_leak_no_other_error(program: bytes) -> None:
    dice = random.Random(5)
    with zipfile.ZipFile(io.BytesIO(program)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    name = next(name for name in files if name.endswith("models/model.json"))
    content = json.loads(files[name])
    for _ in range(100):
        changed = json.loads(json.dumps(content))
        spot = changed
        for _ in range(dice.randint(1, 8)):
            inner = list(spot.values()) if isinstance(spot, dict) else spot
            inner = [value for value in inner if isinstance(value, (dict, list)) and value]
            if not inner:
                break
            spot = dice.choice(inner)
        key = dice.choice(list(spot)) if isinstance(spot, dict) else dice.randrange(len(spot))
        spot[key] = dice.choice([None, 3, -1, "x", [], {}, 1 << 80, [[]], {"as_int": "x"}])
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for member, data in files.items():
                archive.writestr(member, json.dumps(changed) if member == name else data)
        TorchExport().describe(probe(buffer.getvalue()))


def test_damage_leaks_no_other_error(program: bytes) -> None:
    dice = random.Random(9)
    for step in range(150):
        data = bytearray(program[: len(program) * (step + 1) // 50] if step < 50 else program)
        for _ in range(dice.randint(1, 8) if step >= 50 else 0):
            data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        if TorchExport().matches(probe(bytes(data))):
            try:
                TorchExport().describe(probe(bytes(data)))
            except RegraftError:
                continue
