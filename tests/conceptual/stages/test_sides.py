"""What factories return: three frameworks, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.conceptual.stages.trainings import IGNORED, batches, side

from regraft.conceptual.stages import compare_stages
from regraft.conceptual.stages.interface import Side, Status
from regraft.conceptual.stages.sides import side_from_factory, side_from_function
from regraft.errors import NotFound, Unsupported, UsageError


def linear() -> dict[str, Any]:
    torch.manual_seed(1)
    model = torch.nn.Linear(5, 4)
    loss = torch.nn.CrossEntropyLoss(ignore_index=IGNORED)
    return {
        "model": model, "batches": batches(), "loss": lambda o, b: loss(o, b["targets"]),
        "optimiser": torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
        "schedule": lambda step: 0.1 / (1 + step),
    }  # fmt: skip


def linear_in_jax() -> dict[str, Any]:
    jax = pytest.importorskip("jax")
    jnp = jax.numpy

    def loss(outputs: Any, batch: Any) -> Any:
        counts = batch["targets"] != IGNORED
        picked = jnp.take_along_axis(jax.nn.log_softmax(outputs), jnp.where(counts, batch["targets"], 0)[:, None], 1)[
            :, 0
        ]
        return -(picked * counts).sum() / counts.sum()

    def sgd(weights: Any, gradients: Any, velocity: Any, rate: float) -> Any:
        kept = gradients if velocity is None else jax.tree.map(lambda v, g: 0.9 * v + g, velocity, gradients)
        return jax.tree.map(lambda w, v: w - rate * v, weights, kept), kept

    return {
        "model": lambda weights, batch: batch["inputs"] @ weights["w"] + weights["b"],
        "weights": {"w": jnp.zeros((5, 4)), "b": jnp.zeros(4)}, "batches": batches(), "loss": loss, "optimiser": sgd,
        "schedule": lambda step: 0.1 / (1 + step), "weight_map": {"weight": ("w", (1, 0)), "bias": "b"},
    }  # fmt: skip


def test_a_port_in_jax_agrees_in_every_stage() -> None:
    found = list(compare_stages(side(linear), side(linear_in_jax)))

    assert {one.stage: one.status for one in found if one.status is not Status.ABSENT} == dict.fromkeys(
        ("forward", "loss", "backward", "optimiser", "schedule", "training"), Status.AGREES
    )


def test_a_fault_in_jax_is_found_in_its_stage() -> None:
    def doubled() -> dict[str, Any]:
        made = linear_in_jax()
        return {**made, "loss": lambda o, b, loss=made["loss"]: 2 * loss(o, b)}

    found = {one.stage: one for one in compare_stages(side(linear), side(doubled))}

    assert found["loss"].divergences[0].cause == "factor"
    assert found["training"].follows == ("loss",)
    assert all(found[name].status is Status.AGREES for name in ("forward", "backward", "optimiser", "schedule"))


@pytest.mark.parametrize(
    ("returned", "error", "said"),
    [
        ([1], UsageError, "not a dict of the parts of a training"),
        ({"optimizer": 1}, UsageError, "a training has no part 'optimizer'"),
        ({"loss": 3}, UsageError, "loss is int"),
        ({"pipeline": [3]}, UsageError, "step 0 of the pipeline is int, not a function"),
        ({"batches": [3]}, UsageError, "batch 0 is int"),
        ({"steps": -1}, UsageError, "steps is -1"),
        ({"weight_map": {"a": 3}}, UsageError, "weight_map of a is 3"),
        ({"model": len}, Unsupported, "there are no `weights` beside it"),
    ],
)
def test_what_a_factory_must_not_return(returned: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        side_from_function(lambda: returned, where="py:mine:side")


def test_the_nearest_key_is_suggested() -> None:
    with pytest.raises(UsageError) as caught:
        side_from_function(lambda: {"optimizer": 1}, where="py:mine:side")

    assert "optimiser" in caught.value.hint


def test_a_factory_that_fails_is_told_with_its_place() -> None:
    def broken() -> dict[str, Any]:
        raise FileNotFoundError("data.npz")

    with pytest.raises(Unsupported, match=r"py:mine:side: the factory failed: FileNotFoundError: data\.npz"):
        side_from_function(broken, where="py:mine:side")


def test_a_factory_that_is_not_there() -> None:
    with pytest.raises(NotFound):
        side_from_factory("py:no_such_module_anywhere:side")


@pytest.mark.parametrize(("text", "said"), [("def side(:", "SyntaxError"), ("raise SystemExit(0)", "SystemExit: 0")])
def test_a_module_that_cannot_be_imported_says_why(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "not_importable.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match=said):
        side_from_factory("py:not_importable:side")


def test_a_part_that_one_side_lacks_is_not_compared() -> None:
    def silent() -> dict[str, Any]:
        return {**linear(), "schedule": None}

    found = {one.stage: one for one in compare_stages(side(linear), side(silent))}

    assert found["schedule"].status is Status.NOT_RUN
    assert "has no `schedule`" in found["schedule"].reason


def test_weights_of_other_shapes_are_told() -> None:
    def wider() -> dict[str, Any]:
        model = torch.nn.Linear(5, 7)
        return {**linear(), "model": model, "optimiser": torch.optim.SGD(model.parameters(), lr=0.1)}

    found = {one.stage: one for one in compare_stages(side(linear), side(wider))}

    assert found["forward"].status is Status.NOT_RUN
    assert "weight is (7, 5), the reference's is (4, 5)" in found["forward"].reason


def test_sides_do_not_remember() -> None:
    trained: Side = side(linear)
    before = trained.weights()

    first = trained.train(before, trained.batches, dtype="float32")
    again = trained.train(before, trained.batches, dtype="float32")

    assert all(np.array_equal(first[-1].weights[name], again[-1].weights[name]) for name in before)
    assert all(np.array_equal(before[name], value) for name, value in trained.weights().items())
