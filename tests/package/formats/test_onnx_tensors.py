"""Declared types of ONNX values, as the library writes them."""

from __future__ import annotations

import pytest
from onnx import TensorProto, ValueInfoProto, helper

from regraft.package.formats.interface import Port, Probe
from regraft.package.formats.onnx_tensors import port_of
from regraft.package.formats.wire import message_of
from regraft.package.reader import BytesReader

FLOAT = helper.make_tensor_type_proto(TensorProto.FLOAT, [2, "n", None])


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        (FLOAT, Port("v", "float32", (2, "n", None))),
        (helper.make_tensor_type_proto(TensorProto.INT64, []), Port("v", "int64", ())),
        (helper.make_tensor_type_proto(TensorProto.BFLOAT16, None), Port("v", "bfloat16", None)),
        (helper.make_sequence_type_proto(FLOAT), Port("v", "sequence(float32)", None)),
        (helper.make_optional_type_proto(FLOAT), Port("v", "optional(float32)", None)),
        (helper.make_map_type_proto(TensorProto.STRING, FLOAT), Port("v", "map(string, float32)", None)),
        (helper.make_sparse_tensor_type_proto(TensorProto.DOUBLE, [3]), Port("v", "sparse(float64)", (3,))),
    ],
)
def test_types(declared: object, expected: Port) -> None:
    data = ValueInfoProto(name="v", type=declared).SerializeToString()
    assert port_of(message_of(Probe(BytesReader(data, where="x"), "x"))) == expected
