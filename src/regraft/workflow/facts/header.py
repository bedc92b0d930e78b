"""Claims that the bytes themselves make: tensors, graphs and the metadata of their containers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from regraft.package.formats import Port, Tensor
from regraft.workflow.facts.interface import Claim, InspectedFile, Origin
from regraft.workflow.facts.licence import licence_value
from regraft.workflow.facts.plain import plain

_EMBEDDING = re.compile(
    r"(?:^|\.)(?:word_embeddings|embed_tokens|tok_embeddings|wte|token_embedding|token_embd|shared|embed_in)\.weight$"
)
_EMBEDDING_ALONE = re.compile(r"^(?:embedding|embeddings|token_embedding)\.weight$")
_FAMILIES = {
    "safetensors": None,
    "onnx": "ONNX",
    "tflite": "TensorFlow Lite",
    "openvino": "OpenVINO",
    "ncnn": "ncnn",
    "mnn": "MNN",
    "pnnx": "PyTorch",
    "gguf": "GGUF (llama.cpp)",
    "ggml": "GGML",
    "torch": "PyTorch",
    "pt2": "PyTorch",
    "executorch": "ExecuTorch",
    "iree": "IREE",
    "tvm": "Apache TVM",
    "keras": "Keras",
    "tf-": "TensorFlow",
    "tfjs": "TensorFlow.js",
    "coreml": "Core ML",
    "paddle": "PaddlePaddle",
    "flax": "JAX / Flax",
    "skops": "scikit-learn",
    "xgboost": "XGBoost",
    "lightgbm": "LightGBM",
    "catboost": "CatBoost",
    "dlib": "dlib",
    "tesseract": "Tesseract",
}
_DIRECT: dict[str, tuple[str, ...]] = {
    "architecture": ("architecture", "general.architecture", "model_class", "class_name", "class", "object"),
    "model_name": ("general.name", "model_name"),
    "licence": ("general.license", "license", "licence"),
    "tokenizer": ("tokenizer.ggml.model",),
    "base_model": ("general.base_model.0.repo_url", "general.base_model.0.name"),
    "language": ("general.languages",),
    "datasets": ("general.datasets",),
    "task": ("task",),
}
"""Field → keys of a format's own metadata that state it, the clearest first."""
_GGUF_COUNTS = (
    ("context_length", "context_length"),
    ("layers", "block_count"),
    ("hidden_size", "embedding_length"),
    ("vocabulary", "vocab_size"),
)
_ARRAY = re.compile(r"\w+ × (\d{1,12})")
"""How a long array is described in place of its values."""
_PRODUCER_KEYS = (
    ("producer_name", "producer_version"),
    ("producer", "producer_version"),
    ("keras_version", None),
    ("converter", None),
    ("min_runtime_version", None),
    ("general.quantized_by", None),
)


def claims_from_header(file: InspectedFile) -> Iterator[Claim]:
    """What one weights or graph file says about its network."""
    description = file.description
    if description is None:
        return
    if file.parameters is not None:
        yield _claim(file, "parameters", file.parameters)
    if file.dtypes:
        yield _claim(file, "dtype", next(iter(file.dtypes)))
    for field, ports in (("inputs", description.inputs), ("outputs", description.outputs)):
        if ports:
            yield _claim(file, field, [port_text(port) for port in ports])
    if description.operators:
        yield _claim(file, "operators", _by_count(description.operators))
    if description.opsets:
        yield _claim(file, "opsets", dict(description.opsets))
    embedding = embedding_of(description.tensors or ())
    if embedding is not None:
        yield _claim(file, "vocabulary", embedding.shape[0], key=embedding.name)
    yield from _family(file)
    yield from _metadata(file, description.metadata)


def embedding_of(tensors: tuple[Tensor, ...]) -> Tensor | None:
    """The token embedding (vocabulary × width) among tensors, by the names that frameworks give it."""
    for tensor in tensors:
        if len(tensor.shape) == 2 and _EMBEDDING.search(tensor.name):
            return tensor
    for tensor in tensors:
        if len(tensor.shape) == 2 and _EMBEDDING_ALONE.match(tensor.name):
            return tensor
    return None


def port_text(port: Port) -> str:
    """A port as `name: dtype [batch, 3, 224, 224]`; unknown dimensions as `?`."""
    if port.shape is None:
        return port.name if port.dtype == "unknown" else f"{port.name}: {port.dtype}"
    return f"{port.name}: {port.dtype} [{', '.join('?' if extent is None else str(extent) for extent in port.shape)}]"


def _family(file: InspectedFile) -> Iterator[Claim]:
    name = file.format or ""
    for prefix, family in _FAMILIES.items():
        if name.startswith(prefix) and family:
            yield _claim(file, "framework", family, key="format")
            return


def _metadata(file: InspectedFile, metadata: Mapping[str, str]) -> Iterator[Claim]:
    architecture = metadata.get("general.architecture")
    for field, keys in _DIRECT.items():
        key = next((k for k in keys if metadata.get(k) and not _ARRAY.fullmatch(metadata[k])), None)
        if key:
            value = licence_value(metadata[key]) if field == "licence" else metadata[key]
            if value:
                yield _claim(file, field, value, key=key)
    for field, suffix in _GGUF_COUNTS if architecture else ():
        if (count := _integer(metadata.get(f"{architecture}.{suffix}"))) is not None:
            yield _claim(file, field, count, key=f"{architecture}.{suffix}")
    tokens = _ARRAY.fullmatch(metadata.get("tokenizer.ggml.tokens", ""))
    if tokens:
        yield _claim(file, "vocabulary_tokens", int(tokens[1]), key="tokenizer.ggml.tokens")
    if metadata.get("tokenizer.chat_template"):
        yield _claim(file, "chat_template", "yes", key="tokenizer.chat_template")
    yield from _producer(file, metadata)


def _producer(file: InspectedFile, metadata: Mapping[str, str]) -> Iterator[Claim]:
    for producer, version in _PRODUCER_KEYS:
        if metadata.get(producer):
            name = producer.removesuffix("_version").replace("general.", "") if version is None else ""
            said = " ".join(filter(None, (name, metadata[producer], metadata.get(version or "", ""))))
            yield _claim(file, "producer", said.strip(), key=producer)
            return


def _by_count(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _integer(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() and len(text) < 12 else None


def _claim(file: InspectedFile, field: str, value: object, *, key: str | None = None) -> Claim:
    return Claim(field, plain(value), Origin.HEADER, file.path, key)
