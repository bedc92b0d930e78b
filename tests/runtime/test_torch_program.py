from __future__ import annotations

import copy
import io
import warnings
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

from regraft.package.formats import Port
from regraft.runtime.torch_export import TorchExportModel, exported
from regraft.runtime.torch_module import TorchModel
from regraft.runtime.torch_program import plain_module, program_bytes

PIXELS = np.random.default_rng(0).normal(size=(3, 2, 6, 6)).astype(np.float32)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(2, 4, 3)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.norm(self.conv(pixels))).mean((2, 3))


def model() -> TorchModel:
    return TorchModel(Net(), inputs=[Port("pixels", "float32", ("batch", 2, 6, 6))])


def test_a_program_is_bytes_without_a_pickle_and_without_this_machine() -> None:
    content = program_bytes(exported(model(), {"pixels": PIXELS[:2]}))
    assert content == program_bytes(exported(model(), {"pixels": PIXELS[:2]}))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    assert members["archive/data/sample_inputs/model.pt"] == b""
    assert not [name for name, held in members.items() if held.startswith((b"\x80\x02", b"PK"))]
    for place in (Path(__file__).parent, Path(torch.__file__).parent):
        assert str(place).encode() not in content
    loaded = TorchExportModel.from_program(torch.export.load(io.BytesIO(content)))
    (found,) = loaded({"pixels": PIXELS}).values()
    assert np.array_equal(found, model()({"pixels": PIXELS})["output_0"])


def test_its_graph_can_be_a_part_of_another_network() -> None:
    graph = TorchExportModel.from_program(exported(model(), {"pixels": PIXELS[:2]}))
    module = plain_module(graph).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = copy.deepcopy(module).double()
    with torch.inference_mode():
        (found,) = module(torch.from_numpy(PIXELS))
        (exact,) = again(torch.from_numpy(PIXELS).double())
    (expected,) = graph({"pixels": PIXELS}).values()
    assert np.array_equal(found.numpy(), expected)
    assert exact.dtype is torch.float64


class Shorter(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, : torch.sym_sum([x.shape[1], -3, x.shape[0]])]


def test_sums_of_sizes_are_written_down_which_torch_refuses() -> None:
    tensor = torch.arange(24.0).reshape(2, 12)
    auto = torch.export.Dim.AUTO
    program = torch.export.export(Shorter(), (tensor,), dynamic_shapes=({0: auto, 1: auto},))
    assert any(node.target is torch.sym_sum for node in program.graph.nodes)
    graph = torch.export.load(io.BytesIO(program_bytes(program))).module()
    for rows, columns in ((2, 12), (3, 7)):
        assert graph(torch.zeros(rows, columns)).shape == (rows, columns - 3 + rows)
