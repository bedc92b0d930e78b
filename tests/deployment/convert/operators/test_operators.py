"""Every row of the table against ONNX's own cases for the operator, and against ONNX's own signature."""

from __future__ import annotations

import functools
import warnings
from collections import defaultdict
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import defs, numpy_helper

from regraft.deployment.convert.operators import rows
from regraft.deployment.convert.operators.interface import attributes_of, row
from regraft.deployment.convert.operators.network import OnnxNetwork
from regraft.errors import Unsupported

TABLE = rows()
NAMES = sorted(name for domain, name in TABLE if not domain)
PLAIN = {onnx.helper.np_dtype_to_tensor_dtype(np.dtype(name)) for name in (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64"
)}  # fmt: skip
"""Element types that numpy has by itself; not text, bfloat16, and what has 8 bits or fewer."""
CONTROL = ("If", "Loop", "Scan")
REFUSED = {
    "uint16": "torch does not compute with them", "uint32": "likewise", "uint64": "likewise",
    "bitshift": "torch shifts 8-bit and 16-bit integers in another way", "bitwise_not_3d": "uint16",
    "antialias": "no mapping", "tf_crop_and_resize": "no mapping", "sizes_nearest_not_": "no mapping",
    "unique": "sorted, of the whole tensor alone", "training_mode": "networks are converted for inference",
    "training_dropout": "likewise", "peepholes": "torch has none", "nonmaxsuppression": "data decides how many",
    "argmax_2d_precomputed_strides": "in column order", "empty_set_bool": "no largest", "scatternd_m": "slices",
    "blocked_symmetric": "of 4 bits", "if_seq": "a sequence out of a branch", "loop11": "data decides how often",
    "scan_sum": "of operator set 8",
}  # fmt: skip
"""Part of a case's name → why torch refuses it. Everything else has to agree."""
WITHOUT_CASES = {
    "GlobalLpPool", "NonMaxSuppression", "Scatter", "Upsample", "SequenceErase", "ConcatFromSequence",
    "SequenceConstruct", "SequenceEmpty", "SequenceAt", "SequenceInsert", "SequenceLength", "SplitToSequence",
}  # fmt: skip
"""ONNX has none for these, or only such with sequences."""


@functools.cache
def onnx_cases() -> dict[str, list[Any]]:
    """Operator → the cases of the onnx package whose graph is that one node."""
    from onnx.backend.test.case.node import collect_testcases

    found = defaultdict(list)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for case in collect_testcases(None):
            if len(case.model.graph.node) == 1:
                found[case.model.graph.node[0].op_type].append(case)
    return found


def plain(values: list[Any]) -> list[np.ndarray]:
    return [numpy_helper.to_array(v) if isinstance(v, onnx.TensorProto) else np.asarray(v) for v in values]


def computed(model: onnx.ModelProto, inputs: list[Any]) -> list[np.ndarray]:
    """What our mapping makes of a case; inputs that have to be known beforehand become constants of the graph."""
    (node,) = model.graph.node
    opset = model.opset_import[0].version
    chosen = next((row for row in TABLE.get((node.domain, node.op_type), ()) if row.holds(opset)), None)
    numbers = {
        name
        for name, parameter in zip(node.input, chosen.inputs if chosen else (), strict=False)
        if parameter.is_number
    }
    proto = onnx.ModelProto()
    proto.CopyFrom(model)
    feeds = {}
    for value, array in zip(model.graph.input, inputs, strict=True):
        if value.name in numbers or (node.op_type in CONTROL and np.asarray(array).ndim == 0):
            proto.graph.initializer.append(numpy_helper.from_array(np.asarray(array), value.name))
        else:
            feeds[value.name] = torch.from_numpy(np.array(array))
    network = OnnxNetwork(proto, TABLE, where="case")
    names = {original: argument for argument, original in network.arguments.items()}
    with torch.inference_mode():
        made = network(**{names[name]: tensor for name, tensor in feeds.items()})
    return [tensor.numpy() for tensor in made.values()]


@pytest.mark.parametrize("operator", [*NAMES, *CONTROL])
def test_a_row_computes_what_onnx_says(operator: str) -> None:
    compared = 0
    for case in onnx_cases()[operator]:
        values = (*case.model.graph.input, *case.model.graph.output)
        if any(value.type.tensor_type.elem_type not in PLAIN for value in values) or case.model.opset_import[
            0
        ].domain not in ("", "ai.onnx"):
            continue
        is_refused = any(part in case.name for part in REFUSED)
        for inputs, outputs in case.data_sets:
            inputs, outputs = plain(inputs), plain(outputs)
            try:
                ours = computed(case.model, inputs)
            except Unsupported:
                assert is_refused, case.name
                continue
            for mine, theirs in zip(ours, outputs, strict=True):
                # their tolerance; 1e-6 for results near 0, which the reference has from float64
                np.testing.assert_allclose(mine, theirs, rtol=case.rtol, atol=max(case.atol, 1e-6), err_msg=case.name)
                assert mine.dtype == theirs.dtype, case.name
            compared += 1
    assert compared or operator in WITHOUT_CASES


@pytest.mark.parametrize("name", NAMES)
def test_a_row_has_the_signature_that_onnx_gives(name: str) -> None:
    for one in TABLE["", name]:
        schema = defs.get_schema(name, one.until or defs.onnx_opset_version())
        ours = [parameter.name for parameter in one.inputs]
        theirs = [value.name for value in schema.inputs]
        assert ours[: len(theirs)] == theirs, one
        for attribute, given in schema.attributes.items():
            if attribute in ours:
                continue
            assert attribute in one.attributes, (name, attribute)
            if given.default_value.type and given.default_value.type != onnx.AttributeProto.UNDEFINED:
                default = onnx.helper.get_attribute_value(given.default_value)
                default = default.decode() if isinstance(default, bytes) else default
                default = [item.decode() for item in default] if attribute == "activations" else default
                assert one.attributes[attribute] == pytest.approx(default), (name, attribute)


def test_a_signature_is_read() -> None:
    made = row('Conv(X, #W, B?, *rest; pads?, group=1, mode="a,b", axes=[0, 2], must)', lambda *_: None)
    assert [parameter.name for parameter in made.inputs] == ["X", "W", "B", "rest"]
    assert [parameter.is_number for parameter in made.inputs] == [False, True, False, False]
    assert attributes_of(made, {"must": 3}) == {"pads": None, "group": 1, "mode": "a,b", "axes": [0, 2], "must": 3}
    with pytest.raises(Unsupported, match="lacks its attribute must"):
        attributes_of(made, {})
    with pytest.raises(Unsupported, match="Conv with strange"):
        attributes_of(made, {"must": 1, "strange": 1})


def test_rows_of_one_operator_do_not_overlap() -> None:
    for (_, name), found in TABLE.items():
        for opset in range(1, defs.onnx_opset_version() + 1):
            assert sum(one.holds(opset) for one in found) <= 1, (name, opset)
