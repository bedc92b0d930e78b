"""Tests that are written for a network pass on it, and fail on the block in which a fault is planted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from regraft.conceptual.block_fixtures import complaint
from regraft.conceptual.block_tests import emit_tests
from regraft.errors import Unsupported, UsageError
from regraft.package.formats import Port
from regraft.runtime.onnxruntime_model import OnnxRuntimeModel
from regraft.runtime.torch_factory import model_from_factory
from regraft.runtime.torch_module import TorchModel

ROOT = Path(__file__).parent.parent.parent
NETWORK = """
import torch
from benchmarks import seven

FAULT = {fault!r}


def build():
    network, feeds = seven.bert()
    if FAULT == "epsilon":
        network.first[1].eps = 1e-5
    if FAULT == "width":
        network.head = torch.nn.Linear(32, 6)
    return network, feeds
"""


@pytest.fixture
def written(tmp_path: Path) -> Path:
    feeds = {"input_ids": np.arange(9)[None], "attention_mask": np.array([[1, 1, 1, 1, 1, 1, 1, 1, 0]])}
    model = model_from_factory("benchmarks.seven:bert")
    emitted = emit_tests(model, feeds, factory="mine:build", folder=tmp_path / "blocks")
    assert set(emitted.blocks) >= {"embed", "first.0", "first.1", "mlp.0.0", "mlp.1.2", "head"}
    assert set(emitted.left_out) == {"attention.0", "attention.1"}, "they are called by their methods"
    return tmp_path / "blocks"


def run(folder: Path, fault: str) -> tuple[int, str]:
    (folder.parent / "mine.py").write_text(NETWORK.format(fault=fault))
    paths = os.pathsep.join([str(folder.parent), str(folder), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=folder)
    return done.returncode, done.stdout


def test_they_pass_on_the_network_that_they_were_written_for(written: Path) -> None:
    status, said = run(written, "")
    assert status == 0, said
    text = (written / "test_blocks.py").read_text() + (written / "block_fixtures.py").read_text()
    assert "import regraft" not in text
    assert "from regraft" not in text
    assert sum(path.stat().st_size for path in written.iterdir()) < 1_000_000


@pytest.mark.parametrize(("fault", "block"), [("epsilon", "first.1"), ("width", "head")])
def test_a_fault_fails_the_test_of_its_block_and_no_other(fault: str, block: str, written: Path) -> None:
    status, said = run(written, fault)
    assert status == 1, said
    failed = [line for line in said.splitlines() if line.startswith("FAILED")]
    assert len(failed) == 1, said
    assert f"[{block}]" in failed[0]


def test_fixtures_are_the_same_every_time(written: Path, tmp_path: Path) -> None:
    feeds = {"input_ids": np.arange(9)[None], "attention_mask": np.array([[1, 1, 1, 1, 1, 1, 1, 1, 0]])}
    emit_tests(model_from_factory("benchmarks.seven:bert"), feeds, factory="mine:build", folder=tmp_path / "again")
    first, again = (json.loads((folder / "blocks.json").read_text()) for folder in (written, tmp_path / "again"))
    assert first.keys() == again.keys()
    for name, block in first.items():
        for one, other in zip(block["outputs"], again[name]["outputs"], strict=True):
            assert one["values"] == other["values"]


def test_images_keep_small_fixtures(tmp_path: Path) -> None:
    feeds = {"image": np.random.default_rng(0).normal(size=(1, 3, 48, 48)).astype(np.float32)}
    model = model_from_factory("benchmarks.seven:mobilenet")
    emitted = emit_tests(model, feeds, factory="benchmarks.seven:mobilenet", folder=tmp_path / "blocks")
    assert {"blocks.0", "blocks.1", "blocks.2", "head"} <= set(emitted.blocks)
    assert (tmp_path / "blocks/blocks.json").stat().st_size < 1_000_000
    status, said = run(tmp_path / "blocks", "")
    assert status == 0, said


class Rotary(torch.nn.Module):
    """Turns pairs of numbers by frequencies that are a buffer, under a mask that is one."""

    def __init__(self, base: float = 10_000.0, masked: float = -torch.inf) -> None:
        super().__init__()
        self.project = torch.nn.Linear(8, 8)
        self.register_buffer("frequencies", base ** -(torch.arange(4) / 4), persistent=False)
        self.register_buffer("mask", torch.full((5, 5), masked).triu(1))
        self.register_buffer("running_mean", torch.zeros(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.project(x) - self.running_mean  # (B, T, 8)
        angles = torch.arange(5)[:, None] * self.frequencies  # (T, 4)
        turned = torch.cat([x[..., :4] * angles.cos(), x[..., 4:] * angles.sin()], -1)
        return torch.softmax(turned @ turned.transpose(1, 2) + self.mask, -1) @ turned


def emitted(network: torch.nn.Module, folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    model = TorchModel(network.eval(), inputs=[Port("input", "float32", ("batch", 5, 8))])
    feeds = {"input": np.random.default_rng(0).normal(size=(1, 5, 8)).astype(np.float32)}
    found = emit_tests(model, feeds, factory="mine:build", folder=folder)
    return json.loads((folder / "blocks.json").read_text()), found.left_out


def test_buffers_that_are_no_weights_are_tested(tmp_path: Path) -> None:
    fixtures, _ = emitted(torch.nn.Sequential(OrderedDict(turn=Rotary(), out=torch.nn.Linear(8, 2))), tmp_path / "made")
    kept = fixtures["turn"]
    assert complaint(Rotary(), kept) == ""
    assert "frequencies" in complaint(Rotary(base=500_000.0), kept)
    assert "mask" in complaint(Rotary(masked=-1.0), kept)
    learnt, rounded, bare = Rotary(), Rotary(), Rotary()
    learnt.running_mean += 3
    assert complaint(learnt, kept) == "", "statistics are drawn, as weights are"
    rounded.frequencies = torch.nextafter(rounded.frequencies, torch.ones(4))
    assert complaint(rounded, kept) == "", "another library of powers may be one bit off"
    del bare.mask
    bare.mask = 0.0
    assert "buffers" in complaint(bare, kept)


def test_blocks_beyond_those_that_are_tested_are_named(tmp_path: Path) -> None:
    deep = torch.nn.Sequential(*(torch.nn.Linear(8, 8) for _ in range(67)))
    kept, left_out = emitted(deep, tmp_path / "made")
    assert len(kept) == 64
    assert left_out.keys() == {"64", "65", "66"}


def test_what_cannot_be_is_refused(tmp_path: Path, attention_bytes: bytes) -> None:
    model = model_from_factory("benchmarks.seven:mobilenet")
    feeds = {"image": np.zeros((1, 3, 48, 48), np.float32)}
    for factory in ("no function", "a:b:c", "os:system('x')", ""):
        with pytest.raises(UsageError):
            emit_tests(model, feeds, factory=factory, folder=tmp_path / "made")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/file").write_text("mine")
    with pytest.raises(UsageError):
        emit_tests(model, feeds, factory="a:b", folder=tmp_path / "taken")
    with pytest.raises(Unsupported, match="eager"):
        emit_tests(OnnxRuntimeModel(attention_bytes), {}, factory="a:b", folder=tmp_path / "made")
    assert not (tmp_path / "made").exists()


@pytest.fixture
def attention_bytes() -> bytes:
    import onnx
    from onnx import TensorProto, helper

    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", ports[:1], ports[1:])
    return onnx.ModelProto.SerializeToString(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    )
