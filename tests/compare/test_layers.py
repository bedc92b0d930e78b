from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from regraft.compare.layers import divergence_by_layer
from regraft.deployment.convert.interface import Source
from regraft.deployment.convert.onnx_from_torch import OnnxFromTorch
from regraft.package.formats import Port
from regraft.runtime.onnxruntime_model import OnnxRuntimeModel
from regraft.runtime.torch_module import TorchModel

FEEDS = {"x": np.random.default_rng(0).normal(size=(40, 12)).astype(np.float32)}


def converted(network: nn.Module) -> OnnxRuntimeModel:
    source = TorchModel(network, inputs=[Port("x", "float32", ("batch", 12))])
    return OnnxRuntimeModel(OnnxFromTorch().convert(Source(source, [FEEDS])).files["model.onnx"])


@pytest.fixture
def reference(network: nn.Module) -> TorchModel:
    return TorchModel(network, inputs=[Port("x", "float32", ("batch", 12))])


def test_a_fault_starts_at_the_layer_that_has_it(reference: TorchModel, network: nn.Module) -> None:
    faulty = copy.deepcopy(network)
    faulty.norm.eps = 1e-3
    layers = divergence_by_layer(reference, converted(faulty), FEEDS, inputs={"x": "x"}, precision="float32")
    by_scope = {layer.scope: layer.rms_ratio for layer in layers}
    assert by_scope["first"] < 3
    assert by_scope["norm"] > 100
    assert [layer.order for layer in layers] == sorted(layer.order for layer in layers)


def test_a_benign_conversion_is_within_a_few_floors_everywhere(reference: TorchModel, network: nn.Module) -> None:
    layers = divergence_by_layer(reference, converted(network), FEEDS, inputs={"x": "x"}, precision="float32")
    assert {"first", "norm", "act"} <= {layer.scope for layer in layers}
    assert max(layer.rms_ratio for layer in layers) < 5


def test_memory_is_bounded_by_groups(reference: TorchModel, network: nn.Module, monkeypatch) -> None:
    whole = divergence_by_layer(reference, converted(network), FEEDS, inputs={"x": "x"}, precision="float32")
    monkeypatch.setattr("regraft.compare.layers.TRACE_BYTES", 1)
    parts = divergence_by_layer(reference, converted(network), FEEDS, inputs={"x": "x"}, precision="float32")
    assert [layer.name for layer in parts] == [layer.name for layer in whole]
    assert torch.tensor([layer.rms_ratio for layer in parts]).isfinite().all()
