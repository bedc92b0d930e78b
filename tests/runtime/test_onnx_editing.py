from __future__ import annotations

from onnx import helper

from regraft.runtime.onnx_editing import changed_node, settings_of


def test_another_kind_keeps_what_means_the_same_there() -> None:
    pool = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[3, 3], ceil_mode=1, storage_order=0)
    averaged = changed_node(pool, operator="AveragePool", opset=19)
    assert {one.name for one in averaged.attribute} == {"kernel_shape", "ceil_mode"}
    elu = helper.make_node("Elu", ["x"], ["y"], alpha=1.0)
    selu = changed_node(elu, operator="Selu", opset=19)
    assert settings_of(selu, 19)["alpha"] > 1.6, "Selu's own slope, not that of Elu"
