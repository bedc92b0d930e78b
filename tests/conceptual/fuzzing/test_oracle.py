"""What counts as a difference: integers that flip by rounding or by a tie do not, real faults beside them do."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from regraft.conceptual.fuzzing.oracle import Answer, Oracle, Outcome
from regraft.errors import Unsupported
from regraft.package.formats import Port
from regraft.runtime.torch_module import TorchModel

Function = Callable[[torch.Tensor], torch.Tensor]
ROW = np.array([[0.5, 1.0, 0.25, -1.0]], np.float32)


class Net(nn.Module):
    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


def oracle_of(
    reference: Function, candidate: Function, x: np.ndarray = ROW, kind: type[TorchModel] = TorchModel
) -> Oracle:
    ports = [Port("x", str(x.dtype), ("batch", x.shape[1]))]
    ours, theirs = TorchModel(Net(reference), inputs=ports), kind(Net(candidate), inputs=ports)
    outputs = dict(zip(ours({"x": x}), theirs({"x": x}), strict=True))
    return Oracle(ours, theirs, {"x": x}, inputs={"x": "x"}, outputs=outputs)


def judged(reference: Function, candidate: Function, x: np.ndarray = ROW) -> Outcome:
    return oracle_of(reference, candidate, x).judged({"x": x})


def first(x: torch.Tensor) -> torch.Tensor:
    return x.argmax(-1)


def last(x: torch.Tensor) -> torch.Tensor:
    return x.shape[-1] - 1 - x.flip(-1).argmax(-1)


def test_an_integer_that_flips_in_float32_alone_is_rounding() -> None:
    x = np.array([[1.0, 1.0 + 2.0**-20, 0.25, -1.0]], np.float32)
    outcome = judged(first, lambda x: ((x + 64) - 64).argmax(-1), x)
    assert outcome.answer is Answer.ROUNDING


def test_a_tie_of_zeros_is_no_difference_and_another_axis_of_zeros_is_none_either() -> None:
    assert judged(first, last, np.zeros((1, 4), np.float32)).answer is Answer.SAME
    assert judged(first, lambda x: first(-x), ROW).answer is Answer.DIFFERS


def test_a_tie_that_no_neighbour_can_break_is_told_and_not_accused() -> None:
    outcome = judged(first, last, np.full((1, 4), 3, np.int64))
    assert outcome.answer is Answer.ROUNDING
    assert "tie" in outcome.message


def test_what_is_wrong_on_zeros_alone_is_still_found() -> None:
    zeros = np.zeros((1, 4), np.float32)
    assert judged(lambda x: x + 1, lambda x: torch.where(x == 0, 0.0, x + 1), zeros).answer is Answer.DIFFERS


class WithoutFloat64(TorchModel):
    def cast(self, dtype: str) -> TorchModel:
        raise Unsupported(f"no {dtype}", where=self.where)


def test_without_float64_in_the_candidate_only_ordinary_magnitudes_count() -> None:
    oracle = oracle_of(lambda x: x * 1.0, lambda x: x * (1 + 2.0**-12), kind=WithoutFloat64)
    assert not oracle.is_exact
    assert oracle.judged({"x": ROW}).answer is Answer.DIFFERS
    assert oracle.judged({"x": ROW * 1e6}).answer is Answer.ROUNDING


class OneRow(TorchModel):
    def __call__(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if len(feeds["x"]) > 1:
            raise Unsupported("it was exported for one row", where=self.where)
        return super().__call__(feeds)


class WithFloat64ForOneRow(TorchModel):
    def cast(self, dtype: str) -> TorchModel:
        return OneRow(copy.deepcopy(self.module).to(torch.float64), inputs=super().cast(dtype).signature.inputs)


def test_a_shape_that_only_the_float64_twin_does_not_take_says_nothing_of_the_candidate() -> None:
    oracle = oracle_of(lambda x: x * 1.0, lambda x: x * 1.0, kind=WithFloat64ForOneRow)
    assert oracle.judged({"x": ROW}).answer is Answer.SAME
    assert oracle.judged({"x": np.repeat(ROW, 2, 0)}).answer is Answer.SKIPPED
