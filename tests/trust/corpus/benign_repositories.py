"""Repositories as people publish them: configurations of many architectures, templates, adapters, libraries."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.trust.corpus import Sample
from tests.trust.corpus.benign_files import CHAT
from tests.trust.corpus.configurations import WEIGHTS, encoded

_ARCHITECTURES = (
    "bert gpt2 llama mistral qwen2 t5 roberta vit resnet whisper clip deberta-v2 gemma2 mamba phi3 wav2vec2 bart electra "
    "convnext swin albert mpnet xlm-roberta distilbert detr"
).split()

TEMPLATES = {
    "chatml": CHAT,
    "llama": (
        "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Conversation roles must alternate user/assistant/...') }}{% endif %}"
        "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
        "{% else %}{{ message['content'] + eos_token }}{% endif %}{% endfor %}"
    ),
    "reasoning": (
        "{% for message in messages %}{% set content = message.content %}{% if '</think>' in content %}"
        "{% set content = content.split('</think>')[-1].lstrip('\\n') %}{% endif %}"
        "<|im_start|>{{ message.role }}\n{{ content }}<|im_end|>\n{% endfor %}"
    ),
    "tools": (
        "{% if tools %}{{ '<tools>' }}{% for tool in tools %}{{ tool | tojson }}{% endfor %}{{ '</tools>' }}{% endif %}"
        "{% for m in messages %}{% if m.tool_calls %}{% for c in m.tool_calls %}{{ c.function.name }}"
        "{{ c.function.arguments | tojson }}{% endfor %}{% endif %}{{ m.content | default('') | trim }}{% endfor %}"
    ),
    "date": (
        "{% if not date_string is defined %}{% if strftime_now is defined %}{% set date_string = strftime_now('%d %b %Y') %}"
        "{% else %}{% set date_string = '26 Jul 2024' %}{% endif %}{% endif %}Today Date: {{ date_string }}\n" + CHAT
    ),
    "pictures": (
        "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}{% for part in m.content %}"
        "{% if part.type == 'image' or 'image' in part %}<image>{% elif 'text' in part %}{{ part.text }}{% endif %}"
        "{% endfor %}{% endif %}{% endfor %}"
    ),
    "namespace": (
        "{% set ns = namespace(system='', found=false) %}{% for m in messages %}{% if m['role'] == 'system' %}"
        "{% set ns.system = m['content'] %}{% set ns.found = true %}{% endif %}{% endfor %}{{ ns.system }}" + CHAT
    ),
    "macro": "{% macro turn(m) %}{{ m.role }}: {{ m['content'] }}{% endmacro %}{% for m in messages %}{{ turn(m) }}{% endfor %}",
    "generation": (
        "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}"
        "{% else %}{{ m.content }}{% endif %}{% endfor %}"
    ),
    "switch": (
        "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\\n\\n</think>' }}{% endif %}"
        "{% if messages[-1].content.endswith('/no_think') %}{{ 'x' }}{% endif %}" + CHAT
    ),
}


def samples() -> Iterator[Sample]:
    """By what publishes them."""
    groups = (_models(), _templates(), _others(), _libraries())
    for group in groups:
        for what, files in group.items():
            yield Sample(f"benign repositories/{what}", files, kind="benign")


def _models() -> dict[str, dict[str, bytes]]:
    from transformers import AutoConfig

    found = {}
    for architecture in _ARCHITECTURES:
        config = AutoConfig.for_model(architecture)
        found[f"transformers, {architecture}"] = {
            "config.json": config.to_json_string().encode(),
            "model.safetensors": WEIGHTS,
            "generation_config.json": encoded({"do_sample": True, "temperature": 0.7}),
            "README.md": b"# Model\n",
            "special_tokens_map.json": encoded({"bos_token": "<s>"}),
        }
    return found


def _templates() -> dict[str, dict[str, bytes]]:
    found: dict[str, dict[str, bytes]] = {}
    for what, template in TEMPLATES.items():
        config: dict[str, Any] = {
            "chat_template": template,
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": 2048,
        }
        found[f"template, {what}"] = {"tokenizer_config.json": encoded(config)}
    found["template of its own"] = {"chat_template.jinja": CHAT.encode(), "tokenizer_config.json": b"{}"}
    return found


def _others() -> dict[str, dict[str, bytes]]:
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    lora = {
        "peft_type": "LORA",
        "base_model_name_or_path": "org/base-7b",
        "r": 8,
        "target_modules": ["q_proj"],
        "auto_mapping": None,
    }
    diffusion = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": "0.30.0",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "safety_checker": [None, None],
    }
    hydra = b"model:\n  _target_: torch.nn.Linear\n  in_features: 3\noptimizer:\n  _target_: torch.optim.AdamW\n  lr: 0.001\n"
    mlmodel = b"flavors:\n  python_function:\n    loader_module: mlflow.sklearn\n    model_path: model.pkl\n    env: {conda: conda.yaml}\n"
    return {
        "sentence-transformers": {
            "modules.json": json.dumps(modules).encode(),
            "1_Pooling/config.json": encoded({"word_embedding_dimension": 4, "pooling_mode_mean_tokens": True}),
            "config_sentence_transformers.json": encoded({"__version__": {"sentence_transformers": "3.0"}}),
            "model.safetensors": WEIGHTS,
            "config.json": encoded({"model_type": "bert"}),
        },
        "adapter": {"adapter_config.json": encoded(lora), "adapter_model.safetensors": WEIGHTS},
        "diffusers": {
            "model_index.json": encoded(diffusion),
            "unet/config.json": encoded({"_class_name": "UNet2DConditionModel"}),
            "unet/diffusion_pytorch_model.safetensors": WEIGHTS,
            "scheduler/scheduler_config.json": encoded({"_class_name": "PNDMScheduler", "beta_end": 0.012}),
        },
        "Hydra": {"config.yaml": hydra, "model.safetensors": WEIGHTS},
        "Lightning hyper-parameters": {"hparams.yaml": b"lr: 0.001\nhidden: [64, 32]\nname: run\n"},
        "NeMo configuration": {
            "model_config.yaml": b"preprocessor:\n  _target_: nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor\n  features: 80\n"
        },
        "mlflow": {
            "MLmodel": mlmodel,
            "conda.yaml": b"name: env\ndependencies:\n- python=3.11\n- pip:\n  - scikit-learn==1.9.1\n",
        },
        "requirements": {"requirements.txt": b"torch==2.13.0\ntransformers>=5\nnumpy\n", "model.safetensors": WEIGHTS},
        "tokenizer": {
            "tokenizer.json": encoded(
                {
                    "version": "1.0",
                    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []},
                    "added_tokens": [],
                }
            )
        },
        "trainer state": {
            "trainer_state.json": encoded(
                {"best_metric": 0.9, "epoch": 3.0, "log_history": [{"loss": 0.5, "step": 10}]}
            ),
            "model.safetensors": WEIGHTS,
        },
        "preprocessor": {
            "preprocessor_config.json": encoded(
                {"image_mean": [0.5], "image_processor_type": "ViTImageProcessor", "size": 224}
            )
        },
        "training configuration": {
            "config.yaml": b"train:\n  batch_size: 32\n  command: python train.py --lr 1e-3\n  exec: false\n"
        },
        "label maps": {
            "config.json": encoded(
                {
                    "model_type": "bert",
                    "id2label": {"0": "eval", "1": "os.system"},
                    "label2id": {"eval": 0, "os.system": 1},
                }
            )
        },
        "notebook of arithmetic": {
            "demo.ipynb": encoded(
                {
                    "cells": [
                        {
                            "cell_type": "code",
                            "source": ["x = 1 + 1\n", "print(x)"],
                            "metadata": {},
                            "outputs": [],
                            "execution_count": 1,
                        }
                    ],
                    "metadata": {},
                    "nbformat": 4,
                    "nbformat_minor": 5,
                }
            ),
            "model.safetensors": WEIGHTS,
        },
        "training script beside the model": {
            "train.py": b"import argparse\nimport torch\n\n\ndef main():\n    print(torch.__version__)\n\n\nif __name__ == '__main__':\n    main()\n",
            "model.safetensors": WEIGHTS,
            "config.json": encoded({"model_type": "bert"}),
        },
        "Triton, ONNX": {"config.pbtxt": b'backend: "onnxruntime"\nmax_batch_size: 8\n', "1/model.onnx": b""},
        "spaCy": {
            "meta.json": encoded({"lang": "en", "name": "core", "version": "3.0.0", "pipeline": ["tagger"]}),
            "config.cfg": b'[nlp]\nlang = "en"\npipeline = ["tagger"]\n\n[components.tagger]\nfactory = "tagger"\n',
        },
    }


def _libraries() -> dict[str, dict[str, bytes]]:
    setup = b"from setuptools import find_packages, setup\n\nwith open('README.md') as f:\n    text = f.read()\nsetup(name='x', version='1.0', long_description=text, packages=find_packages(), install_requires=['torch'])\n"
    downloading = b"import urllib.request\n\n\ndef fetch(url, path):\n    urllib.request.urlretrieve(url, path)\n"
    return {
        "library with setup.py": {
            "setup.py": setup,
            "x/__init__.py": b"from .net import Net\n",
            "x/net.py": b"class Net: pass\n",
            "README.md": b"# x\n",
        },
        "library that can download": {
            "x/__init__.py": b"",
            "x/download.py": downloading,
            "x-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: x\nVersion: 1.0\n",
            "x-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\n",
        },
        "library with pyproject.toml": {
            "pyproject.toml": b"[build-system]\nrequires = ['hatchling']\nbuild-backend = 'hatchling.build'\n[project]\nname = 'x'\nversion = '1.0'\n",
            "src/x/__init__.py": b"y = 1\n",
        },
        "library of JavaScript": {
            "package.json": encoded(
                {
                    "name": "x",
                    "version": "1.0.0",
                    "scripts": {"build": "tsc", "test": "jest", "prepare": "npm run build"},
                }
            ),
            "index.js": b"module.exports = 1;\n",
        },
        "paths of a library": {"x.pth": b"../src\n./lib\n"},
    }
