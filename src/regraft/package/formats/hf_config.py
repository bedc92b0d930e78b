"""Configurations of the Hugging Face libraries: transformers, diffusers, sentence-transformers, peft, preprocessors."""

from __future__ import annotations

from typing import Any

from regraft.errors import Damaged
from regraft.package.formats.interface import Description, Loading, Probe, Role

_KINDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("diffusers pipeline", ("_class_name", "_diffusers_version")),
    ("adapter", ("peft_type",)),
    ("preprocessor", ("image_processor_type",)),
    ("preprocessor", ("feature_extractor_type",)),
    ("preprocessor", ("processor_class",)),
    ("model", ("model_type",)),
    ("model", ("architectures",)),
    ("model", ("auto_map",)),
    ("pooling", ("word_embedding_dimension",)),
    ("sentence-transformers", ("__version__",)),
    ("sentence-transformers", ("max_seq_length", "do_lower_case")),
    ("generation", ("_from_model_config",)),
    ("generation", ("bos_token_id", "eos_token_id")),
    ("generation", ("max_new_tokens",)),
    ("model", ("hidden_size", "num_hidden_layers")),
)
"""Kind of configuration → keys that it has, the most telling first."""

_FACTS = (
    "model_type", "_class_name", "torch_dtype", "dtype", "vocab_size", "hidden_size", "num_hidden_layers",
    "num_attention_heads", "num_key_value_heads", "intermediate_size", "max_position_embeddings", "image_size",
    "hidden_act", "layer_norm_eps", "rms_norm_eps", "rope_theta", "tie_word_embeddings", "transformers_version",
    "_diffusers_version", "_name_or_path", "peft_type", "base_model_name_or_path", "revision", "r", "lora_alpha",
    "task_type", "inference_mode", "image_processor_type", "feature_extractor_type", "processor_class",
    "sampling_rate", "word_embedding_dimension", "max_seq_length", "do_lower_case", "problem_type",
    "trust_remote_code", "custom_pipeline",
)  # fmt: skip
_MAX_FACT_CHARS = 500
_MAX_ITEMS = 50


class HfConfig:
    """Format `hf-config`."""

    name = "hf-config"
    title = "Hugging Face configuration"
    role = Role.CONFIG
    loading = Loading.INERT
    suffixes = (".json",)

    def matches(self, probe: Probe) -> bool:
        """A JSON object with the keys of one of the known kinds, or a list of modules with types."""
        return _kind(probe.json) is not None

    def describe(self, probe: Probe) -> Description:
        """Kind, sizes, and what names code: `auto_map`, custom classes, quantisation."""
        fields = probe.json
        kind = _kind(fields)
        if kind is None:
            raise Damaged("not a configuration", where=probe.reader.where)
        metadata = {"kind": kind}
        if isinstance(fields, list):
            metadata["types"] = ", ".join(str(module.get("type")) for module in fields)[:_MAX_FACT_CHARS]
            return Description(metadata=metadata)
        for key in _FACTS:
            value = fields.get(key)
            if isinstance(value, str | int | float):
                metadata[key] = str(value)[:_MAX_FACT_CHARS]
        metadata |= _listed(fields)
        return Description(metadata=metadata)


def _kind(fields: Any) -> str | None:
    if isinstance(fields, list):
        is_modules = bool(fields) and all(
            isinstance(module, dict) and isinstance(module.get("type"), str) and "path" in module for module in fields
        )
        return "sentence-transformers modules" if is_modules else None
    if not isinstance(fields, dict) or "weight_map" in fields:
        return None
    for kind, keys in _KINDS:
        if all(key in fields for key in keys):
            return kind
    return None


def _listed(fields: dict[str, Any]) -> dict[str, str]:
    """Facts that are lists or maps."""
    facts = {}
    architectures = fields.get("architectures")
    if isinstance(architectures, list):
        facts["architectures"] = ", ".join(map(str, architectures[:_MAX_ITEMS]))[:_MAX_FACT_CHARS]
    auto_map = fields.get("auto_map")
    if isinstance(auto_map, dict):
        pairs = (f"{key}={_target(value)}" for key, value in list(auto_map.items())[:_MAX_ITEMS])
        facts["auto_map"] = ", ".join(pairs)[:_MAX_FACT_CHARS]
    labels = fields.get("id2label")
    if isinstance(labels, dict):
        facts["labels"] = ", ".join(str(label) for label in list(labels.values())[:_MAX_ITEMS])[:_MAX_FACT_CHARS]
    quantisation = fields.get("quantization_config")
    if isinstance(quantisation, dict):
        facts["quantization"] = str(quantisation.get("quant_method", "unnamed"))[:_MAX_FACT_CHARS]
    modules = fields.get("target_modules")
    if isinstance(modules, list):
        facts["target_modules"] = ", ".join(map(str, modules[:_MAX_ITEMS]))[:_MAX_FACT_CHARS]
    return facts


def _target(value: Any) -> str:
    return " ".join(str(item) for item in value[:_MAX_ITEMS]) if isinstance(value, list) else str(value)
