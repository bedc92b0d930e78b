"""replicate --profile: what is said of two networks' speed; how fast they are is not judged."""

from __future__ import annotations

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


def test_without_feeds_nothing_is_timed() -> None:
    with pytest.raises(Unsupported, match="no feeds on which both models run"):
        add_speed_profile(Draft("replicate"), model(Network()), model(Network()), [], inputs={"x": "x"})
