"""Claims of configuration files: transformers, sentence-transformers, tokenizers, pre-processors."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from regraft.workflow.facts.interface import Claim, InspectedFile, Origin
from regraft.workflow.facts.plain import plain

_NO_LIMIT = 1_000_000
"""Tokenizers write 1e30 where they know no limit."""
_LENGTH_KEYS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length", "max_sequence_length")
_TASKS = (
    (r"ForSequenceClassification$", "text-classification"),
    (r"ForTokenClassification$", "token-classification"),
    (r"ForQuestionAnswering$", "question-answering"),
    (r"ForMaskedLM$", "fill-mask"),
    (r"(ForCausalLM|LMHeadModel)$", "text-generation"),
    (r"(ForConditionalGeneration|ForSeq2SeqLM)$", "text2text-generation"),
    (r"ForImageClassification$", "image-classification"),
    (r"ForObjectDetection$", "object-detection"),
    (r"ForSemanticSegmentation$", "image-segmentation"),
    (r"(ForCTC|ForSpeechSeq2Seq)$", "automatic-speech-recognition"),
    (r"ForAudioClassification$", "audio-classification"),
)
_PLACEHOLDER = re.compile(r"LABEL_\d+")
"""What transformers writes where nobody named the classes."""
_OWN_SCHEMA = "regraft.package/1"
NAMES = frozenset(
    {
        "config.json",
        "tokenizer_config.json",
        "tokenizer.json",
        "vocab.txt",
        "sentence_bert_config.json",
        "config_sentence_transformers.json",
        "modules.json",
        "preprocessor_config.json",
        "processor_config.json",
        "image_processor_config.json",
        "feature_extractor_config.json",
        "adapter_config.json",
        "generation_config.json",
        "model_index.json",
        "regraft.json",
    }
)
"""Files that facts are taken from, by name: these names are fixed by the libraries that read them."""


def claims_from_config(file: InspectedFile) -> Iterator[Claim]:
    """What one configuration file says about the network beside it; a file of another shape says nothing."""
    name = file.basename
    if name == "vocab.txt" and file.text is not None:
        yield _claim(file, "vocabulary_tokens", sum(1 for line in file.text.split("\n") if line))
    document = file.document
    if name == "modules.json" and isinstance(document, list):
        yield from _modules(file, document)
    if not isinstance(document, dict):
        return
    reader = _READERS.get(name)
    if reader is not None:
        yield from reader(file, document)


def _model(file: InspectedFile, config: dict[str, Any]) -> Iterator[Claim]:
    architectures = config.get("architectures")
    if isinstance(architectures, list) and architectures and isinstance(architectures[0], str):
        yield _claim(file, "architecture", architectures[0], "architectures")
        for pattern, task in _TASKS:
            if re.search(pattern, architectures[0]):
                yield _claim(file, "task", task, "architectures")
    for field, name in (("model_type", "model_type"), ("base_model", "_name_or_path")):
        value = config.get(name)
        if isinstance(value, str) and value.strip("./"):
            yield _claim(file, field, value, name)
    dtype = config.get("torch_dtype") or config.get("dtype")
    if isinstance(dtype, str):
        yield _claim(file, "dtype", dtype.removeprefix("torch."), "torch_dtype" if "torch_dtype" in config else "dtype")
    for field, keys in (
        ("vocabulary", ("vocab_size",)),
        ("context_length", _LENGTH_KEYS),
        ("layers", ("num_hidden_layers", "n_layer", "num_layers", "n_layers")),
        ("hidden_size", ("hidden_size", "d_model", "n_embd")),
        ("embedding_size", ("embedding_size",)),
    ):
        key = next((k for k in keys if _is_count(config.get(k))), None)
        if key:
            yield _claim(file, field, config[key], key)
    if isinstance(config.get("transformers_version"), str):
        yield _claim(file, "framework", f"transformers {config['transformers_version']}", "transformers_version")
    if isinstance(config.get("auto_map"), dict):
        yield _claim(file, "custom_code", sorted(str(v) for v in config["auto_map"].values()), "auto_map")
    if isinstance(config.get("id2label"), dict):
        labels = [str(label) for label in config["id2label"].values()]
        if not all(_PLACEHOLDER.fullmatch(label) for label in labels):
            yield _claim(file, "labels", labels[:50], "id2label")


def _tokenizer_config(file: InspectedFile, config: dict[str, Any]) -> Iterator[Claim]:
    if isinstance(config.get("tokenizer_class"), str):
        yield _claim(file, "tokenizer", config["tokenizer_class"], "tokenizer_class")
    length = config.get("model_max_length")
    if isinstance(length, int | float) and not isinstance(length, bool) and 0 < length < _NO_LIMIT:
        yield _claim(file, "truncation_length", int(length), "model_max_length")
    if isinstance(config.get("name_or_path"), str) and config["name_or_path"].strip("./"):
        yield _claim(file, "base_model", config["name_or_path"], "name_or_path")


def _tokenizer(file: InspectedFile, document: dict[str, Any]) -> Iterator[Claim]:
    model = document.get("model")
    if not isinstance(model, dict):
        return
    if isinstance(model.get("type"), str):
        yield _claim(file, "tokenizer_algorithm", model["type"], "model.type")
    vocabulary = model.get("vocab")
    if isinstance(vocabulary, dict | list):
        added = document.get("added_tokens")
        contents = [t.get("content") for t in added if isinstance(t, dict)] if isinstance(added, list) else []
        known = vocabulary if isinstance(vocabulary, dict) else ()
        extra = sum(1 for c in contents if isinstance(c, str) and c not in known) if known else 0
        yield _claim(file, "vocabulary_tokens", len(vocabulary) + extra, "model.vocab")


def _sentence_bert(file: InspectedFile, config: dict[str, Any]) -> Iterator[Claim]:
    if _is_count(config.get("max_seq_length")):
        yield _claim(file, "truncation_length", config["max_seq_length"], "max_seq_length")


def _sentence_transformers(file: InspectedFile, config: dict[str, Any]) -> Iterator[Claim]:
    versions = config.get("__version__")
    if isinstance(versions, dict) and versions:
        said = ", ".join(f"{name} {version}" for name, version in list(versions.items())[:6])
        yield _claim(file, "producer", said, "__version__")


def _modules(file: InspectedFile, modules: list[Any]) -> Iterator[Claim]:
    types = [m["type"].rsplit(".", 1)[-1] for m in modules if isinstance(m, dict) and isinstance(m.get("type"), str)]
    if types:
        yield _claim(file, "pipeline", " → ".join(types[:20]), "type")


def _preprocessor(file: InspectedFile, config: dict[str, Any]) -> Iterator[Claim]:
    yield from _said(file, config)


def _said(file: InspectedFile, config: dict[str, Any], key: str | None = None) -> Iterator[Claim]:
    keep = {k: v for k, v in config.items() if isinstance(v, str | int | float | bool | list | dict)}
    said = ", ".join(f"{key} {value}" for key, value in list(keep.items())[:12])
    if said:
        yield _claim(file, "preprocessing", said[:600], key)


def _adapter(file: InspectedFile, config: dict[str, Any]) -> Iterator[Claim]:
    if isinstance(config.get("base_model_name_or_path"), str):
        yield _claim(file, "base_model", config["base_model_name_or_path"], "base_model_name_or_path")
    if isinstance(config.get("peft_type"), str):
        yield _claim(file, "architecture", f"{config['peft_type']} adapter", "peft_type")


def _own(file: InspectedFile, described: dict[str, Any]) -> Iterator[Claim]:
    """`regraft.json`, which adapt and convert write: what the network does, and what its inputs go through."""
    if described.get("schema") != _OWN_SCHEMA:
        return
    if isinstance(described.get("task"), str):
        yield _claim(file, "task", described["task"], "task")
    labels = described.get("labels")
    if isinstance(labels, list) and labels:
        yield _claim(file, "labels", [str(label) for label in labels[:50]], "labels")
    if isinstance(described.get("preprocessing"), dict):
        yield from _said(file, described["preprocessing"], "preprocessing")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 40


def _claim(file: InspectedFile, field: str, value: object, key: str | None = None) -> Claim:
    return Claim(field, plain(value), Origin.CONFIG, file.path, key)


_READERS: dict[str, Callable[[InspectedFile, dict[str, Any]], Iterator[Claim]]] = {
    "config.json": _model,
    "tokenizer_config.json": _tokenizer_config,
    "tokenizer.json": _tokenizer,
    "sentence_bert_config.json": _sentence_bert,
    "config_sentence_transformers.json": _sentence_transformers,
    "preprocessor_config.json": _preprocessor,
    "processor_config.json": _preprocessor,
    "image_processor_config.json": _preprocessor,
    "feature_extractor_config.json": _preprocessor,
    "adapter_config.json": _adapter,
    "regraft.json": _own,
}
