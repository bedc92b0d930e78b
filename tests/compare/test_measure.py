"""Floors of the reference's own runs."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.compare.conftest import Network, wrapped

from regraft.compare.deviation import deviation
from regraft.compare.measure import RUNS_OF_FEW, Yardstick
from regraft.runtime.onnxruntime_model import OnnxRuntimeModel


def test_outputs_of_a_few_numbers_have_the_largest_floor_of_several_runs(network: Network) -> None:
    """A single number is hit exactly by one run in a few; the largest of five runs is not."""
    model = wrapped(network)
    random = np.random.default_rng(0)
    feeds = [{"x": random.normal(size=(rows, 12)).astype(np.float32)} for rows in (1, 1, 40)]
    yardstick = Yardstick(model, feeds[0])
    assert yardstick.method == "float64"
    answers = list(yardstick.answers(feeds))
    for one, answer in zip(feeds, answers, strict=True):
        (name,) = answer.truth
        plain = deviation(model(one)[name], answer.truth[name])
        own = answer.own["float32"][name]
        if one["x"].shape[0] == 1:
            assert plain.rms <= own.rms < 30 * RUNS_OF_FEW * plain.scale_rms * 2**-24, "a few roundings, not more"
            assert own.peak >= plain.peak
        else:
            assert own == plain, "160 numbers speak for themselves"
    assert any(a.own["float32"][n].rms > deviation(model(f)[n], a.truth[n]).rms
               for f, a in zip(feeds[:2], answers, strict=False) for n in a.truth)  # fmt: skip


@pytest.mark.parametrize(("size", "is_by_chance"), [(1e6, True), (1e3, False)])
def test_where_a_reference_answers_by_rounding_its_noise_has_no_channels(size: float, is_by_chance: bool) -> None:
    """x + b − b loses the last digits of x in the channels whose b is large: all of them, or a few."""
    b = np.array([0, size], np.float32)
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "b"], ["sum"]), helper.make_node("Sub", ["sum", "b"], ["y"])],
        "cancelling",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(b, "b")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    feeds = {"x": np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)}
    yardstick = Yardstick(OnnxRuntimeModel(proto.SerializeToString()), feeds)
    assert yardstick.method == "float64"
    (answer,) = yardstick.answers([feeds])
    exact, noisy = answer.own["float32"]["y"].peaks
    assert noisy > size * 2**-25
    assert exact == (noisy if is_by_chance else 0)
