"""replicate --profile: what is said of two networks' speed; how fast they are is not judged."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from regraft.conceptual.performance import Block, Comparison
from regraft.conceptual.performance_evidence import add_speed_profile
from regraft.errors import Unsupported
from regraft.package.formats import Port
from regraft.record.evidence import Draft, Severity
from regraft.runtime.feeds import FeedCase
from regraft.runtime.onnxruntime_model import OnnxRuntimeModel
from regraft.runtime.onnxruntime_profile import _by_scope, kernel_times
from regraft.runtime.quantiles import Quantile
from regraft.runtime.torch_module import TorchModel


class Steps(nn.Module):
    """A linear layer, for all steps at once or in a loop."""

    def __init__(self, is_loop: bool) -> None:
        super().__init__()
        self.linear, self.is_loop = nn.Linear(8, 8), is_loop

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.is_loop:
            return torch.stack([self.linear(x[:, step]) for step in range(x.shape[1])], 1)
        return self.linear(x)


class Network(nn.Module):
    def __init__(self, is_loop: bool = False) -> None:
        super().__init__()
        self.steps = Steps(is_loop)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.steps(x)


class OtherName(Network):
    def forward(self, tokens: torch.Tensor) -> torch.Tensor:  # the same input by another name
        return self.steps(tokens)


def model(network: nn.Module, name: str = "x") -> TorchModel:
    return TorchModel(network, inputs=[Port(name, "float32", ("batch", "steps", 8))], where="py:here:network")


def case(steps: int, values: str = "normal") -> FeedCase:
    feeds = {"x": torch.ones(2, steps, 8).numpy()}
    return FeedCase(f"{values} steps={steps}", feeds, values)


def test_the_module_that_loses_time_is_named_and_nothing_fails() -> None:
    draft = Draft("replicate")
    candidate = model(OtherName(is_loop=True), "tokens")
    add_speed_profile(draft, model(Network()), candidate, [case(3), case(8), case(99, "zeros")], inputs={"x": "tokens"})

    (finding,) = draft.findings
    assert (finding.rule, finding.severity) == ("replicate.profile", Severity.INFO)
    modules = {one["module"]: one["causes"] for one in finding.data["modules"]}
    assert any("a loop: " in cause for cause in modules["steps"])
    assert "on normal steps=8" in finding.message
    assert {one.name for one in draft.measurements} >= {"pass_ratio", "pass_wall"}


def test_what_is_not_shown_to_be_slower_blames_no_module(monkeypatch: pytest.MonkeyPatch) -> None:
    tie = Comparison(Quantile(1.04, 0.9, 1.2, 20), 1.0, 1.04, (Block("steps", 1.0, 1.1, 1.0, ()),))
    monkeypatch.setattr("regraft.conceptual.performance_evidence.compare_speed", lambda *_, **__: tie)
    draft = Draft("replicate")
    add_speed_profile(draft, model(Network()), model(Network()), [case(3)], inputs={"x": "x"})

    (finding,) = draft.findings
    assert "does not show it to be slower (interval 0.90 to 1.20" in finding.message
    assert finding.where.field is None
    assert "module_lost" not in {one.name for one in draft.measurements}


def linear_in_onnx(network: Network) -> OnnxRuntimeModel:
    """The same network, its one product in a scope."""
    weights = [
        numpy_helper.from_array(network.steps.linear.weight.detach().numpy().T.copy(), "w"),
        numpy_helper.from_array(network.steps.linear.bias.detach().numpy(), "b"),
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["product"], "/steps/linear/MatMul"),
        helper.make_node("Add", ["product", "b"], ["y"], "/steps/linear/Add"),
    ]
    places = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", "steps", 8]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "linear", places[:1], places[1:], weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return OnnxRuntimeModel(made.SerializeToString(), threads=1, where="linear.onnx")


def test_other_runtimes_are_timed_whole_and_onnxruntime_by_scope() -> None:
    network, draft = Network(), Draft("replicate")
    add_speed_profile(draft, model(network), linear_in_onnx(network), [case(3), case(8)], inputs={"x": "x"})

    (finding,) = draft.findings
    assert (finding.rule, finding.severity) == ("replicate.profile", Severity.INFO)
    assert finding.message.endswith("in steps/linear; torch is only timed as a whole")
    (ratio,) = [one for one in draft.measurements if one.name == "pass_ratio"]
    assert ratio.low <= ratio.value <= ratio.high
    assert [one.of["scope"] for one in draft.measurements if one.name == "scope_time"] == ["steps/linear"]


def test_the_body_of_a_loop_is_added_up_pass_by_pass_and_the_loop_is_not_counted_twice() -> None:
    names = {"x": TensorProto.FLOAT, "more": TensorProto.BOOL, "i": TensorProto.INT64}
    i, more, x = (helper.make_tensor_value_info(name, names[name], []) for name in ("i", "more", "x"))
    ends = [helper.make_tensor_value_info(name, kind, []) for name, kind in (("again", names["more"]), ("y", 1))]
    nodes = [helper.make_node("Identity", ["more"], ["again"]), helper.make_node("Exp", ["x"], ["y"], name="body/exp")]
    body = helper.make_graph(nodes, "body", [i, more, x], ends)
    times = numpy_helper.from_array(np.array(5), "times")
    loop = helper.make_node("Loop", ["times", "", "start"], ["z"], name="loop/all", body=body)
    start, end = (helper.make_tensor_value_info(name, TensorProto.FLOAT, []) for name in ("start", "z"))
    graph = helper.make_graph([loop], "graph", [start], [end], [times])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    scopes = kernel_times(OnnxRuntimeModel(made.SerializeToString(), threads=1), {"start": np.float32(0.0)[...]})
    assert "body" in [one.scope for one in scopes]
    assert "loop" not in [one.scope for one in scopes]

    kernel = {"cat": "Node", "name": "body/exp_kernel_time", "args": {"op_name": "Exp"}}
    runs = [{"cat": "Session", "name": "model_run", "ts": ts, "dur": 50} for ts in (0, 100)]
    durations = {1: 1, 10: 1, 101: 3, 110: 3}
    (one,) = _by_scope([*runs, *({**kernel, "ts": ts, "dur": dur} for ts, dur in durations.items())], 2)
    assert one.ms == pytest.approx(4e-3)  # the median of 2 and 6 µs


def test_an_input_that_the_candidate_does_without_is_not_given_to_it() -> None:
    class OfTwo(Network):
        def forward(self, x: torch.Tensor, unused: torch.Tensor) -> torch.Tensor:
            return self.steps(x)

    ports = [Port("x", "float32", ("batch", "steps", 8)), Port("unused", "float32", ("batch",))]
    reference, draft = TorchModel(OfTwo(), inputs=ports), Draft("replicate")
    feeds = FeedCase("normal", {**case(3).feeds, "unused": np.ones(2, np.float32)}, "normal")
    add_speed_profile(draft, reference, model(Network()), [feeds], inputs={"x": "x"})
    assert [one.rule for one in draft.findings] == ["replicate.profile"]


def test_without_feeds_nothing_is_timed() -> None:
    with pytest.raises(Unsupported, match="no feeds on which both models run"):
        add_speed_profile(Draft("replicate"), model(Network()), model(Network()), [], inputs={"x": "x"})
