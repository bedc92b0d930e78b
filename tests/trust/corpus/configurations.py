"""What configurations make loaders fetch, follow, import or call. The code that they name is inert text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.trust.corpus import Sample
from tests.trust.corpus.archive_writers import tarred, zipped
from tests.trust.corpus.wire_writers import safetensors

HARM = b"import os\nos.system('echo pwned')\n\n\nclass Model:\n    pass\n"
"""Code that acts when it is imported."""
WEIGHTS = safetensors({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, bytes(8))


def encoded(value: Any) -> bytes:
    """JSON."""
    return json.dumps(value, indent=2).encode()


def samples() -> Iterator[Sample]:
    """By what is followed."""
    groups = (_auto_maps(), _pipelines(), _targets(), _paths(), _yaml(), _names())
    for group in groups:
        for what, (files, source) in group.items():
            yield Sample(f"configurations/{what}", files, source=source)


def _auto_maps() -> dict[str, tuple[dict[str, bytes], str]]:
    def named(path: str, key: str, target: Any = "modeling_x.Model", **more: bytes) -> dict[str, bytes]:
        config = {"model_type": "x", "auto_map": {key: target}}
        return {path: encoded(config), "modeling_x.py": HARM, "model.safetensors": WEIGHTS, **more}

    return {
        "auto_map, model": (named("config.json", "AutoModel"), ""),
        "auto_map, model for a task": (named("config.json", "AutoModelForCausalLM"), ""),
        "auto_map, configuration": (named("config.json", "AutoConfig"), ""),
        "auto_map, tokenizer": (named("tokenizer_config.json", "AutoTokenizer", [None, "modeling_x.Model"]), ""),
        "auto_map, old tokenizer": (
            {"tokenizer_config.json": encoded({"auto_map": ["modeling_x.Model", None]}), "modeling_x.py": HARM},
            "",
        ),
        "auto_map, processor": (named("processor_config.json", "AutoProcessor"), ""),
        "auto_map, image processor": (named("preprocessor_config.json", "AutoImageProcessor"), ""),
        "auto_map, feature extractor": (named("preprocessor_config.json", "AutoFeatureExtractor"), ""),
        "auto_map, video processor": (named("video_preprocessor_config.json", "AutoVideoProcessor"), ""),
        "auto_map, nested configuration": (
            {
                "config.json": encoded({"text_config": {"auto_map": {"AutoConfig": "modeling_x.Model"}}}),
                "modeling_x.py": HARM,
            },
            "",
        ),
        "auto_map, in a folder": (
            {
                "text_encoder/config.json": encoded({"auto_map": {"AutoModel": "modeling_x.Model"}}),
                "text_encoder/modeling_x.py": HARM,
                "model_index.json": encoded({"_class_name": "X", "text_encoder": ["transformers", "AutoModel"]}),
            },
            "",
        ),
        "auto_map, harm in a neighbour": (
            {
                "config.json": encoded({"auto_map": {"AutoModel": "modeling_x.Model"}}),
                "modeling_x.py": b"from .layers import block\nclass Model: pass\n",
                "layers.py": HARM,
            },
            "",
        ),
        "auto_map, harm two modules away": (
            {
                "config.json": encoded({"auto_map": {"AutoModel": "modeling_x.Model"}}),
                "modeling_x.py": b"from . import a\nclass Model: pass\n",
                "a.py": b"from .b import c\n",
                "b/__init__.py": b"",
                "b/c.py": HARM,
            },
            "",
        ),
        "auto_map, harm in the package's init": (
            {
                "config.json": encoded({"auto_map": {"AutoModel": "pkg.model.Model"}}),
                "pkg/__init__.py": HARM,
                "pkg/model.py": b"class Model: pass\n",
            },
            "",
        ),
        "auto_map, key in escapes": (
            {"config.json": b'{"auto\\u005fmap": {"AutoModel": "modeling_x.Model"}}', "modeling_x.py": HARM},
            "",
        ),
        "auto_map, key twice": (
            {
                "config.json": b'{"auto_map": {"AutoModel": "x.Y"}, "auto_map": {"AutoModel": "modeling_x.Model"}}',
                "modeling_x.py": HARM,
            },
            "",
        ),
        "auto_map, byte order mark": (
            {
                "config.json": b"\xef\xbb\xbf" + encoded({"auto_map": {"AutoModel": "modeling_x.Model"}}),
                "modeling_x.py": HARM,
            },
            "",
        ),
        "auto_map, in a checkpoint folder": (
            {
                "checkpoint-500/config.json": encoded({"auto_map": {"AutoModel": "modeling_x.Model"}}),
                "checkpoint-500/modeling_x.py": HARM,
            },
            "",
        ),
        "generation, custom folder": ({"custom_generate/generate.py": HARM, "config.json": b"{}"}, "transformers 4.52"),
        "attention kernels of a repository": (
            {
                "config.json": encoded({"model_type": "llama", "_attn_implementation_internal": "evil/kernels"}),
                "model.safetensors": WEIGHTS,
            },
            "CVE-2026-4372",
        ),
    }


def _pipelines() -> dict[str, tuple[dict[str, bytes], str]]:
    task = {"my-task": {"impl": "pipeline_x.Pipe", "pt": ["AutoModel"], "default": {}}}
    return {
        "transformers, custom pipeline": (
            {"config.json": encoded({"custom_pipelines": task}), "pipeline_x.py": HARM},
            "",
        ),
        "diffusers, pipeline.py": (
            {"model_index.json": encoded({"_class_name": "DiffusionPipeline"}), "pipeline.py": HARM},
            "",
        ),
        "diffusers, class of a file": (
            {"model_index.json": encoded({"_class_name": ["my_pipe", "Pipe"]}), "my_pipe.py": HARM},
            "",
        ),
        "diffusers, part of a file": (
            {
                "model_index.json": encoded({"_class_name": "X", "unet": ["my_unet", "Net"]}),
                "unet/my_unet.py": HARM,
                "unet/config.json": b"{}",
            },
            "",
        ),
        "diffusers, part of os": ({"model_index.json": encoded({"_class_name": "X", "unet": ["os", "system"]})}, ""),
        "sentence-transformers, module of a file": (
            {
                "modules.json": encoded([{"idx": 0, "name": "0", "path": "", "type": "custom.Model"}]),
                "custom.py": HARM,
                "config.json": b"{}",
            },
            "",
        ),
        "sentence-transformers, module of subprocess": (
            {
                "modules.json": encoded([{"idx": 0, "name": "0", "path": "", "type": "subprocess.Popen"}]),
                "config.json": b"{}",
            },
            "",
        ),
        "sentence-transformers, activation": (
            {
                "modules.json": encoded(
                    [{"idx": 0, "name": "0", "path": "d", "type": "sentence_transformers.models.Dense"}]
                ),
                "d/config.json": encoded({"in_features": 2, "activation_function": "os.system"}),
            },
            "",
        ),
        "sentence-transformers, custom_st.py": (
            {"modules.json": encoded([]), "custom_st.py": HARM, "config.json": b"{}"},
            "",
        ),
        "endpoint handler": (
            {"handler.py": b"import os\nos.system('x')\nclass EndpointHandler: pass\n", "config.json": b"{}"},
            "",
        ),
        "endpoint handler that acts when it is built": (
            {
                "handler.py": b"import subprocess\nclass EndpointHandler:\n    def __init__(self, path=''):\n        subprocess.Popen(['sh', '-c', 'id'])\n",
                "config.json": b"{}",
            },
            "",
        ),
        "SageMaker inference": ({"code/inference.py": HARM, "model.safetensors": WEIGHTS}, ""),
        "torch.hub": ({"hubconf.py": HARM, "weights.safetensors": WEIGHTS}, ""),
        "dataset script": (
            {
                "data.py": b"import datasets, os\nos.system('echo pwned')\nclass X(datasets.GeneratorBasedBuilder): pass\n",
                "README.md": b"# x\n",
            },
            "",
        ),
        "Triton Python backend": ({"config.pbtxt": b'backend: "python"\n', "1/model.py": HARM}, ""),
        "torchserve handler": (
            {"m.mar": zipped({"MAR-INF/MANIFEST.json": encoded({"model": {"handler": "h.py:handle"}}), "h.py": HARM})},
            "",
        ),
        "mlflow, loader module": (
            {"MLmodel": b"flavors:\n  python_function:\n    loader_module: subprocess\n    data: x\n"},
            "",
        ),
        "mlflow, loader module of a file": (
            {
                "MLmodel": b"flavors:\n  python_function:\n    loader_module: loader\n    code: code\n",
                "code/loader.py": HARM,
            },
            "",
        ),
        "mlflow, code of a model": (
            {
                "MLmodel": b"flavors:\n  python_function:\n    loader_module: mlflow.pyfunc.model\n    model_code_path: model.py\n",
                "model.py": HARM,
            },
            "",
        ),
        "kernels, compiled": ({"build/torch210-cxx11-cu128-x86_64-linux/k/__init__.py": HARM}, ""),
        "BentoML service": ({"bento.yaml": b"service: service:svc\nname: x\n", "src/service.py": HARM}, ""),
        "spaCy, package": (
            {"meta.json": encoded({"lang": "en", "name": "x"}), "config.cfg": b"[nlp]\n", "__init__.py": HARM},
            "",
        ),
        "KServe transformer": ({"setup.py": HARM, "model.safetensors": WEIGHTS}, ""),
    }


def _targets() -> dict[str, tuple[dict[str, bytes], str]]:
    return {
        "Hydra, os.system": (
            {"config.yaml": b"model:\n  _target_: os.system\n  command: echo pwned\n"},
            "CVE-2025-23304",
        ),
        "Hydra, subprocess": ({"config.yaml": b"_target_: subprocess.Popen\n_args_: [[echo]]\n"}, "CVE-2025-23304"),
        "Hydra, builtins.exec": (
            {"conf/model.yaml": b"net:\n  _target_: builtins.exec\n  _args_: ['1']\n"},
            "CVE-2026-22584",
        ),
        "Hydra, eval without a module": ({"config.yaml": b"x:\n  _target_: eval\n  _args_: ['1']\n"}, ""),
        "Hydra, in JSON": ({"config.json": encoded({"head": {"_target_": "os.popen", "cmd": "x"}})}, ""),
        "Hydra, deep in a list": (
            {"config.yaml": b"a:\n- b:\n  - c:\n      _target_: shutil.rmtree\n      path: /tmp/x\n"},
            "",
        ),
        "Hydra, partial": ({"config.yaml": b"a:\n  _target_: os.system\n  _partial_: true\n"}, ""),
        "Hydra, get_method": ({"config.yaml": b"a:\n  _target_: hydra.utils.get_method\n  path: os.system\n"}, ""),
        "Hydra, pickle": ({"config.yaml": b"a:\n  _target_: pickle.loads\n  _args_: [x]\n"}, ""),
        "Hydra, torch.load": ({"config.yaml": b"a:\n  _target_: torch.load\n  f: /tmp/x\n  weights_only: false\n"}, ""),
        "Hydra, runpy": ({"config.yaml": b"a:\n  _target_: runpy.run_path\n  path_name: x.py\n"}, ""),
        "Hydra, through a library": (
            {"config.yaml": b"a:\n  _target_: torch.serialization.os.system\n  command: x\n"},
            "",
        ),
        "Hydra, module of a file": ({"config.yaml": b"a:\n  _target_: harm.Model\n", "harm.py": HARM}, ""),
        "Hydra, key in quotes": ({"config.yaml": b'a: {"_target_": "os.system", "command": "x"}\n'}, ""),
        "Hydra, alias": ({"config.yaml": b"x: &a\n  _target_: os.system\ny: *a\n"}, ""),
        "NeMo, in the archive": (
            {
                "m.nemo": tarred(
                    {
                        "model_config.yaml": b"preprocessor:\n  _target_: os.system\n  command: x\n",
                        "model_weights.ckpt": b"",
                    }
                )
            },
            "CVE-2025-23304",
        ),
        "latent diffusion, target": ({"config.yaml": b"model:\n  target: os.system\n  params: {command: x}\n"}, ""),
        "pyannote, pipeline": ({"config.yaml": b"pipeline:\n  name: os.system\n  params: {command: x}\n"}, ""),
        "FlexTok, in the metadata of safetensors": (
            {
                "model.safetensors": safetensors(
                    {
                        "__metadata__": {"__config": "{'_target_': 'os.system'}"},
                        "w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
                    },
                    bytes(8),
                )
            },
            "CVE-2026-22584, ml-flextok",
        ),
        "router of sentence-transformers": (
            {
                "modules.json": encoded([{"idx": 0, "path": "", "type": "sentence_transformers.models.Router"}]),
                "router_config.json": encoded({"types": {"a": "subprocess.Popen"}, "structure": {"query": ["a"]}}),
            },
            "",
        ),
    }


def _paths() -> dict[str, tuple[dict[str, bytes], str]]:
    def index(*shards: str) -> bytes:
        return encoded(
            {"metadata": {"total_size": 8}, "weight_map": {f"w{i}": shard for i, shard in enumerate(shards)}}
        )

    return {
        "shard index that climbs": ({"model.safetensors.index.json": index("../../../.ssh/id_rsa")}, ""),
        "shard index, absolute": ({"model.safetensors.index.json": index("/etc/passwd")}, ""),
        "shard index, climbing from a folder": ({"model.safetensors.index.json": index("a/../../x")}, ""),
        "shard index, backslashes": ({"model.safetensors.index.json": index("..\\..\\x.bin")}, ""),
        "shard index of pickles that climbs": ({"pytorch_model.bin.index.json": index("../evil.bin")}, ""),
        "shard index, an address": ({"pytorch_model.bin.index.json": index("https://evil.example/x.bin")}, ""),
        "shard index, one of many": (
            {
                "model.safetensors.index.json": index("model-00001.safetensors", "../x"),
                "model-00001.safetensors": WEIGHTS,
            },
            "",
        ),
        "TensorFlow.js manifest that climbs": (
            {
                "model.json": encoded(
                    {
                        "format": "graph-model",
                        "modelTopology": {},
                        "weightsManifest": [{"paths": ["../../x"], "weights": []}],
                    }
                )
            },
            "",
        ),
        "adapter, base that climbs": (
            {"adapter_config.json": encoded({"peft_type": "LORA", "base_model_name_or_path": "../../evil"})},
            "",
        ),
        "adapter, base that is an address": (
            {
                "adapter_config.json": encoded(
                    {"peft_type": "LORA", "base_model_name_or_path": "https://evil.example/x"}
                )
            },
            "",
        ),
        "tokenizer file that climbs": (
            {"tokenizer_config.json": encoded({"tokenizer_file": "../../../etc/passwd"})},
            "",
        ),
    }


def _yaml() -> dict[str, tuple[dict[str, bytes], str]]:
    return {
        "YAML, object/apply": (
            {"config.yaml": b"x: !!python/object/apply:os.system ['echo pwned']\n"},
            "CVE-2020-14343",
        ),
        "YAML, object/new": ({"config.yml": b"x: !!python/object/new:subprocess.Popen [['echo']]\n"}, ""),
        "YAML, name": ({"hparams.yaml": b"x: !!python/name:os.system\n"}, ""),
        "YAML, module": ({"config.yaml": b"x: !!python/module:subprocess\n"}, ""),
        "YAML, long tag": ({"config.yaml": b"x: !<tag:yaml.org,2002:python/object/apply:os.system> ['x']\n"}, ""),
        "YAML, eval": ({"config.yaml": b"x: !!python/object/apply:builtins.eval ['1']\n"}, ""),
        "HyperPyYAML, new": ({"hyperparams.yaml": b"x: !new:os.system\n  - echo\n"}, ""),
        "HyperPyYAML, apply": ({"hyperparams.yaml": b"x: !apply:subprocess.call [['echo']]\n"}, ""),
        "HyperPyYAML, name": ({"hyperparams.yaml": b"x: !name:os.system\n"}, ""),
        "YAML, handle for the tag": (
            {"config.yaml": b"%TAG !p! tag:yaml.org,2002:python/object/apply:\n---\nx: !p!os.system ['x']\n"},
            "",
        ),
        "YAML, tag in percent": ({"config.yaml": b"x: !!python/object/apply:os%2Esystem ['x']\n"}, ""),
    }


def _names() -> dict[str, tuple[dict[str, bytes], str]]:
    return {
        "code beside another case": (
            {
                "config.json": encoded({"auto_map": {"AutoModel": "Modeling_x.Model"}}),
                "Modeling_x.py": HARM,
                "modeling_x.py": b"class Model: pass\n",
            },
            "",
        ),
        "kernel named in a generation configuration": (
            {"generation_config.json": encoded({"custom_generate": "evil/repo"}), "config.json": b"{}"},
            "",
        ),
        "code in a wheel beside the weights": (
            {
                "deps/helper-1.0-py3-none-any.whl": zipped(
                    {"helper.pth": b"import os; os.system('x')\n", "helper-1.0.dist-info/WHEEL": b""}
                ),
                "config.json": b"{}",
            },
            "",
        ),
    }
