"""Large models are verified with each weight in memory once, and within a bound that the user gave."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from regraft import load, verify
from regraft.errors import UsageError
from regraft.record.evidence import Evidence

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.large_model import write

MEASURE = """
import sys, regraft, regraft.runtime.onnx_weights
regraft.runtime.onnx_weights.LARGE_BYTES = 1 << 20
evidence = regraft.verify(sys.argv[1], sys.argv[1], threads=1, memory_mb=int(sys.argv[2]))
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
print(evidence.verdict, *(f"{one.rule} {one.fix}" for one in evidence.findings), int(peak) // 1024, sep="|")
"""


@pytest.fixture
def _large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model with external data counts as large."""
    monkeypatch.setattr("regraft.runtime.onnx_weights.LARGE_BYTES", 0)


def said(evidence: Evidence) -> object:
    return evidence.verdict, evidence.findings, evidence.measurements


@pytest.mark.usefixtures("_large")
def test_weights_beside_the_graph_compute_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path / "m", width=64, layers=2)
    feeds = {"x": np.random.default_rng(1).standard_normal((3, 64), np.float32)}
    beside = load(folder)
    assert beside.weights is not None
    with monkeypatch.context() as patched:
        patched.setattr("regraft.runtime.onnx_weights.LARGE_BYTES", 1 << 40)
        inside = load(folder)
    assert inside.weights is None
    np.testing.assert_array_equal(*(next(iter(model(feeds).values())) for model in (beside, inside)))
    (one,), (other,) = (list(model.segment(["x0"], ["x1"]).signature.inputs) for model in (beside, inside))
    assert one == other
    assert [tap.name for tap in beside.trace(feeds)] == [tap.name for tap in inside.trace(feeds)]
    assert onnx.load_from_string(beside.content).graph.initializer[0].raw_data


@pytest.mark.usefixtures("_large")
def test_a_graph_that_holds_its_weights_is_taken_apart(tmp_path: Path) -> None:
    folder = write(tmp_path / "m", width=64, layers=2)
    whole = onnx.load(f"{folder}/m.onnx")
    whole.graph.initializer.add(name="short", data_type=1, dims=[1], float_data=[1.0])
    onnx.save(whole, tmp_path / "whole.onnx")
    apart = load(str(tmp_path / "whole.onnx"))
    assert set(apart.weights) == {"up0", "down0", "up1", "down1"}, "those of at least 16 KiB"
    for stored, tensor in zip(
        onnx.load_from_string(apart.content).graph.initializer, whole.graph.initializer, strict=True
    ):
        np.testing.assert_array_equal(*map(onnx.numpy_helper.to_array, (stored, tensor)), strict=True)
    feeds = {"x": np.random.default_rng(1).standard_normal((3, 64), np.float32)}
    np.testing.assert_array_equal(apart(feeds)["x1"], load(folder)(feeds)["x1"])


@pytest.mark.usefixtures("_large")
def test_a_fault_is_found_as_in_a_small_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGRAFT_CACHE_MB", "0")
    right, wrong = write(tmp_path / "a", width=64, layers=2), write(tmp_path / "b", width=64, layers=2, scale=1.01)
    beside = verify(right, wrong, threads=1)
    bounded = verify(right, wrong, threads=1, memory_mb=1 << 20)
    monkeypatch.setattr("regraft.runtime.onnx_weights.LARGE_BYTES", 1 << 40)
    inside = verify(right, wrong, threads=1)
    assert said(beside) == said(inside)
    assert said(bounded) == said(inside)
    (origin,) = (one for one in inside.findings if one.rule == "divergence.origin")
    assert origin.where is not None
    assert origin.where.reference == "norm1"


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_a_bound_is_kept_or_what_would_do_is_said(tmp_path: Path) -> None:
    folder = write(tmp_path / "m", width=512, layers=6)  # 48 MiB

    def measured(memory_mb: int) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, folder, str(memory_mb)], capture_output=True, text=True, check=True
        )
        return done.stdout.strip().split("|")

    verdict, *findings, peak = measured(420)  # each weight packed once a model, 200 of libraries, and some room
    assert verdict == "pass", findings
    assert int(peak) <= 420
    verdict, *findings, _ = measured(100)  # less than the libraries and the weights of one
    assert verdict == "inconclusive"
    (finding,) = findings
    assert finding.startswith("verify.memory allow more: --memory-mb ")


@pytest.mark.parametrize("memory_mb", [0, -1])
def test_a_bound_is_a_size(tmp_path: Path, memory_mb: int) -> None:
    folder = write(tmp_path / "m", width=8, layers=1)
    with pytest.raises(UsageError):
        verify(folder, folder, memory_mb=memory_mb)
