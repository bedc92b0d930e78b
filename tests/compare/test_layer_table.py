"""Layers of small networks, counted by hand, and of a published one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from regraft.compare.layer_table import layer_table
from regraft.conceptual.architectures import architecture
from regraft.errors import Unsupported
from regraft.package.formats import Port
from regraft.runtime.torch_graph import TorchGraph
from regraft.runtime.torch_module import TorchModel


def test_multiply_adds_are_those_that_are_published() -> None:
    from benchmarks.resnet import resnet18

    network, _ = resnet18()
    model = TorchModel(network, inputs=[Port("input", "float32", ("batch", 3, 224, 224))])
    table = layer_table(model, {"input": np.zeros((2, 3, 224, 224), np.float32)})
    spec = architecture("resnet18")
    assert spec is not None
    assert (table.parameters, table.multiply_adds) == (
        spec.parameters,
        spec.multiply_adds,
    )  # a batch of two counts once


def test_layers_of_all_kinds_are_counted() -> None:
    network = nn.ModuleDict({"table": nn.Embedding(7, 4), "cell": nn.LSTM(4, 6, batch_first=True)})
    network["turn"] = nn.ConvTranspose1d(6, 3, 4, stride=2, groups=3)

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = network

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            states, _ = self.parts["cell"](self.parts["table"](ids))  # (B, 5, 6)
            return self.parts["turn"](states.transpose(1, 2))  # (B, 3, 12)

    model = TorchModel(Whole().eval(), inputs=[Port("ids", "int64", ("batch", 5))])
    table = layer_table(model, {"ids": np.zeros((1, 5), np.int64)})
    assert [layer.kind for layer in table.layers] == ["embedding", "recurrent", "convolution"]
    _, cell, turn = table.layers
    assert (cell.channels_in, cell.channels_out, cell.multiply_adds) == (4, 6, 5 * 4 * 6 * (4 + 6))
    assert (turn.channels_in, turn.channels_out, turn.kernel, turn.stride, turn.groups) == (6, 3, (4,), (2,), 3)
    assert turn.multiply_adds == 5 * 6 * 1 * 4
    assert table.parameters == sum(parameter.numel() for parameter in network.parameters())


def test_jax_tells_its_strides() -> None:
    jax = pytest.importorskip("jax")
    from regraft.runtime.jax_model import JaxModel

    kernel = np.ones((3, 3, 1, 8), np.float32)  # (H, W, C per group, C)

    def network(feeds):
        return jax.lax.conv_general_dilated(  # of (B, 9, 9, 4)
            feeds["x"], kernel, (2, 2), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=4
        )

    model = JaxModel(jax.jit(network), inputs=[Port("x", "float32", ("batch", 9, 9, 4))])
    (layer,) = layer_table(model, {"x": np.zeros((1, 9, 9, 4), np.float32)}).layers
    assert (layer.channels_in, layer.channels_out, layer.kernel, layer.stride, layer.groups) == (
        4,
        8,
        (3, 3),
        (2, 2),
        4,
    )


def test_strides_that_are_not_told_are_not_made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(TorchGraph, "settings")
    feeds = {"input": np.zeros((1, 3, 8, 8), np.float32)}
    ports = [Port("input", "float32", ("batch", 3, 8, 8))]
    with pytest.raises(Unsupported, match="stride"):
        layer_table(TorchModel(nn.Conv2d(3, 4, 3, stride=2).eval(), inputs=ports), feeds)
    pointwise = nn.Sequential(nn.Flatten(), nn.Linear(192, 2)).eval()
    assert layer_table(TorchModel(pointwise, inputs=ports), feeds).layers[0].kind == "linear", "it has no stride"
