from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from regraft.deployment.convert import Conversion, convert
from regraft.deployment.convert.routes import require_route, routes
from regraft.errors import NotFound, Unsupported, UsageError
from regraft.package.formats import Port
from regraft.package.package import open_package
from regraft.record.evidence import Record, Verdict
from regraft.record.lineage import Lineage
from regraft.record.store import Store
from regraft.runtime.onnxruntime_model import OnnxRuntimeModel
from regraft.runtime.openvino_model import OpenVinoModel, graph_from_bytes
from regraft.runtime.torch_module import TorchModel
from regraft.workflow.load import load_text

TEXTS = ["a film that stays with you", "no", "two hours of my life that nobody gives back, " * 6]


def test_a_text_package_is_converted_whole(minilm: Path, minilm_onnx: Conversion) -> None:
    evidence = minilm_onnx.evidence
    assert (evidence.verdict, evidence.outcome) == (Verdict.PASS, "converted")
    assert minilm_onnx.path is not None
    source, product = load_text(minilm), load_text(minilm_onnx.path)
    assert product.model.runtime == "onnxruntime"
    assert np.abs(source.encode(TEXTS) - product.encode(TEXTS)).max() < 2e-6  # unit vectors, floor 1e-7


def test_its_evidence_ties_it_to_its_source(minilm: Path, minilm_onnx: Conversion) -> None:
    evidence, verification = minilm_onnx.evidence, minilm_onnx.verification
    assert verification is not None
    with open_package(minilm_onnx.path) as product, open_package(minilm) as source:
        digest, parent = product.manifest().digest, source.manifest().digest
    assert evidence.subject[0].sha256 == verification.subject[0].sha256 == digest
    assert evidence.materials[0].sha256 == verification.materials[0].sha256 == parent
    assert evidence.parameters["verified_by"] == verification.digest
    (tie, *_) = Lineage([Record(evidence.digest, evidence)]).parents(digest)
    assert tie.parent.sha256 == parent
    assert tie.kind == "convert"
    measured = {found.name for found in verification.measurements}
    assert "rms_ratio" in measured
    assert "layer_rms_ratio" not in measured  # a hop that passes is not measured layer by layer


@pytest.mark.parametrize("localise", [True, False])
def test_operators_are_looked_at_unless_that_is_declined(
    attention_onnx: Path, tmp_path: Path, *, localise: bool
) -> None:
    made = convert(attention_onnx, to="onnx-slim", out=tmp_path / "slim", localise=localise)
    assert made.evidence.verdict is Verdict.PASS
    assert made.evidence.parameters["localise"] is localise
    assert ("localised_on" in made.verification.parameters) is localise


def test_nothing_of_this_machine_is_in_the_graph(minilm_onnx: Conversion) -> None:
    content = (minilm_onnx.path / "model.onnx").read_bytes()
    assert str(Path(torch.__file__).parent).encode() not in content
    assert str(Path.home()).encode() + b"/" not in content
    model = onnx.load_from_string(content)
    names = [[dim.dim_param for dim in value.type.tensor_type.shape.dim] for value in model.graph.input]
    assert names[0] == ["batch", "tokens"]


def test_openvino_comes_by_way_of_onnx_and_keeps_its_weights(attention_onnx: Path, tmp_path: Path) -> None:
    made = convert(attention_onnx, to="openvino", out=tmp_path / "ir", store=Store(tmp_path / "store"))
    assert made.evidence.verdict is Verdict.PASS
    assert made.evidence.parameters["route"] == ["openvino_from_onnx"]
    described = json.loads((made.path / "regraft.json").read_text())
    assert (described["model"], described["runtime"], described["precision"]) == ("model.xml", "openvino", "float32")
    stored = Store(tmp_path / "store").evidence(made.verification.digest)
    assert stored is not None
    graph = graph_from_bytes((made.path / "model.xml").read_bytes(), (made.path / "model.bin").read_bytes())
    x = np.random.default_rng(0).normal(size=(2, 9, 3)).astype(np.float32)
    ours = OpenVinoModel(graph, precision="float32")({"x": x})
    theirs = OnnxRuntimeModel(attention_onnx.read_bytes())({"x": x})
    for mine, other in zip(ours.values(), theirs.values(), strict=True):
        assert np.abs(mine - other).max() < 1e-5  # float16 weights would be off by 1e-3


def test_the_ways_are_found() -> None:
    ways = [[member.name for member in way] for way in routes("torch", "openvino")]
    assert ["onnx_from_torch", "openvino_from_onnx"] in ways
    assert all(len(set(way)) == len(way) for way in ways)
    with pytest.raises(Unsupported, match="no way"):
        require_route("openvino", "onnx")


class Branching(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 if x.sum().item() > 0 else x


def test_a_hop_that_fails_is_evidence_and_leaves_nothing(tmp_path: Path) -> None:
    model = TorchModel(Branching(), inputs=[Port("x", "float32", ("batch", 3))], where="branching")
    made = convert(model, to="onnx", out=tmp_path / "out")
    assert made.path is None
    assert (made.evidence.verdict, made.evidence.outcome) == (Verdict.INCONCLUSIVE, "failed")
    hops = {found.data["hop"] for found in made.evidence.findings if found.rule == "convert.failed"}
    assert hops >= {"onnx_from_torch", "torchscript_from_torch"}
    assert list(tmp_path.iterdir()) == []


def test_what_makes_no_sense_is_refused_before_any_work(attention_onnx: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/file").write_text("x")
    for to, out in (("tflite", "a"), ("onnx", "taken"), ("onnx", "no/folder")):
        with pytest.raises(UsageError):
            convert(attention_onnx, to=to, out=tmp_path / out)
    with pytest.raises(UsageError, match="already"):
        convert(attention_onnx, to="onnx", out=tmp_path / "b")
    with pytest.raises(NotFound):
        convert(tmp_path / "none", to="onnx", out=tmp_path / "c")


def test_a_damaged_source_is_evidence(attention_onnx: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(attention_onnx.read_bytes()[:-2000])
    made = convert(damaged, to="openvino", out=tmp_path / "out")
    assert made.evidence.verdict is Verdict.INCONCLUSIVE
    assert made.path is None


@pytest.fixture
def classifier(asset, tmp_path: Path) -> Path:
    """A package as `adapt` makes it: an encoder of token vectors in a folder of its own, a head, a label map."""
    import shutil

    from safetensors.numpy import save_file

    wordllama = asset("pypi", "wordllama", "0.4.0.post1") / "wordllama"
    folder = tmp_path / "classifier"
    (folder / "encoder").mkdir(parents=True)
    shutil.copy(wordllama / "weights/l2_supercat_256.safetensors", folder / "encoder/model.safetensors")
    shutil.copy(wordllama / "tokenizers/l2_supercat_tokenizer_config.json", folder / "encoder/tokenizer.json")
    random = np.random.default_rng(0)
    head = {"weight": random.normal(size=(2, 256)).astype(np.float32), "bias": np.zeros(2, dtype=np.float32)}
    save_file(head, folder / "head.safetensors")
    (folder / "README.md").write_text("# a card\n")
    described = {
        "schema": "regraft.package/1",
        "task": "text-classification",
        "labels": ["negative", "positive"],
        "pipeline": {
            "encoder": "encoder/model.safetensors", "kind": "static-embedding", "head": "head.safetensors",
            "modes": ["mean"], "normalise": True,
        },
    }  # fmt: skip
    (folder / "regraft.json").write_text(json.dumps(described))
    return folder


def test_an_adapted_package_keeps_head_labels_tokenizer_and_card(classifier: Path, tmp_path: Path) -> None:
    from regraft.runtime.pipeline import labels_of
    from regraft.workflow.load import load

    made = convert(classifier, to="openvino", out=tmp_path / "product")
    assert made.evidence.verdict is Verdict.PASS, made.evidence.summary
    assert made.evidence.parameters["route"] == ["onnx_from_torch", "openvino_from_onnx"]
    assert {"tokenizer.json", "README.md", "regraft.json", "model.xml"} <= {p.name for p in made.path.iterdir()}
    with open_package(made.path) as product:
        assert labels_of(product) == ("negative", "positive")
    ids = np.random.default_rng(1).integers(0, 32000, (3, 9))
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    ours = load(made.path, precision="float32")(feeds)["logits"]
    theirs = load(classifier)(feeds)["logits"]
    assert np.abs(ours - theirs).max() < 1e-5  # logits near 1, floor 1e-7
    assert np.abs(theirs).max() > 0.1
