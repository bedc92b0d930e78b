from __future__ import annotations

import json

import pytest


def config(**fields: object) -> dict[str, str]:
    return {"config.json": json.dumps(fields)}


def test_code_of_another_repository(rules_of):
    assert "RGS-REP-001" in rules_of(config(auto_map={"AutoModel": "org/repo--modeling.X"}))


def test_code_that_is_not_there(rules_of):
    assert "RGS-REP-002" in rules_of(config(auto_map={"AutoModel": "modeling.X"}))


@pytest.mark.parametrize("target", ["os.system", "builtins.eval", "subprocess.Popen", "posix.system", "pty.spawn"])
def test_a_dangerous_hydra_target(rules_of, target):
    assert "RGS-REP-003" in rules_of({"conf/model.yaml": f"model:\n  _target_: {target}\n  command: x\n"})
    assert "RGS-REP-003" in rules_of(config(model={"_target_": target}))


def test_a_hydra_target_in_a_known_library_is_fine(rules_of):
    assert not {r for r in rules_of(config(model={"_target_": "torch.nn.Linear"})) if r.startswith("RGS-REP")}


def test_a_hydra_target_elsewhere_is_unknown(rules_of):
    assert "RGS-REP-004" in rules_of(config(model={"_target_": "strange_library.Thing"}))


def test_a_module_type_outside_of_sentence_transformers(rules_of):
    assert "RGS-REP-004" in rules_of({"modules.json": json.dumps([{"type": "strange_library.Module"}])})
    assert "RGS-REP-003" in rules_of({"modules.json": json.dumps([{"type": "os.system"}])})


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "C:\\x", "a/../../b", "https://x/y"])
def test_an_index_that_points_out_of_the_package(rules_of, name):
    index = {"metadata": {}, "weight_map": {"w": name}}
    assert "RGS-REP-005" in rules_of({"model.safetensors.index.json": json.dumps(index)})


def test_a_missing_shard_is_noted(rules_of):
    index = {"metadata": {}, "weight_map": {"w": "model-00001-of-00002.safetensors"}}
    assert "RGS-REP-006" in rules_of({"model.safetensors.index.json": json.dumps(index)})


def test_the_base_of_an_adapter(rules_of):
    assert "RGS-REP-007" in rules_of({"adapter_config.json": json.dumps({"base_model_name_or_path": "org/base"})})
    assert "RGS-REP-008" in rules_of({"adapter_config.json": json.dumps({"base_model_name_or_path": "../../x"})})


@pytest.mark.parametrize(
    "text",
    [
        '{"a": ' * 5000 + '{"auto_map": {"AutoModel": "m.X"}}' + "}" * 5000,
        '{"auto_map": {"AutoModel": "m.X"}, ' + " " * (17 << 20) + '"x": 1}',
        '{"auto_map": {"AutoModel": "m.X"}',
    ],
    ids=["deep", "large", "cut"],
)
def test_a_configuration_that_names_code_and_cannot_be_parsed_is_unknown(rules_of, text):
    assert "RGS-REP-009" in rules_of({"config.json": text})


def test_padding_does_not_hide_a_reference(rules_of):
    text = '{"x": "' + " " * (6 << 20) + '", "auto_map": {"AutoModel": "org/repo--m.X"}}'
    assert "RGS-REP-001" in rules_of({"config.json": text})


def test_the_handler_of_a_torchserve_archive_is_followed(rules_of):
    manifest = json.dumps({"model": {"modelName": "x", "handler": "my_handler.py"}})
    files = {"MAR-INF/MANIFEST.json": manifest, "my_handler.py": "import os\nos.system('x')\n", "model.txt": "x"}
    assert "RGS-COD-001" in rules_of(files)


@pytest.mark.parametrize(
    ("key", "rule"),
    [
        ("attn_implementation", "RGS-REP-001"),
        ("_attn_implementation", "RGS-REP-001"),
        ("_attn_implementation_internal", "RGS-REP-010"),
    ],
)
def test_kernels_of_another_repository(rules_of, key, rule):
    assert rule in rules_of(config(**{key: "somebody/kernel@main:attention"}))
    assert not rules_of(config(**{key: "sdpa"}))
    assert not rules_of(config(**{key: "kernels-community/flash-attn3"}))


def test_the_library_that_an_adapter_imports(rules_of):
    def adapter(library: str) -> dict[str, str]:
        mapping = {"base_model_class": "X", "parent_library": library}
        return {"adapter_config.json": json.dumps({"peft_type": "LORA", "auto_mapping": mapping})}

    assert "RGS-REP-004" in rules_of(adapter("strange_module"))
    assert not rules_of(adapter("transformers.models.bert.modeling_bert"))


@pytest.mark.parametrize("file", ["router_config.json", "config.json"])
def test_the_parts_of_a_router(rules_of, file):
    def router(target: str) -> dict[str, str]:
        return {file: json.dumps({"types": {"query_0": target}, "structure": {"query": ["query_0"]}})}

    assert "RGS-REP-003" in rules_of(router("subprocess.Popen"))
    assert "RGS-REP-004" in rules_of(router("strange.module.Class"))
    assert not rules_of(router("sentence_transformers.models.Transformer.Transformer"))


def test_import_paths_of_other_loaders(rules_of):
    assert "RGS-REP-003" in rules_of({"config.yaml": "model:\n  target: os.system\n  params: {command: x}\n"})
    assert "RGS-REP-003" in rules_of({"config.yaml": "pipeline:\n  name: os.system\n  params: {command: x}\n"})
    assert "RGS-REP-003" in rules_of(config(sentence_transformers={"activation_fn": "os.system"}))
    for harmless in (
        "model:\n  target: ldm.models.diffusion.ddpm.LatentDiffusion\n",
        "pipeline:\n  name: pyannote.audio.pipelines.SpeakerDiarization\n",
        "deploy:\n  target: all\n",
    ):
        assert not rules_of({"config.yaml": harmless})


def test_the_loader_that_mlflow_imports(rules_of):
    def flavor(module: str) -> dict[str, str]:
        return {"MLmodel": f"flavors:\n  python_function:\n    loader_module: {module}\n    code: code\n"}

    assert "RGS-REP-004" in rules_of(flavor("loader"))
    assert not rules_of(flavor("mlflow.sklearn"))


@pytest.mark.parametrize(
    ("key", "value"), [("tokenizer_file", "../../x"), ("vocab_file", "/etc/passwd"), ("path", "file:///x")]
)
def test_files_that_are_named_outside_of_the_package(rules_of, key, value):
    assert "RGS-REP-005" in rules_of({"tokenizer_config.json": json.dumps({key: value})})


def test_paths_of_whoever_trained_it_are_no_attack(rules_of):
    content = {"tokenizer_file": "/home/me/.cache/tokenizer.json", "name_or_path": "../base", "text": "see ../x"}
    assert not rules_of({"tokenizer_config.json": json.dumps(content)})


def test_code_that_generation_takes_from_another_repository(rules_of):
    assert "RGS-REP-001" in rules_of({"generation_config.json": json.dumps({"custom_generate": "someone/else"})})


def test_paths_in_the_configuration_of_a_training_are_no_attack(rules_of):
    assert "RGS-REP-005" not in rules_of({"train.yaml": "data:\n  file: ../data/train.extxyz\n"})
