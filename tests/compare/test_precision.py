from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from regraft.compare.pairing import pair_inputs, pair_outputs
from regraft.compare.precision import is_lower, recognised_precision
from regraft.errors import Unsupported
from regraft.package.formats import Port
from regraft.runtime.torch_module import TorchModel


def model(network: nn.Module) -> TorchModel:
    return TorchModel(network, inputs=[Port("x", "float32", ("batch", 12))])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_that_were_rounded_on_the_way_are_recognised(network: nn.Module, dtype: str) -> None:
    lowered = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in lowered.parameters():
            parameter.copy_(parameter.to(getattr(torch, dtype)).float())
    assert recognised_precision(model(network)) == "float32"
    assert recognised_precision(model(lowered)) == dtype
    with torch.no_grad():
        next(lowered.parameters())[0, 0] = 0.1234567
    assert recognised_precision(model(lowered)) == "float32"


def test_a_handful_of_round_numbers_says_nothing() -> None:
    tiny = nn.Linear(12, 1)
    nn.init.ones_(tiny.weight)
    nn.init.zeros_(tiny.bias)
    assert recognised_precision(model(tiny)) == "float32"


def test_the_word_of_the_runtime_counts(network: nn.Module) -> None:
    assert recognised_precision(model(network).cast("bfloat16")) == "bfloat16"
    assert is_lower("bfloat16", "float32")
    assert not is_lower("float32", "bfloat16")
    assert not is_lower("int8", "float32")


def test_inputs_are_paired_by_name_then_by_position() -> None:
    ours = [Port("ids", "int64", ("b", "t")), Port("mask", "int64", ("b", "t"))]
    assert pair_inputs(ours, ours[:1], "").names == {"ids": "ids"}
    renamed = [Port("0", "int64", ("b", "t")), Port("1", "int64", ("b", "t"))]
    found = pair_inputs(ours, renamed, "")
    assert (found.by, found.names) == ("position", {"ids": "0", "mask": "1"})
    for other in ([*renamed, Port("2", "int64", ())], [Port("0", "float32", ("b", "t")), renamed[1]]):
        with pytest.raises(Unsupported, match="do not correspond"):
            pair_inputs(ours, other, "")


def test_outputs_are_paired_by_name_then_by_shape() -> None:
    import numpy as np

    a, b = np.zeros((2, 3)), np.zeros((2, 4))
    assert pair_outputs({"x": a, "y": b}, {"y": b, "x": a}, "").names == {"x": "x", "y": "y"}
    assert pair_outputs({"x": a, "y": b}, {"p": a, "q": b}, "").by == "position"
    with pytest.raises(Unsupported, match="do not correspond"):
        pair_outputs({"x": a, "y": b}, {"p": b, "q": a}, "")
