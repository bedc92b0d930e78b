"""replicate of a torch network against ONNX files that another tool made of it: other names, layouts, folded norms."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

import regraft as rg
from regraft.cli.app import run
from regraft.record.evidence import Evidence

IMAGE = torch.ones(2, 3, 9, 7)
FACTORIES = """
import torch
import test_replicate_files


def network():
    return test_replicate_files.network(), {"x": test_replicate_files.IMAGE}


def plain():
    return torch.nn.Conv2d(3, 8, 3), {"input": test_replicate_files.IMAGE}


def without_weights():
    return torch.nn.ReLU(), {"input": test_replicate_files.IMAGE}


def norm_in_jax():
    import jax
    from jax import numpy as jnp

    def run(w, x):
        y = jax.lax.conv_general_dilated(x, w["kernel"], (1, 1), "VALID")  # (B, C, H, W)
        bend = lambda value: value[None, :, None, None]
        factor = bend(w["scale"] * jax.lax.rsqrt(w["variance"] + 1e-5))
        return (y - bend(w["mean"])) * factor + bend(w["shift"])

    weights = {name: jnp.full(8, 0.5) for name in ("scale", "shift", "mean", "variance")}
    run = jax.tree_util.Partial(run, {**weights, "kernel": jnp.ones((8, 3, 3, 3))})
    return run, {"x": jnp.asarray(test_replicate_files.IMAGE.numpy())}
"""


class Residual(nn.Module):
    """Convolutions with and without a bias, each with a batch norm; one of them works behind an activation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8)
        self.inner, self.inner_norm = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8, eps=1e-3)
        self.head, self.last = nn.Linear(8, 6), nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = torch.relu(x + self.inner_norm(self.inner(x)))
        x = x.mean((2, 3)).reshape(x.shape[0], 1, 8)  # (B, 1, 8): a product of matrices, as of tokens
        return self.last(torch.tanh(self.head(x)))


def network() -> nn.Module:
    torch.manual_seed(0)
    made = Residual()
    for norm in (made.norm, made.inner_norm):
        for value, low in ((norm.weight, 0.5), (norm.running_var, 0.5), (norm.bias, -1.0), (norm.running_mean, -1.0)):
            nn.init.uniform_(value, low, 1.5)
    return made.eval()


def exported(folder: Path, *, seed: int | None = None) -> Path:
    """As torch's older exporter writes it, all initialisers renamed; with a seed, their numbers are random."""
    path = folder / f"exported_{seed}.onnx"
    names = {"input_names": ["x"], "output_names": ["y"], "dynamic_axes": {"x": {0: "batch"}}}
    torch.onnx.export(network(), (IMAGE,), str(path), dynamo=False, **names)
    model = onnx.load(path)
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    renamed = {tensor.name: f"const/{i}" for i, tensor in enumerate(model.graph.initializer)}
    rng = np.random.default_rng(seed)
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if seed is not None and value.dtype == np.float32 and value.size > 1:
            tensor.CopyFrom(numpy_helper.from_array(rng.normal(0, 0.3, value.shape).astype(np.float32), tensor.name))
        tensor.name = renamed[tensor.name]
    for node in model.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    onnx.save(model, path)
    return path


@pytest.fixture(autouse=True)
def _factories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "networks_of_files.py").write_text(FACTORIES)


def _rules(evidence: Evidence) -> dict[str, str]:
    return {finding.rule: finding.message for finding in evidence.findings}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_initialisers_are_filled_through_folded_norms(tmp_path: Path) -> None:
    candidate = exported(tmp_path, seed=1)
    kept, script = tmp_path / "map.toml", tmp_path / "convert.py"
    evidence = rg.replicate("py:networks_of_files:network", candidate, map_out=kept, converter_out=script)
    assert evidence.outcome == "replicated", evidence.summary
    assert _rules(evidence)["replicate.folded"].count(" in const/") == 2
    assert {one.of["status"] for one in evidence.measurements if one.name == "weights_mapped"} == {"proven"}
    assert 'norm = { scale = "norm.weight"' in kept.read_text()
    again = rg.replicate("py:networks_of_files:network", candidate, map_file=kept)
    assert again.outcome == "replicated"

    torch.save(network().state_dict(), tmp_path / "reference.pt")
    filled = tmp_path / "filled.onnx"
    subprocess.run([sys.executable, script, tmp_path / "reference.pt", filled, candidate], check=True)
    assert rg.verify("py:networks_of_files:network", filled).outcome == "equivalent"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_norms_that_the_reference_has_folded_are_the_identity_in_the_candidate(tmp_path: Path) -> None:
    reference, kept, script = exported(tmp_path, seed=1), tmp_path / "map.toml", tmp_path / "convert.py"
    evidence = rg.replicate(reference, "py:networks_of_files:network", map_out=kept, converter_out=script)
    assert evidence.outcome == "replicated", evidence.summary
    assert "norm, inner_norm folded" in _rules(evidence)["replicate.folded"]
    assert {one.of["status"] for one in evidence.measurements if one.name == "weights_mapped"} == {"proven"}
    assert rg.replicate(reference, "py:networks_of_files:network", map_file=kept).outcome == "replicated"

    graph = onnx.load(reference).graph
    weights = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    first = next(node for node in graph.node if node.op_type == "Conv")
    np.savez(tmp_path / "weights.npz", **weights)
    subprocess.run([sys.executable, script, tmp_path / "weights.npz", tmp_path / "made.npz"], check=True)
    with np.load(tmp_path / "made.npz") as made:
        assert made["inner_norm.running_var"] == pytest.approx(1 - 1e-3)
        assert np.array_equal(made["norm.bias"], weights[first.input[2]])
        assert (made["norm.weight"] == 1).all()
        assert not made["norm.running_mean"].any()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_initialiser_that_was_permuted_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    candidate = exported(tmp_path)
    model = onnx.load(candidate)
    tensor = next(one for one in model.graph.initializer if tuple(one.dims) == (8, 8, 3, 3))
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).swapaxes(2, 3), tensor.name))
    onnx.save(model, candidate)
    assert run(["replicate", "py:networks_of_files:network", str(candidate), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)["findings"]
    own = [one for one in found if one["rule"] == "replicate.own_weights"]
    assert [(one["where"]["candidate"], one["data"]["cause"]) for one in own] == [(tensor.name, "weight_permuted")]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_file_that_no_map_fills_is_compared_as_it_is(tmp_path: Path) -> None:
    candidate = exported(tmp_path)
    model = onnx.load(candidate)
    (end,) = model.graph.output
    model.graph.initializer.append(numpy_helper.from_array(np.full((4, 4), 0.5, np.float32), "more"))
    end.name = "z"
    model.graph.node.append(onnx.helper.make_node("MatMul", ["y", "more"], ["z"]))
    onnx.save(model, candidate)
    evidence = rg.replicate("py:networks_of_files:network", candidate)
    assert evidence.outcome == "differs"
    assert "no map fills all of them" in _rules(evidence)["replicate.own_weights_only"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_shows_no_weights_is_told_with_what_to_do(tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    compiled = tmp_path / "compiled"
    graph = openvino.Core().read_model(exported(tmp_path))
    openvino.save_model(graph, compiled / "model.xml", compress_to_fp16=False)
    as_candidate = rg.replicate("py:networks_of_files:network", compiled)
    as_reference = rg.replicate(compiled, "py:networks_of_files:network")
    assert as_reference.outcome == "undecided"
    rules = ("replicate.own_weights_only", "replicate.cannot_map")
    for evidence, rule in zip((as_candidate, as_reference), rules, strict=True):
        (told,) = [one for one in evidence.findings if one.rule == rule]
        assert "(openvino)" in told.message
        assert "the ONNX file, that it was made of" in (told.fix or "")
    assert "--own-weights" in (told.fix or "")


def test_norms_that_are_written_out_beside_a_reference_without_norms_are_no_difference() -> None:
    evidence = rg.replicate("py:networks_of_files:plain", "py:networks_of_files:norm_in_jax")
    assert evidence.outcome == "undecided"
    assert "may have them folded" in _rules(evidence)["replicate.cannot_map"]


def test_where_there_are_no_weights_no_map_is_written_and_it_says_so(tmp_path: Path) -> None:
    place, wanted = "py:networks_of_files:without_weights", tmp_path / "map.toml"
    evidence = rg.replicate(place, place, map_out=wanted)
    assert evidence.outcome == "replicated"
    assert "map.toml was not written" in _rules(evidence)["replicate.no_map"]
    assert not wanted.exists()
