"""Words for what an attribute of an ONNX operator that differs amounts to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

_CAUSES = {
    "epsilon": "epsilon",
    "approximate": "gelu_approximation",
    "coordinate_transformation_mode": "resize_coordinates",
    "nearest_mode": "resize_nearest_rounding",
    "cubic_coeff_a": "resize_coordinates",
    "mode": "mode",
    "ceil_mode": "ceil_mode",
    "count_include_pad": "count_include_pad",
    "pads": "padding",
    "auto_pad": "padding",
    "strides": "stride",
    "dilations": "dilation",
    "group": "groups",
    "exclusive": "cumsum_exclusive",
    "reverse": "cumsum_reverse",
    "select_last_index": "argmax_ties",
    "largest": "topk_order",
    "sorted": "topk_order",
    "linear_before_reset": "linear_before_reset",
    "direction": "rnn_direction",
    "layout": "layout",
    "alpha": "activation_alpha",
    "beta": "activation_alpha",
    "activations": "rnn_activation",
    "scan_input_directions": "scan_direction",
    "scan_output_directions": "scan_direction",
    "perm": "transpose_perm",
    "keepdims": "keepdims",
    "axes": "reduce_axes",
    "to": "cast_type",
    "fmod": "mod_sign",
    "training_mode": "batchnorm_training",
    "transA": "weight_transposed",
    "transB": "weight_transposed",
    "min": "clip_bounds",
    "max": "clip_bounds",
    "allowzero": "reshape",
    "block_size": "quantisation_scale",
    "saturate": "cast_type",
    "value": "constant",
}
_AXES = {
    "Softmax": "softmax_axis", "LogSoftmax": "softmax_axis", "Hardmax": "softmax_axis", "Gather": "gather_axis",
    "Concat": "concat_order", "ArgMax": "argmax_axis", "ArgMin": "argmax_axis", "LayerNormalization": "norm_axis",
    "RMSNormalization": "norm_axis", "QuantizeLinear": "quantisation_axis", "DequantizeLinear": "quantisation_axis",
}  # fmt: skip
_ORDER = ("dilations", "strides", "group", "direction", "activations", "kernel_shape", "mode")
_MODES = {"Resize": "resize_mode", "Pad": "pad_mode", "DepthToSpace": "depth_to_space_mode"}


_KINDS = {
    "ReduceMean": "reduce_kind", "ReduceSum": "reduce_kind", "ReduceMax": "reduce_kind", "MaxPool": "pool_kind",
    "AveragePool": "pool_kind", "GlobalAveragePool": "pool_kind", "GlobalMaxPool": "pool_kind", "Less": "comparison",
    "LessOrEqual": "comparison", "Greater": "comparison", "GreaterOrEqual": "comparison", "Floor": "rounding_mode",
    "Ceil": "rounding_mode", "Round": "rounding_mode",
}  # fmt: skip
ACTIVATIONS = frozenset(
    "Relu LeakyRelu Elu Sigmoid Tanh Softplus Softsign HardSwish HardSigmoid Selu Gelu Clip PRelu Mish".split()
)


def kind_of(operator: str) -> str:
    """The word for an operator that was replaced by one of another kind."""
    return _KINDS.get(operator, "activation_kind" if operator in ACTIVATIONS else "operator_kind")


def weightiest(names: Sequence[str]) -> str:
    """Of attributes that differ together the one that the others follow from."""
    return min(names, key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))


def cause_of_attribute(ours: onnx.NodeProto, theirs: onnx.NodeProto, name: str) -> tuple[str, str]:
    """A word for an attribute that differs, and both values.

    Args:
        ours: reference's operator.
        theirs: candidate's operator.
        name: of the attribute.
    Returns:
        (cause, detail).
    """
    detail = f"{name} of {theirs.op_type} is {_shown(theirs, name)}, {_shown(ours, name)} in the reference"
    return cause_word(theirs.op_type, name), detail


def cause_word(operator: str, name: str) -> str:
    """The word for an attribute of an operator; the attribute's own name where there is none."""
    if name == "axis":
        return _AXES.get(operator, "axis")
    if name == "mode":
        return _MODES.get(operator, "mode")
    if name in ("then_branch", "else_branch", "body"):
        return "subgraph"
    return _CAUSES.get(name, name)


def _shown(proto: onnx.NodeProto, name: str) -> str:
    from onnx import helper

    for attribute in proto.attribute:
        if attribute.name == name:
            value = helper.get_attribute_value(attribute)
            if isinstance(value, bytes):
                return value.decode(errors="replace")
            if isinstance(value, float):
                return f"{value:g}"
            return str(list(value)) if hasattr(value, "__len__") else str(value)[:60]
    return "the default"
