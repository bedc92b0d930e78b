"""Words for what a setting of an operator that differs amounts to: an attribute of ONNX, an argument of torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from regraft.compare.roles import role

if TYPE_CHECKING:
    import onnx

_CAUSES = {
    "epsilon": "epsilon",
    "eps": "epsilon",
    "align_corners": "resize_coordinates",
    "rounding_mode": "division_rounding",
    "negative_slope": "activation_alpha",
    "scale": "attention_scale",
    "is_causal": "causal_mask",
    "other": "constant_value",
    "train": "dropout",
    "training": "batchnorm_training",
    "pad": "padding",
    "padding": "padding",
    "stride": "stride",
    "dilation": "dilation",
    "groups": "groups",
    "num_groups": "groups",
    "dims": "transpose_perm",
    "keepdim": "keepdims",
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
    "softmax": "softmax_axis", "logsoftmax": "softmax_axis", "hardmax": "softmax_axis", "gather": "gather_axis",
    "concat": "concat_order", "argmax": "argmax_axis", "argmin": "argmax_axis", "layer_norm": "norm_axis",
    "rmsnormalization": "norm_axis", "quantizelinear": "quantisation_axis", "dequantizelinear": "quantisation_axis",
    "mean": "reduce_axes", "sum": "reduce_axes", "amax": "reduce_axes", "amin": "reduce_axes",
}  # fmt: skip
_OF_ROLE = {
    ("batch_norm", "training"): "batchnorm_training", ("masked_fill", "value"): "mask_value",
    ("where", "value"): "mask_value", ("pad", "value"): "pad_value", ("linear", "beta"): "bias_missing",
    ("linear", "alpha"): "constant_value", ("add", "alpha"): "constant_value", ("sub", "alpha"): "constant_value",
}  # fmt: skip
_ORDER = ("dilations", "strides", "group", "direction", "activations", "kernel_shape", "mode")
_MODES = {"resize": "resize_mode", "pad": "pad_mode", "depthtospace": "depth_to_space_mode"}


_KINDS = {
    "mean": "reduce_kind", "sum": "reduce_kind", "reducemax": "reduce_kind", "amax": "reduce_kind",
    "max_pool": "pool_kind", "average_pool": "pool_kind", "globalmaxpool": "pool_kind", "less": "comparison",
    "lessorequal": "comparison", "greater": "comparison", "greaterorequal": "comparison", "floor": "rounding_mode",
    "ceil": "rounding_mode", "round": "rounding_mode", "resize": "resize_mode",
}  # fmt: skip
ACTIVATIONS = frozenset(
    "relu leakyrelu elu sigmoid tanh softplus softsign hardswish hardsigmoid selu gelu silu clip prelu mish".split()
)
"""Roles of operators that work element by element and are chosen, not computed."""


def kind_of(operator: str) -> str:
    """The word for an operator that was replaced by one of another kind."""
    kind = role(operator)
    return _KINDS.get(kind, "activation_kind" if kind in ACTIVATIONS else "operator_kind")


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
    """The word for a setting of an operator, by what the operator does; the setting's own name where there is none."""
    kind = role(operator)
    if (kind, name) in _OF_ROLE:
        return _OF_ROLE[kind, name]
    if name in ("axis", "dim"):
        return _AXES.get(kind, "axis")
    if name == "mode":
        return _MODES.get(kind, "mode")
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
            if attribute.HasField("g"):
                return f"a graph of {len(attribute.g.node)} operators"
            if isinstance(value, float):
                return f"{value:g}"
            return str(list(value)) if hasattr(value, "__len__") else str(value)[:60]
    return "the default"
