"""The layers that ncnn has, by their number, and where a graph says how many weights each stores.

Source: ncnn 1.0.20261020, src/CMakeLists.txt (the order is the number), docs/developer-guide/operators.md.
"""

from __future__ import annotations

from collections.abc import Mapping

LAYERS: tuple[str, ...] = (
    "AbsVal", "ArgMax", "BatchNorm", "Bias", "BNLL", "Concat", "Convolution", "Crop", "Deconvolution", "Dropout",
    "Eltwise", "ELU", "Embed", "Exp", "Flatten", "InnerProduct", "Input", "Log", "LRN", "MemoryData", "MVN", "Pooling",
    "Power", "PReLU", "Proposal", "Reduction", "ReLU", "Reshape", "ROIPooling", "Scale", "Sigmoid", "Slice", "Softmax",
    "Split", "SPP", "TanH", "Threshold", "Tile", "RNN", "LSTM", "BinaryOp", "UnaryOp", "ConvolutionDepthWise",
    "Padding", "Squeeze", "ExpandDims", "Normalize", "Permute", "PriorBox", "DetectionOutput", "Interp",
    "DeconvolutionDepthWise", "ShuffleChannel", "InstanceNorm", "Clip", "Reorg", "YoloDetectionOutput", "Quantize",
    "Dequantize", "Yolov3DetectionOutput", "PSROIPooling", "ROIAlign", "Packing", "Requantize", "Cast", "HardSigmoid",
    "SELU", "HardSwish", "Noop", "PixelShuffle", "DeepCopy", "Mish", "StatisticsPooling", "Swish", "Gemm", "GroupNorm",
    "LayerNorm", "Softplus", "GRU", "MultiHeadAttention", "GELU", "Convolution1D", "Pooling1D",
    "ConvolutionDepthWise1D", "Convolution3D", "ConvolutionDepthWise3D", "Pooling3D", "MatMul", "Deconvolution1D",
    "DeconvolutionDepthWise1D", "Deconvolution3D", "DeconvolutionDepthWise3D", "Einsum", "DeformableConv2D", "GLU",
    "Fold", "Unfold", "GridSample", "CumulativeSum", "CopyTo", "Erf", "Diag", "CELU", "Shrink", "RMSNorm",
    "Spectrogram", "InverseSpectrogram", "Flip", "SDPA", "RotaryEmbed",
)  # fmt: skip
"""Every layer of ncnn's own, in the order of its numbers."""

_MATRIX = {"InnerProduct": (2, 1), "Embed": (3, 2)}
"""Layer → keys of its number of weights, and of whether it has a bias as long as its outputs (key 0)."""
_NOT_COUNTED = frozenset(
    {
        "RNN", "LSTM", "GRU", "MultiHeadAttention", "Gemm", "DeformableConv2D", "GroupNorm", "InstanceNorm",
        "LayerNorm", "RMSNorm", "Normalize", "Quantize", "Dequantize", "Requantize", "Spectrogram",
        "InverseSpectrogram", "Scale",
    }
)  # fmt: skip
"""Layers that may store weights whose number more than one key decides."""


def weight_count(kind: str, numbers: Mapping[int, float]) -> int | None:
    """How many numbers a layer stores; None where that is not known here.

    Args:
        kind: type of the layer.
        numbers: key → value of its parameters.
    """
    given = {key: max(int(value), 0) for key, value in numbers.items() if abs(value) < 1 << 40}
    outputs = given.get(0, 0)
    if "onvolution" in kind:
        return given.get(6, 0) + given.get(5, 0) * outputs
    if kind in _MATRIX:
        weights, bias = _MATRIX[kind]
        return given.get(weights, 0) + given.get(bias, 0) * outputs
    if kind == "MemoryData":
        count = 1
        for key in (0, 1, 11, 2):
            count *= given.get(key, 0) or 1
        return count
    if kind == "BatchNorm":
        return 4 * outputs
    if kind in ("Bias", "PReLU"):
        return outputs
    return None if kind in _NOT_COUNTED or kind not in LAYERS else 0
