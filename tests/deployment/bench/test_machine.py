"""Predictions for a described device: between the ratios of arithmetic and memory, marked, and checked here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from regraft.deployment.bench import bench
from regraft.deployment.bench.machine import measured_machine, missed_by, predicted
from regraft.deployment.budget import Machine, read_budget
from regraft.errors import UsageError
from regraft.record.evidence import Evidence, Measurement, Verdict
from regraft.runtime.quantiles import Quantile

HERE = Machine(40e9, 10e9)


def found(evidence: Evidence, name: str, **of: object) -> list[Measurement]:
    return [m for m in evidence.measurements if m.name == name and all(m.of.get(k) == v for k, v in of.items())]


def test_a_prediction_lies_between_the_two_ratios() -> None:
    half_the_compute = predicted(Quantile(10, 9, 12, 50), HERE, Machine(20e9, 10e9))
    assert (half_the_compute.low, half_the_compute.high) == (9, 24)
    assert half_the_compute.value == pytest.approx(10 * 2**0.5)
    itself = predicted(Quantile(10, 9, 12, 50), HERE, HERE)
    assert (itself.low, itself.value, itself.high) == (9, 10, 12)
    few = predicted(Quantile(10, None, None, 3), HERE, Machine(80e9, 20e9))
    assert (few.low, few.value, few.high) == (None, 5, None), "what bounds nothing here bounds nothing there"
    wider = predicted(Quantile(10, 9, 12, 50), HERE, HERE, slack=2)
    assert (wider.low, wider.high) == (4.5, 24)


def test_what_lies_outside_is_told_by_its_factor() -> None:
    said = Quantile(10, 8, 16, 5)
    assert missed_by(Quantile(12, 11, 13, 5), said) == 1
    assert missed_by(Quantile(32, 30, 34, 5), said) == 2
    assert missed_by(Quantile(4, 3, 5, 5), said) == 2
    assert missed_by(Quantile(32, 30, 34, 5), Quantile(10, 8, None, 5)) == 1


def test_a_processor_is_faster_than_a_pocket_calculator() -> None:
    machine = measured_machine(1)
    assert machine.flops > 1e8
    assert machine.bytes_per_s > 1e7


def test_a_described_device_is_judged_by_what_is_predicted(tmp_path: Path, network: Callable[..., Path]) -> None:
    device = tmp_path / "board.yaml"
    device.write_text(
        "schema: regraft.device/1\nname: board\nmachine: {compute: 0.001 GFLOP/s, memory: 1 MB/s}\n"
        "latency_p50: 1 ms\nsize: 1 MB\n"
    )
    path = network(tmp_path / "net.onnx")
    evidence = bench(path, threads=(1, 2), batch_sizes=(1,), runs=12, starts=1, budget=device, compare=False)
    assert {one.of["threads"] for one in found(evidence, "machine_compute")} == {1, 2}
    for measured in found(evidence, "latency_p50"):
        (said,) = found(evidence, "predicted_latency_p50", threads=measured.of["threads"])
        assert said.of["device"] == "board"
        assert said.low > 10 * measured.value  # type: ignore[operator]  # no processor of today is that slow
    assert len(found(evidence, "prediction_error")) == 2, "each number of threads from the other"
    assert evidence.verdict is Verdict.FAIL
    assert any("latency_p50 ≤ 1 ms at batch 1: predicted" in f.message for f in evidence.findings)
    assert any("size ≤ 1 MB" in f.message and f.rule == "RGB-BUD-001" for f in evidence.findings), "that stays"


@pytest.mark.parametrize(
    ("machine", "why"),
    [
        ("{compute: 40 GFLOP/s}", "says no memory"),
        ("{compute: 40 GFLOP/s, memory: 8}", "the unit is missing"),
        ("{compute: 0 GFLOP/s, memory: 8 GB/s}", "without compute"),
        ("{compute: 40 GFLOP/s, memory: 8 GB/s, cores: 4}", "unknown key 'cores'"),
        ("fast", "not a mapping"),
    ],
)
def test_a_description_that_says_too_little_is_refused_with_its_line(tmp_path: Path, machine: str, why: str) -> None:
    device = tmp_path / "board.yaml"
    device.write_text(f"schema: regraft.device/1\nmachine: {machine}\n")
    with pytest.raises(UsageError, match=why) as caught:
        read_budget(device, describes=True)
    assert caught.value.where == f"{device}:2"


def test_who_measures_here_alone_does_not_take_a_description(tmp_path: Path) -> None:
    device = tmp_path / "board.yaml"
    device.write_text("schema: regraft.device/1\nmachine: {compute: 1 GFLOP/s, memory: 1 GB/s}\nsize: 1 MB\n")
    with pytest.raises(UsageError, match="measured on this processor"):
        read_budget(device)
