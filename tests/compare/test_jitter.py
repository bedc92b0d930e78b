from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from regraft.compare.jitter import jittered_feeds, jittered_runs
from regraft.runtime.onnxruntime_model import OnnxRuntimeModel

UNIT = 2.0**-23


def test_sizes_that_are_written_as_numbers_are_not_moved() -> None:
    """Scales of 1.5 and 1 that are moved by a unit are refused by the runtime, or make another shape."""
    scales = np.array([1, 1, 1.5, 1.5], dtype=np.float32)
    slope = np.full((3, 1, 1), 0.3, dtype=np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Resize", ["x", "", "scales"], ["large"], mode="linear"),
            helper.make_node("PRelu", ["large", "slope"], ["y"]),
        ],
        "resized",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 4, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(scales, "scales"), numpy_helper.from_array(slope, "slope")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    feeds = {"x": np.random.default_rng(0).normal(size=(2, 3, 4, 6)).astype(np.float32)}
    slopes = []
    for model, _ in jittered_runs(OnnxRuntimeModel(proto.SerializeToString()), seed=0, unit=UNIT):
        assert model(feeds)["y"].shape == (2, 3, 6, 9)
        held = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.proto.graph.initializer}
        np.testing.assert_array_equal(held["scales"], scales)
        slopes.append(held["slope"])
    assert any((one != slope).any() for one in slopes)


def test_feeds_of_next_to_nothing_are_moved_too() -> None:
    """In proportion they would stay as they are, and a network that answers silence by rounding would seem exact."""
    rng = np.random.default_rng(0)
    feeds = {
        "silence": np.zeros((50, 4), np.float32),
        "denormal": np.full((50, 4), 1e-40, np.float32),
        "mask": (rng.random((50, 4)) < 0.5).astype(np.float32),
        "count": np.zeros(3, np.int64),
    }
    moved = jittered_feeds(feeds, seed=0, unit=UNIT)
    for name in ("silence", "denormal"):
        assert moved[name].dtype == np.float32
        assert set(np.round(moved[name].ravel() / UNIT).tolist()) == {-1.0, 0.0, 1.0}
    assert not moved["mask"][feeds["mask"] == 0].any()
    assert np.abs(moved["mask"] - feeds["mask"]).max() == UNIT
    np.testing.assert_array_equal(moved["count"], feeds["count"])
