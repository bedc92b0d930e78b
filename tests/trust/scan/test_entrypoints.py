from __future__ import annotations

import json

import pytest

from regraft.package.formats import Probe
from regraft.package.reader import BytesReader
from regraft.trust.scan.entrypoints import entry_points, path_of
from regraft.trust.scan.interface import Site


def site(name: str, content: str = "", inside: str | None = None) -> Site:
    file, _, member = name.partition("!")
    probe = Probe(BytesReader(content.encode(), where=name), member or file)
    return Site(file, member or None, probe, None, inside=inside)


def reached(files: dict[str, str]) -> set[tuple[str, str | None]]:
    return {(point.path, point.class_name) for point in entry_points([site(n, c) for n, c in files.items()])}


@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json", "sub/c.json"]
)
def test_auto_map_in_any_configuration(name):
    folder = name.rpartition("/")[0]
    script = f"{folder}/code_x.py" if folder else "code_x.py"
    config = json.dumps({"auto_map": {"AutoTokenizer": ["code_x.Slow", None]}})
    assert (script, "Slow") in reached({name: config, script: ""})


def test_custom_pipelines_of_transformers():
    config = json.dumps({"custom_pipelines": {"my-task": {"impl": "pipe.MyPipeline", "pt": ["AutoModel"]}}})
    assert ("pipe.py", "MyPipeline") in reached({"config.json": config, "pipe.py": ""})


def test_custom_parts_of_a_diffusers_pipeline():
    index = {"_class_name": ["my_pipeline", "Pipe"], "unet": ["my_unet", "Net"], "vae": ["diffusers", "AutoencoderKL"]}
    files = {"model_index.json": json.dumps(index), "my_pipeline.py": "", "unet/my_unet.py": "", "vae/x.py": ""}
    found = reached(files)
    assert found == {("my_pipeline.py", "Pipe"), ("unet/my_unet.py", "Net")}


def test_modules_of_sentence_transformers():
    modules = [
        {"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "path": "1_X", "type": "custom_x.Module"},
    ]
    assert reached({"modules.json": json.dumps(modules), "custom_x.py": ""}) == {("custom_x.py", "Module")}


@pytest.mark.parametrize(
    "files",
    [
        {"handler.py": "", "config.json": "{}"},
        {"code/inference.py": "", "x": ""},
        {"hubconf.py": "", "x": ""},
        {"custom_generate/generate.py": "", "x": ""},
        {"sub/sitecustomize.py": "", "x": ""},
        {"squad.py": "import datasets\nclass S(datasets.GeneratorBasedBuilder): pass", "data.csv": ""},
        {"m/1/model.py": "", "m/config.pbtxt": ""},
        {"pipeline.py": "", "model_index.json": "{}"},
        {"setup.py": "", "x": ""},
    ],
)
def test_files_that_loaders_run_by_their_names(files):
    assert {path for path, _ in reached(files)} == {next(iter(files))}


def test_ordinary_sources_are_no_entry_points():
    assert reached({"lib/handler.py": "", "lib/model.py": "", "lib/inference.py": "", "x": ""}) == set()


def test_members_of_archives_are_neighbours():
    config = json.dumps({"auto_map": {"AutoModel": "m.X"}})
    sites = [site("a.zip!r/config.json", config), site("a.zip!r/m.py")]
    assert [path_of(s) for s in sites] == ["a.zip!/r/config.json", "a.zip!/r/m.py"]
    assert [(p.path, p.class_name) for p in entry_points(sites)] == [("a.zip!/r/m.py", "X")]


def test_torchscript_code_is_not_python():
    assert entry_points([site("m.pt!m/code/__torch__.py", "", "torchscript")]) == []


@pytest.mark.parametrize("text", ["{", "[" * 100_000, '{"auto_map": 3}', '{"auto_map": {"a": {}}}', "\ud800"])
def test_odd_configurations_name_nothing(text):
    content = text.encode("utf-8", "surrogatepass").decode("latin-1")
    assert reached({"config.json": content + "auto_map", "y": ""}) == set()


@pytest.mark.parametrize(
    "key",
    ["auto\\u005fmap", "\\u0061uto_map", "auto_ma\\u0070", "\\u0061\\u0075\\u0074\\u006f\\u005f\\u006d\\u0061\\u0070"],
)
def test_a_key_in_escapes_is_a_key(scan_files, key):
    config = f'{{"model_type": "x", "{key}": {{"AutoModel": "modeling_x.X"}}}}'
    code = "import os\nos.system('echo pwned')\n"
    plain = scan_files({"config.json": config.replace(key, "auto_map").encode(), "modeling_x.py": code.encode()})
    hidden = scan_files({"config.json": config.encode(), "modeling_x.py": code.encode()})
    assert hidden.verdict == plain.verdict == "fail"
    assert [finding.rule for finding in hidden.findings] == [finding.rule for finding in plain.findings]


def test_a_key_in_escapes_in_a_file_that_cannot_be_parsed_is_unknown(scan_files):
    config = b'{"auto\\u005fmap": {"AutoModel": "modeling_x.X"}, "x": ' + b"[" * 50_000 + b"]" * 50_000 + b"}"
    assert "RGS-REP-009" in {finding.rule for finding in scan_files({"config.json": config}).findings}


def test_a_large_file_of_nothing_costs_little(scan_files):
    import time

    start = time.process_time()
    scan_files({"config.json": b"{" + bytes(64 << 20)})
    assert time.process_time() - start < 2
