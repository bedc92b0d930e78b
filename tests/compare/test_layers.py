from __future__ import annotations

import copy

import numpy as np
import pytest
from torch import nn

from regraft.compare.layers import PlainTrace, divergence_by_layer, layers_of_taps
from regraft.compare.localise import localise
from regraft.deployment.convert.hops.onnx_from_torch import OnnxFromTorch
from regraft.deployment.convert.interface import Source
from regraft.package.formats import Port
from regraft.runtime.graphs import operator_graph
from regraft.runtime.onnxruntime_model import OnnxRuntimeModel
from regraft.runtime.torch_module import TorchModel

FEEDS = {"x": np.random.default_rng(0).normal(size=(40, 12)).astype(np.float32)}


def converted(network: nn.Module) -> OnnxRuntimeModel:
    source = TorchModel(network, inputs=[Port("x", "float32", ("batch", 12))])
    return OnnxRuntimeModel(OnnxFromTorch().convert(Source(source, [FEEDS])).files["model.onnx"])


@pytest.fixture
def reference(network: nn.Module) -> TorchModel:
    return TorchModel(network, inputs=[Port("x", "float32", ("batch", 12))])


def layers(reference: TorchModel, candidate: OnnxRuntimeModel):
    ours, theirs = operator_graph(reference, FEEDS), operator_graph(candidate, FEEDS)
    pairs = localise(ours, theirs, FEEDS).pairs
    return divergence_by_layer(PlainTrace(ours, FEEDS), theirs, FEEDS, pairs=pairs)


def test_a_fault_starts_at_the_layer_that_has_it_and_propagates(reference: TorchModel, network: nn.Module) -> None:
    faulty = copy.deepcopy(network)
    faulty.norm.eps = 1e-3
    found = layers(reference, converted(faulty))
    by_scope = {layer.scope: layer.rms_ratio for layer in found}
    assert by_scope["first"] < 3
    assert by_scope["norm"] > 100
    assert found[-1].rms_ratio > 30, "what comes behind it is off, too: nothing is forced here"
    assert [layer.order for layer in found] == sorted(layer.order for layer in found)


def test_a_benign_conversion_is_within_a_few_floors_everywhere(reference: TorchModel, network: nn.Module) -> None:
    found = layers(reference, converted(network))
    assert {"first", "norm", "act"} <= {layer.scope for layer in found}
    assert max(layer.rms_ratio for layer in found) < 5


def test_a_recording_is_aligned_by_its_values(reference: TorchModel, network: nn.Module) -> None:
    trace = PlainTrace(operator_graph(reference, FEEDS), FEEDS)
    found, strangers = layers_of_taps(trace, converted(network).trace(FEEDS))
    assert {"first", "norm", "act"} <= {layer.scope for layer in found}
    faulty = copy.deepcopy(network)
    nn.init.ones_(faulty.first.weight)
    found, others = layers_of_taps(trace, converted(faulty).trace(FEEDS))
    assert len(others) > len(strangers)
