"""The converters: the project's own, and those that other distributions add."""

from __future__ import annotations

import functools
import importlib

from regraft.deployment.convert.interface import Converter
from regraft.plugins import Plugin, load_plugins

_MEMBERS = (
    "onnx_from_torch:OnnxFromTorch",
    "openvino_from_onnx:OpenVinoFromOnnx",
    "onnx_from_saved_model:OnnxFromSavedModel",
    "onnx_from_tfjs:OnnxFromTfjs",
    "onnx_from_keras:OnnxFromKeras",
    "onnx_from_litert:OnnxFromLiteRt",
    "saved_model_from_keras:SavedModelFromKeras",
    "saved_model_from_tfjs:SavedModelFromTfjs",
    "litert_from_saved_model:LiteRtFromSavedModel",
    "litert_from_keras:LiteRtFromKeras",
    "litert_from_tfjs:LiteRtFromTfjs",
    "onnx_slim_from_onnx:OnnxSlimFromOnnx",
    "onnx_optimised_from_onnx:OnnxOptimisedFromOnnx",
    "onnx_float16_from_onnx:OnnxFloat16FromOnnx",
    "onnx_int8_from_onnx:OnnxInt8FromOnnx",
    "openvino_float16_from_onnx:OpenVinoFloat16FromOnnx",
    "openvino_int8_from_openvino:OpenVinoInt8FromOpenVino",
    "torch_from_gguf:TorchFromGguf",
    "onnx_decoder_from_torch:OnnxDecoderFromTorch",
    "torch_export_from_torch:TorchExportFromTorch",
    "torch_export_from_onnx:TorchExportFromOnnx",
    "torchscript_from_torch:TorchScriptFromTorch",
    "openvino_from_torch:OpenVinoFromTorch",
    "onnx_from_torchscript:OnnxFromTorchScript",
    "aotinductor_from_torch_export:AotInductorFromTorchExport",
)
"""`module:Class` of every converter."""

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
    found = []
    for spec in _MEMBERS:
        module, name = spec.split(":")
        found.append(getattr(importlib.import_module(f"regraft.deployment.convert.hops.{module}"), name)())
    return tuple(found)


@functools.cache
def _third_parties() -> tuple[Plugin, ...]:
    return load_plugins(ENTRY_POINTS)
