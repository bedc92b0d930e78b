"""Converters that die, hang or eat memory: the process ends, the next way is tried, and nothing is left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from regraft.errors import UsageError
from regraft.record.evidence import Verdict
from regraft.record.store import Store
from regraft.workflow.convert import convert

PLUGIN = """
import os, signal, time
import onnx
from onnx import version_converter
from regraft.deployment.convert.interface import Hop


class Sound:
    name, source, target, cost = "sound", "onnx", "newer", 2

    def obstacle(self):
        return ""

    def convert(self, source):
        proto = version_converter.convert_version(onnx.load_from_string(source.content()), 18)
        return Hop({"model.onnx": proto.SerializeToString()}, "onnxruntime")


class Deadly(Sound):
    name, cost = "deadly", 1

    def convert(self, source):
        how = os.environ["HOW"]
        if how == "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        if how == "abort":
            os.abort()
        if how == "exit":
            os._exit(3)
        if how == "hang":
            time.sleep(600)
        held = []
        while how == "memory":
            held.append(bytearray(b"x" * (32 << 20)))
            time.sleep(0.02)


class Alone(Deadly):
    name, target = "alone", "nowhere else"
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    weight = np.random.default_rng(0).normal(0, 0.25, (16, 4)).astype(np.float32)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 16])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    graph = helper.make_graph(nodes, "tiny", [x], [y], [numpy_helper.from_array(weight, "w")])
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    info = folder / "theirs-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "theirs.py").write_text(PLUGIN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    entries = "[regraft.converters]\nsound = theirs:Sound\ndeadly = theirs:Deadly\nalone = theirs:Alone\n"
    (info / "entry_points.txt").write_text(entries)
    return folder


def run(site: Path, how: str, *arguments: object) -> tuple[int, dict]:
    environment = {"PYTHONPATH": str(site), "PATH": os.environ["PATH"], "HOW": how, "HOME": str(site)}
    command = [
        sys.executable,
        "-m",
        "regraft",
        "convert",
        *map(str, arguments),
        "--json",
        "--store",
        str(site / "store"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=120)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize(
    ("how", "limits", "said"),
    [
        ("segfault", (), "SIGSEGV"),
        ("abort", (), "SIGABRT"),
        ("exit", (), "crashed"),
        ("hang", ("--time-limit", 15), "was ended"),
        ("memory", ("--memory-mb", 700), "ran out of memory"),
    ],
)
def test_a_way_that_dies_is_left_for_the_next(
    how: str, limits: tuple[object, ...], said: str, site: Path, model: Path, tmp_path: Path
) -> None:
    status, evidence = run(site, how, model, "--to", "newer", "-o", tmp_path / "made", *limits)
    assert (status, evidence["outcome"]) == (0, "converted"), evidence["summary"]
    assert evidence["parameters"]["route"] == ["sound"]
    (told,) = [one for one in evidence["findings"] if one["rule"] == "convert.fell_back"]
    assert told["data"]["way"] == ["deadly"]
    assert said in told["message"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made", "model.onnx", "site"]


def test_without_another_way_it_is_inconclusive_and_nothing_is_left(site: Path, model: Path, tmp_path: Path) -> None:
    status, evidence = run(site, "segfault", model, "--to", "nowhere else", "-o", tmp_path / "made")
    assert (status, evidence["outcome"]) == (3, "failed")
    assert "SIGSEGV" in evidence["summary"]
    assert evidence["materials"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "site"]


def test_apart_and_here_agree(model: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    here = convert(model, to="openvino", out=tmp_path / "here", store=store)
    apart = convert(model, to="openvino", out=tmp_path / "apart", store=store, isolate=True)
    assert here.evidence.verdict is apart.evidence.verdict is Verdict.PASS
    assert apart.path == tmp_path / "apart"
    assert apart.verification is not None
    assert apart.evidence.parameters["verified_by"] == apart.verification.digest
    files = {path.name: path.read_bytes() for path in here.path.iterdir()}
    assert files == {path.name: path.read_bytes() for path in apart.path.iterdir()}


def test_what_is_refused_is_refused_apart_too(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="already"):
        convert(model, to="onnx", out=tmp_path / "made", isolate=True)
    with pytest.raises(UsageError, match="nothing converts"):
        convert(model, to="wood", out=tmp_path / "made", isolate=True)
    with pytest.raises(UsageError, match="limited"):
        convert(model, to="openvino", out=tmp_path / "made", memory_mb=100)
    assert not (tmp_path / "made").exists()
