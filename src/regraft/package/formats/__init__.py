"""The family of file formats. `recognise` asks the members in order; the first that matches is the format."""

from __future__ import annotations

import functools
import importlib

from regraft.package.formats.interface import (
    COMPILED_MODELS,
    Description,
    Format,
    Loading,
    Port,
    Probe,
    Problem,
    Role,
    Tensor,
)

_MEMBERS: tuple[str, ...] = (
    # Exact magic numbers first, then containers by what is in them, then text by its structure, plain text last.
    "torch_legacy:TorchLegacy",
    "numpy:Npy",
    "gguf:Gguf",
    "ggml:Ggml",
    "coreml:CoreMlWeights",
    "safetensors:Safetensors",
    "tf_checkpoint:TfCheckpointIndex",
    "archive_formats:SevenZip",
    "archive_formats:Sealed",
    "torch_zip:TorchScript",
    "torch_export:AotInductor",
    "torch_export:TorchExport",
    "torch_zip:TorchPackage",
    "torch_zip:TorchCheckpoint",
    "keras:KerasZip",
    "skops:Skops",
    "numpy:Npz",
    "archive_formats:TorchServe",
    "torch_legacy:TorchTar",
    "joblib:Joblib",
    "tflite:TFLite",
    "executorch:ExecuTorch",
    "ort_format:OrtFormat",
    "mnn:Mnn",
    "keras:KerasHdf5",
    "hdf5:Hdf5",
    "iree:IreeModule",
    "ncnn:NcnnBinaryParam",
    "archive_formats:Zip",
    "archive_formats:Tar",
    "rdata:RData",
    "archive_formats:Compressed",
    "pickle:Pickle",
    "boosting:CatBoost",
    "tvm:TvmLibrary",
    "native:NativeCode",
    "native:PythonBytecode",
    "media:Image",
    "media:Audio",
    "media:Media",
    "data_binary:BinaryData",
    "idx:Idx",
    "dlib:Dlib",
    "tesseract:TrainedData",
    "onnx:Onnx",
    "coreml:CoreMl",
    "saved_model:SavedModel",
    "paddle:PaddleParameters",
    "paddle:PaddleProgram",
    "saved_model:MetaGraph",
    "tf_graph:TfGraph",
    "tokenizer:SentencePiece",
    "msgpack:FlaxMsgpack",
    "msgpack:Msgpack",
    # Text: by what the JSON or the lines are, plain text last.
    "data_text:Empty",
    "boosting:LightGbmText",
    "openvino:OpenVino",
    "ncnn:NcnnParam",
    "ncnn:Pnnx",
    "coreml:CoreMlManifest",
    "paddle:PaddleJson",
    "tfjs:TfjsModel",
    "boosting:XGBoostJson",
    "tokenizer:TokenizerJson",
    "weight_index:WeightIndex",
    "card:NpmPackage",
    "code:Notebook",
    "tokenizer:TokenizerConfig",
    "hf_config:HfConfig",
    "card:WheelMetadata",
    "card:WheelRecord",
    "card:ModelCard",
    "licence_text:LicenceText",
    "tokenizer:Vocabulary",
    "code:PythonSource",
    "code:SourceCode",
    "data_text:Json",
    "data_text:StructuredText",
    "data_text:Table",
    "data_text:Markdown",
    "data_text:PlainText",
)
"""`module:Class` of every format, most specific first."""


@functools.cache
def formats() -> tuple[Format, ...]:
    """One instance of every member, in the order of recognition."""
    members = []
    for spec in _MEMBERS:
        module, name = spec.split(":")
        members.append(getattr(importlib.import_module(f"{__name__}.{module}"), name)())
    return tuple(members)


def recognise(probe: Probe) -> Format | None:
    """The format of a file by its content; None when no member knows it."""
    return next((member for member in formats() if member.matches(probe)), None)


__all__ = [
    "COMPILED_MODELS",
    "Description",
    "Format",
    "Loading",
    "Port",
    "Probe",
    "Problem",
    "Role",
    "Tensor",
    "formats",
    "recognise",
]
