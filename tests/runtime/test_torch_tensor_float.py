"""TensorFloat-32 emulated on a processor, and on a GPU where there is one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from regraft.errors import Unsupported
from regraft.package.formats import Port
from regraft.runtime.rounding import round_to
from regraft.runtime.torch_cuda import TorchCudaModel
from regraft.runtime.torch_module import TorchModel

UNIT = 2.0**-11


class Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(3, 8, 5)
        self.rnn = nn.GRU(8, 16, batch_first=True)
        self.last = nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.rnn(torch.relu(self.conv(x)).transpose(1, 2))[0])


@pytest.fixture
def model() -> TorchModel:
    torch.manual_seed(0)
    return TorchModel(Layers(), inputs=[Port("x", "float32", ("batch", 3, "time"))])


FEEDS = {"x": np.random.default_rng(0).normal(size=(4, 3, 40)).astype(np.float32)}


def test_ten_bits_to_nearest_and_even_on_ties() -> None:
    values = np.float32([1.0, 1 + 2**-11, 1 + 3 * 2**-11, 1 + 2**-10, -(1 + 2**-12), np.inf, np.nan])
    wanted = np.float32([1.0, 1.0, 1 + 2**-9, 1 + 2**-10, -1.0, np.inf, np.nan])
    np.testing.assert_array_equal(round_to(values, "tensorfloat32"), wanted)


def test_factors_of_one_product_are_rounded() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(12, 5)
    low = TorchModel(layer, inputs=[Port("input", "float32", ("batch", 12))]).cast("tensorfloat32")
    x = np.random.default_rng(0).normal(size=(7, 12)).astype(np.float32)
    weight = round_to(layer.weight.detach().numpy(), "tensorfloat32")
    wanted = round_to(x, "tensorfloat32").astype(np.float64) @ weight.T + layer.bias.detach().numpy()
    np.testing.assert_allclose(low({"input": x})["output_0"], wanted, atol=1e-6, err_msg="float32 accumulates")


def test_convolutions_recurrences_and_products_are_all_coarser(model: TorchModel) -> None:
    before = model(FEEDS)["output_0"].tobytes()
    low = model.cast("tensorfloat32")
    assert low.effective_precision == "tensorfloat32"
    exact = model.cast("float64")({"x": FEEDS["x"].astype(np.float64)})["output_0"]
    for part, coarse in ((model, False), (low, True)):
        error = np.sqrt(np.mean((part(FEEDS)["output_0"] - exact) ** 2)) / np.sqrt(np.mean(exact**2))
        assert bool(error > UNIT / 20) is coarse
        assert error < 2 * UNIT
    assert model(FEEDS)["output_0"].tobytes() == before, "the model itself computes as it did"
    assert low.cast("float64").effective_precision == "float64"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_there_is_one_message(model: TorchModel) -> None:
    with pytest.raises(Unsupported, match="no CUDA device"):
        TorchCudaModel(model)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_says_what_it_computes_in(model: TorchModel) -> None:
    plain = TorchCudaModel(model)
    assert plain.effective_precision == "tensorfloat32", "what torch does with convolutions unless it is told"
    strict = plain.cast("float32")
    assert strict.effective_precision == "float32"
    exact = model.cast("float64")({"x": FEEDS["x"].astype(np.float64)})["output_0"]
    scale = np.sqrt(np.mean(exact**2))
    strict_error, error = (np.sqrt(np.mean((one(FEEDS)["output_0"] - exact) ** 2)) / scale for one in (strict, plain))
    assert strict_error < 2**-18 < error
    assert plain.cast("bfloat16").effective_precision == "bfloat16"
    assert not torch.backends.cuda.matmul.allow_tf32, "the process's own setting is as it was"
