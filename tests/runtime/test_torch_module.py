from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch
from torch import nn

from regraft.errors import Unsupported
from regraft.package.formats import Port
from regraft.runtime.graphs import operator_graph
from regraft.runtime.torch_module import TorchModel
from regraft.workflow.load import load


class Twice(nn.Module):
    """Calls one layer twice and changes a result in place afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        first = self.layer(x)
        second = self.layer(self.act(first))
        return {"y": second, "z": (first + second).sum(-1)}


def _model(module: nn.Module, *, width: int = 4) -> TorchModel:
    return TorchModel(module, inputs=[Port("x", "float32", ("batch", width))], where="test")


@pytest.fixture
def x() -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(0).standard_normal((3, 4)).astype("float32")}


def test_taps_are_what_the_modules_returned_before_anything_changed_them(x):
    module = Twice()
    taps = {tap.name: tap for tap in _model(module).trace(x)}
    assert list(taps) == ["layer", "act", "layer:1", "y", "z"]
    with torch.no_grad():
        first = module.layer(torch.from_numpy(x["x"]))
    assert np.array_equal(taps["layer"].value, first.numpy())  # not the rectified one
    assert np.array_equal(taps["act"].value, first.relu().numpy())
    assert [tap.order for tap in taps.values()] == [0, 1, 2, 3, 4]
    assert taps["layer:1"].operator == "Linear"
    assert taps["layer:1"].scope == "layer"


class InPlace(nn.Module):
    """Adds to its input where that lies, and to the sum again."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.add_(1).add_(x)


def test_what_a_network_does_in_place_changes_neither_its_feeds_nor_a_trace(x):
    before = x["x"].copy()
    model = _model(InPlace())
    answer = model(x)["output_0"]
    graph = operator_graph(model, x)
    values = dict(x)
    for node in graph.nodes:
        values |= graph.run(node, values)
    assert np.array_equal(x["x"], before)
    assert np.array_equal(values[graph.nodes[0].outputs[0]], before + 1)
    assert np.array_equal(answer, 2 * (before + 1))
    assert np.array_equal(values[graph.outputs[0]], answer)


def test_outputs_are_taps_and_equal_those_of_a_call(minilm, token_feeds):
    model = load(minilm)
    feeds = token_feeds(2, 9)
    outputs = model(feeds)
    taps = {tap.name: tap.value for tap in model.trace(feeds, taps=["last_hidden_state", "encoder.layer.3.output"])}
    assert np.array_equal(taps["last_hidden_state"], outputs["last_hidden_state"])
    assert taps["encoder.layer.3.output"].shape == (2, 9, 384)


def test_hooks_and_threads_are_gone_when_the_consumer_stops_early(x):
    model = _model(Twice())
    for tap in model.trace(x):
        assert tap.name == "layer"
        break
    assert not any(module._forward_hooks for module in model.module.modules())
    assert all(thread.name != "regraft-trace" for thread in threading.enumerate())


class Chain(nn.Module):
    """So many layers of 4 MB results."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Tanh() for _ in range(depth))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


def test_a_trace_waits_for_its_consumer(x):
    model = _model(Chain(64))
    made: list[int] = []
    for i, layer in enumerate(model.module.layers):
        layer.register_forward_hook(lambda *_, i=i: made.append(i))
    stream = model.trace(x)
    next(stream)
    time.sleep(0.3)
    assert len(made) < 16  # eight in the queue, one in hand, one waiting
    assert len(list(stream)) == 64


def test_reduced_traces_hold_no_tensors(statistics):
    model = _model(Chain(60), width=1 << 19)
    feeds = {"x": np.ones((1, 1 << 19), dtype=np.float32)}
    import tracemalloc

    tracemalloc.start()
    taps = list(model.trace(feeds, reduce=statistics))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(taps) == 61
    assert all(tap.value is None and tap.kept is not None for tap in taps)
    # 61 float32 taps are 122 MiB; numpy's own temporaries of one reduction, in float64, are some 12 MiB
    assert peak < 30 << 20


def test_an_error_inside_the_network_reaches_who_consumes_the_trace(x):
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ok = nn.Tanh()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.ok(x) @ torch.zeros(7, 7)

    stream = _model(Broken()).trace(x)
    assert next(stream).name == "ok"
    with pytest.raises(Unsupported, match="the network stopped"):
        next(stream)


def test_cast_computes_in_float64_and_leaves_the_model_alone(x):
    model = _model(Twice())
    exact = model.cast("float64")
    wide = {"x": x["x"].astype("float64")}
    assert exact(wide)["y"].dtype == np.float64
    # float32 rounding of a 4-term sum, twice: a few units of 6e-8
    assert np.abs(exact(wide)["y"] - model(x)["y"]).max() < 1e-6
    assert model.effective_precision == "float32"
    assert exact.effective_precision == "float64"


def test_threads_are_set_for_the_pass_alone(x):
    before = torch.get_num_threads()
    seen: list[int] = []
    module = Twice()
    module.layer.register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
    TorchModel(module, inputs=[Port("x", "float32", ("batch", 4))], threads=before + 1)(x)
    assert set(seen) == {before + 1}
    assert torch.get_num_threads() == before


def test_an_eager_module_has_no_segments():
    with pytest.raises(Unsupported, match="no graph"):
        _model(Twice()).segment(["layer"], ["y"])
