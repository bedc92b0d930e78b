"""TorchScript programs as graphs: branches, loops and state as given inputs go through them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from regraft.errors import Unsupported
from regraft.runtime.graphs import operator_graph
from regraft.runtime.named_weights import named_weights, weight_values, with_weights
from regraft.runtime.torch_script import TorchScriptModel
from regraft.runtime.torch_unrolled import _agree, unrolled

X = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)


class Program(nn.Module):
    """A branch over a setting, a loop, a state that is kept, a tensor that is changed in place."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.near, self.far = nn.Linear(4, 4), nn.Linear(4, 4)
        self.state = torch.zeros(0)

    @torch.jit.export
    def reset_states(self) -> None:
        self.state = torch.zeros(0)

    def forward(self, x: torch.Tensor, steps: int):
        for _ in range(steps):
            x = self.near(x) if steps < 5 else self.far(x)
            x.relu_()
        if len(self.state):
            x = x + self.state
        self.state = x
        return x * 2


@pytest.fixture
def program() -> TorchScriptModel:
    return TorchScriptModel(torch.jit.script(Program()))


def test_the_graph_computes_what_the_program_does(program: TorchScriptModel) -> None:
    for steps in (2, 6):
        feeds = {"x": X, "steps": np.array(steps)}
        made = unrolled(program, feeds)
        np.testing.assert_array_equal(made({"x": X})["output_0"], program(feeds)["output_0"])
        used = "near" if steps < 5 else "far"
        graph = operator_graph(program, feeds)
        taken = {name for name, weight in named_weights(program, graph).items() if weight.tensors}
        assert taken == {f"{used}.weight", f"{used}.bias"}
        assert not any(node.operator.split(".")[1].endswith("_") for node in graph.nodes)


def test_a_copy_takes_other_weights(program: TorchScriptModel) -> None:
    feeds = {"x": X, "steps": np.array(1)}
    before = program(feeds)["output_0"]
    values = weight_values(program, operator_graph(program, feeds))
    changed = with_weights(
        program, {"near.weight": values["near.weight"] * 0, "near.bias": values["near.bias"] * 0 + 1}
    )
    np.testing.assert_array_equal(changed(feeds)["output_0"], np.full((3, 4), 2.0, np.float32))
    np.testing.assert_array_equal(program(feeds)["output_0"], before)


def test_a_branch_over_numbers_cannot_be_followed() -> None:
    class Branching(Program):
        def forward(self, x: torch.Tensor, steps: int):
            return self.near(x) if bool(x.sum() > 0) else self.far(x)

    model = TorchScriptModel(torch.jit.script(Branching()))
    with pytest.raises(Unsupported, match="cannot follow the program"):
        unrolled(model, {"x": X, "steps": np.array(1)})


def test_a_tensor_that_is_changed_through_another_name_is_refused() -> None:
    class Aliased(Program):
        def forward(self, x: torch.Tensor, steps: int):
            y = self.near(x)
            y[0].mul_(3.0)
            return y

    model = TorchScriptModel(torch.jit.script(Aliased()))
    with pytest.raises(Unsupported, match="in place"):
        unrolled(model, {"x": X, "steps": np.array(1)})


@pytest.mark.parametrize("name", ["code", "graph"])
def test_parts_may_be_called_like_attributes_of_a_graph(name: str) -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.add_module(name, nn.Linear(4, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return getattr(self, name)(x)

    model = TorchScriptModel(torch.jit.trace(Named().eval(), torch.ones(2, 4)))
    graph = operator_graph(model, {"x": X})
    taken = {path for path, weight in named_weights(model, graph).items() if weight.tensors}
    assert taken == {f"{name}.weight", f"{name}.bias"}


def test_an_operator_of_another_library_is_refused_by_its_name() -> None:
    with torch.library._scoped_library("regraft_tests", "DEF") as library:
        library.define("grow_(Tensor(a!) x) -> Tensor(a!)")
        library.impl("grow_", lambda x: x.add_(1), "CompositeExplicitAutograd")

        class Foreign(nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return torch.ops.regraft_tests.grow_(x * 2)

        model = TorchScriptModel(torch.jit.trace(Foreign(), torch.ones(2, 4)))
        with pytest.raises(Unsupported, match="regraft_tests::grow_ has no counterpart"):
            unrolled(model, {"x": X})


def test_outputs_of_other_shapes_and_of_more_than_rounding_differ() -> None:
    ones = np.ones((2, 3), np.float32)
    assert _agree([ones * np.float32(1 + 2e-6)], [ones])
    assert not _agree([ones * np.float32(1 + 2e-5)], [ones])
    assert not _agree([ones[:, :2]], [ones])
    assert not _agree([ones, ones], [ones])
    assert not _agree([np.array([1, 2])], [np.array([1, 3])])


def test_what_the_program_casts_is_followed_in_the_type_that_it_is_given() -> None:
    class Cast(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.to(torch.float32) * 2

    model = TorchScriptModel(torch.jit.script(Cast()))
    for dtype in ("int64", "float32"):
        feeds = {"x": np.arange(6).reshape(2, 3).astype(dtype)}
        np.testing.assert_array_equal(unrolled(model, feeds)(feeds)["output_0"], model(feeds)["output_0"])
