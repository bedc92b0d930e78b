"""What a compiler refuses with free sizes is compiled for one sample; what it lacks altogether is not tried again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from regraft.deployment.convert.hops.fixed_sizes import fixed_graph, freely_or_fixed
from regraft.deployment.convert.interface import Hop, Source
from regraft.errors import Unsupported
from regraft.runtime.onnxruntime_model import OnnxRuntimeModel

if TYPE_CHECKING:
    from regraft.runtime.interface import Feeds, Signature


@pytest.fixture
def source() -> Source:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in ("x", "y")]
    weight = numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", ends[:1], ends[1:], [weight])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    feeds = [{"x": np.ones((rows, 4), np.float32)} for rows in (3, 1)]
    return Source(OnnxRuntimeModel(proto.SerializeToString()), feeds, None, "g.onnx", "g.onnx")


def test_one_sample_is_compiled_where_free_sizes_are_refused_and_both_are_told(source: Source) -> None:
    def compiled(signature: Signature, fixed: Feeds) -> Hop:
        if not fixed:
            raise Unsupported("the batch is free")
        assert signature.inputs[0].shape == signature.outputs[0].shape == (1, 4)
        proto = onnx.load_from_string(fixed_graph(source, fixed))
        assert [extent.dim_value for extent in proto.graph.input[0].type.tensor_type.shape.dim] == [1, 4]
        return Hop({"made": b"1"}, "iree")

    assert freely_or_fixed(source, compiled).notes == (
        "the sizes are fixed: x (1, 4); with free ones: the batch is free",
    )


@pytest.mark.parametrize("has_examples", [True, False])
def test_what_no_size_brings_is_refused_once(source: Source, *, has_examples: bool) -> None:
    tried = []

    def compiled(signature: Signature, fixed: Feeds) -> Hop:
        tried.append(fixed)
        raise Unsupported("there is no operator Odd")

    given = source if has_examples else Source(source.model, (), None, source.path, source.where)
    with pytest.raises(Unsupported, match="no operator Odd"):
        freely_or_fixed(given, compiled, lacking="no operator" if has_examples else None)
    assert tried == [{}]
