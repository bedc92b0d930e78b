"""What is counted is the process that runs the network, also where that is another than the one that asks."""

from __future__ import annotations

import itertools
import statistics
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from regraft.deployment.bench.messages import Size, Start, Started, Timed, Turn, Warm
from regraft.deployment.bench.process import BenchProcess
from regraft.package.reference import parse_reference
from regraft.runtime.process_usage import peak_mib

_ROWS, _WIDTH, _LAYERS = 256, 1024, 4


@pytest.fixture
def heavy(tmp_path: Path) -> Path:
    """2 GFLOP for 2 MB of inputs and outputs."""
    weight = np.eye(_WIDTH, dtype=np.float32)
    names = [f"h{layer}" for layer in range(_LAYERS + 1)]
    nodes = [helper.make_node("MatMul", [one, "w"], [next_]) for one, next_ in itertools.pairwise(names)]
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", _WIDTH]) for name in (names[0], names[-1])
    ]
    graph = helper.make_graph(nodes, "heavy", ports[:1], ports[1:], [numpy_helper.from_array(weight, "w")])
    path = tmp_path / "heavy.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell it of other processes")
def test_memory_and_cpu_time_are_of_the_process_that_runs_the_network(heavy: Path) -> None:
    size = Size(_ROWS)
    with BenchProcess() as process:
        started = process.ask(Start(parse_reference(heavy), path=heavy.name, runtime="tract"), timeout_s=100)
        assert isinstance(started, Started)
        process.ask(Warm(size), timeout_s=100)
        timed = process.ask(Turn(size, 3, 60.0), timeout_s=200)
        assert isinstance(timed, Timed)
        (network,) = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()
        assert timed.peak_mib == pytest.approx(peak_mib(int(network)), rel=0.05)
        assert timed.peak_mib != pytest.approx(peak_mib(started.pid), rel=0.05), "or this shows nothing"
    cpus = [one.cpu_ms for one in timed.samples if one.cpu_ms is not None]
    assert len(cpus) == 3
    assert statistics.median(cpus) > 5, "2 GFLOP on one thread; who asks copies 2 MB meanwhile"
