"""What an operator does, whatever a framework calls it."""

from __future__ import annotations

import functools
import re

_SAME = {
    "matmul": "linear", "gemm": "linear", "linear": "linear", "addmm": "linear", "mm": "linear", "bmm": "linear",
    "matmulintegertofloat": "linear", "qlinearmatmul": "linear", "qgemm": "linear", "qlinearconv": "convolution",
    "fusedmatmul": "linear", "fusedgemm": "linear", "baddbmm": "linear", "dot_general": "linear",
    "conv": "convolution", "conv1d": "convolution", "conv2d": "convolution", "conv3d": "convolution",
    "fusedconv": "convolution", "convolution": "convolution", "conv_general_dilated": "convolution",
    "layernormalization": "layer_norm", "layer_norm": "layer_norm", "native_layer_norm": "layer_norm",
    "batchnormalization": "batch_norm", "batch_norm": "batch_norm",
    "_native_batch_norm_legit_no_training": "batch_norm",
    "fastgelu": "gelu", "quickgelu": "gelu", "biasgelu": "gelu",
    "maxpool": "max_pool", "max_pool2d": "max_pool", "averagepool": "average_pool", "avg_pool2d": "average_pool",
    "globalaveragepool": "average_pool", "adaptive_avg_pool2d": "average_pool",
    "gather": "gather", "embedding": "gather", "index": "gather", "index_select": "gather",
    "concat": "concat", "cat": "concat", "where": "where", "select": "where", "masked_fill": "where",
    "reducemean": "mean", "reducesum": "sum", "logistic": "sigmoid", "_softmax": "softmax",
    "permute": "transpose", "view": "reshape", "flatten": "reshape", "unsqueeze": "reshape", "squeeze": "reshape",
    "leaky_relu": "leakyrelu", "log_softmax": "logsoftmax", "_log_softmax": "logsoftmax", "clamp": "clip",
    "swish": "silu", "hswish": "hardswish", "hsigmoid": "hardsigmoid", "rsub": "sub",
    "upsample_bilinear2d": "resize", "upsample_nearest2d": "resize", "upsample_bicubic2d": "resize",
    "upsample_linear1d": "resize", "upsample_nearest1d": "resize", "interpolate": "resize",
    "conv_transpose1d": "convtranspose", "conv_transpose2d": "convtranspose", "groupconvolution": "convolution",
    "convolutionbackpropdata": "convtranspose", "group_norm": "groupnormalization", "constant_pad_nd": "pad",
    "max_pool1d": "max_pool", "avg_pool1d": "average_pool", "avgpool": "average_pool",
    "lstmsequence": "lstm", "grusequence": "gru",
    "subtract": "sub", "multiply": "mul", "divide": "div", "power": "pow",
}  # fmt: skip
REDUCTIONS = frozenset(
    {"mean", "sum", "reducemax", "reducemin", "reducel1", "reducel2", "reducesumsquare", "amax", "amin", "average_pool",
     "argmax", "argmin", "globalmaxpool", "reducelogsumexp"}
)  # fmt: skip
"""Operators whose result does not depend on the order of what they take together."""
SIZES = frozenset({"shape", "size", "shapeof", "sym_size"})
"""Operators whose result does not depend on the numbers that they take."""
CONTROL_FLOW = frozenset({"If", "Loop", "Scan"})
"""onnxruntime 1.32 aborts the process when the operands of a Loop have other types or ranks than its body wants."""
_MOVES = frozenset({"transpose", "reshape", "identity", "contiguous", "clone", "expand", "alias", "detach"})


@functools.cache
def role(operator: str) -> str:
    """The framework-independent word for an operator; its own name in lower case where there is none.

    Args:
        operator: as `MatMul`, `aten.linear.default`, `Multiply`.
    """
    name = operator.removeprefix("aten.").removeprefix("call_module:").removeprefix("com.microsoft.")
    name = re.sub(r"\.\w+$", "", name).lower()
    return _SAME.get(name, name)


def moves_only(operator: str) -> bool:
    """Does the operator only rearrange numbers?"""
    return role(operator) in _MOVES
