"""The converters: the project's own, and those that other distributions add."""

from __future__ import annotations

import functools
import importlib

from regraft.deployment.convert.interface import Converter
from regraft.plugins import Plugin, load_plugins

_MEMBERS = (
    "onnx_from_torch:OnnxFromTorch",
    "onnx_from_jax:OnnxFromJax",
    "onnx_from_jax:OnnxFromKerasInJax",
    "openvino_from_onnx:OpenVinoFromOnnx",
    "iree_from_onnx:IreeFromOnnx",
    "tvm_family:FAMILY",
    "ncnn_family:FAMILY",
    "mnn_from_onnx:MnnFromOnnx",
    "tensorflow_family:FAMILY",
    "onnx_slim_from_onnx:OnnxSlimFromOnnx",
    "onnx_optimised_from_onnx:OnnxOptimisedFromOnnx",
    "onnx_float16_from_onnx:OnnxFloat16FromOnnx",
    "onnx_int8_from_onnx:OnnxInt8FromOnnx",
    "onnx_text_from_onnx:OnnxTextFromOnnx",
    "openvino_float16_from_onnx:OpenVinoFloat16FromOnnx",
    "openvino_int8_from_openvino:OpenVinoInt8FromOpenVino",
    "torch_from_gguf:TorchFromGguf",
    "onnx_decoder_from_torch:OnnxDecoderFromTorch",
    "torch_export_from_torch:TorchExportFromTorch",
    "torch_export_from_onnx:TorchExportFromOnnx",
    "torch_export_from_torchscript:TorchExportFromTorchScript",
    "torchscript_from_torch:TorchScriptFromTorch",
    "openvino_from_torch:OpenVinoFromTorch",
    "onnx_from_torchscript:OnnxFromTorchScript",
    "aotinductor_from_torch_export:AotInductorFromTorchExport",
    "mobile_family:FAMILY",
    "tensorrt_from_onnx:TensorRtFromOnnx",
)
"""`module:Class` of every converter; `module:FAMILY` of several that are one class, a tuple of instances."""

ENTRY_POINTS = "regraft.converters"
"""Group of entry points by which other distributions add converters."""


@functools.cache
def converters() -> tuple[Converter, ...]:
    """One instance of every member, the project's own first; a broken third party's is left out (see `broken`)."""
    return (*own_converters(), *(plugin.member for plugin in _third_parties() if not plugin.reason))


def broken() -> dict[str, str]:
    """Entry point of a third party → why it could not be used."""
    return {plugin.name: plugin.reason for plugin in _third_parties() if plugin.reason}


@functools.cache
def own_converters() -> tuple[Converter, ...]:
    """The project's own."""
    found: list[Converter] = []
    for spec in _MEMBERS:
        module, name = spec.split(":")
        member = getattr(importlib.import_module(f"regraft.deployment.convert.hops.{module}"), name)
        found += member if isinstance(member, tuple) else [member()]
    return tuple(found)


@functools.cache
def _third_parties() -> tuple[Plugin, ...]:
    return load_plugins(ENTRY_POINTS)
