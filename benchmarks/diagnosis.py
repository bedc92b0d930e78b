"""What verifying and localising cost, in passes of the network and in memory, beside Polygraphy on the same networks.

usage: diagnosis.py [--no-polygraphy] [--no-memory]
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import onnx
import onnxruntime as ort
from benchmarks.large_model import write
from benchmarks.mutations.architectures import reference
from benchmarks.mutations.architectures.exported import exported, kept
from benchmarks.mutations.baselines import polygraphy
from benchmarks.mutations.corpus import plant
from benchmarks.mutations.interface import Feeds, Reference

from regraft.compare.canonical import CanonicalTrace
from regraft.compare.layers import PlainTrace, divergence_by_layer
from regraft.compare.localise import localise
from regraft.compare.measure import Yardstick, measured
from regraft.runtime.onnx_graph import OnnxGraph
from regraft.runtime.onnxruntime_model import OnnxRuntimeModel

ROUNDS = 7
TOLERANCE = 1e-5
COLUMNS = ("network", "operators", "pass", "floors, once", "verify", "localise", "by layer", "passes in all",
           "passes with a fault", "Polygraphy")  # fmt: skip
MEMORY_MB = 1024
_VERIFY = """
import sys, regraft
print(regraft.verify(sys.argv[1], sys.argv[1], threads=1).verdict)
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def main(*, peer: bool = True, memory: bool = True) -> str:
    rows = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    rows += [_row(name, of, faulty, dict(feeds), peer=peer) for name, of, faulty, feeds in _cases()]
    loaded = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    rows += ["", f"Load averages at the end: {loaded}."]
    return "\n".join([*rows, *(["", _memory()] if memory else [])])


def _cases() -> list[tuple[str, Reference, onnx.ModelProto, Feeds]]:
    """Name, network, the same with a fault, and feeds: few rows, and as in use."""
    minilm = reference("minilm")
    norms = [node.name for node in minilm.proto.graph.node if node.op_type == "LayerNormalization"]
    planted = plant(minilm, ("epsilon_coarse", norms[len(norms) // 2]))
    assert planted is not None
    random = np.random.default_rng(0)
    mask = np.ones((8, 128), np.int64)
    mask[1::2, 96:] = 0
    long = {"input_ids": random.integers(100, 4000, mask.shape), "attention_mask": mask}
    image = {"image": random.standard_normal((1, 3, 224, 224)).astype(np.float32)}
    resnet = Reference("resnet18", "resnet", kept("resnet18", _resnet18), [image])
    return [
        ("MiniLM, 3 × 11 tokens", minilm, planted[0], minilm.feeds[0]),
        ("MiniLM, 8 × 128 tokens", minilm, planted[0], long),
        ("ResNet-18, 1 × 3 × 224 × 224", resnet, _shifted(resnet.proto), image),
    ]


def _row(name: str, of: Reference, faulty: onnx.ModelProto, feeds: dict[str, Any], *, peer: bool) -> str:
    content = of.proto.SerializeToString()
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    plain = _cpu(lambda: session.run(None, feeds))
    model = OnnxRuntimeModel(content, threads=1)
    ours = OnnxGraph(of.proto, threads=1)
    CanonicalTrace(ours, feeds)  # sessions are made, which counts as loading
    began = time.process_time()
    trace, exact = CanonicalTrace(ours, feeds), PlainTrace(ours, feeds)
    floors = time.process_time() - began
    answers = list(Yardstick(model, feeds).answers([feeds]))
    names = {name: name for name in feeds}
    returned = {port.name: port.name for port in model.signature.outputs}
    verify = _cpu(lambda: measured(answers, model, [feeds], inputs=names, outputs=returned))
    totals = []
    for candidate in (of.proto, faulty):
        theirs = OnnxGraph(candidate, threads=1)
        found = localise(ours, theirs, feeds, trace=trace)
        assert bool(found.origins) == (candidate is faulty)
        parts = (
            _cpu(lambda theirs=theirs: localise(ours, theirs, feeds, trace=trace)),
            _cpu(lambda theirs=theirs, found=found: divergence_by_layer(exact, theirs, feeds, pairs=found.pairs)),
        )
        totals.append((*parts, (verify + sum(parts)) / plain))
    (by_operator, by_layer, passes), (*_, with_fault) = totals
    before = _children_s()
    if peer:
        polygraphy(of, faulty, feeds, TOLERANCE)
    cells = [f"{1e3 * value:.0f}" for value in (plain, floors, verify, by_operator, by_layer)]
    said = f"{1e3 * (_children_s() - before):.0f}" if peer else "not asked"
    cells = [name, str(len(ours.nodes)), *cells, f"**{passes:.1f}**", f"{with_fault:.1f}", said]
    return f"| {' | '.join(cells)} |"


def _memory() -> str:
    """Peak memory of a process that verifies a network of a gibibyte against itself."""
    with tempfile.TemporaryDirectory() as folder:
        ref = write(Path(folder, "large"), width=2048, layers=MEMORY_MB // 128)
        environment = {**os.environ, "REGRAFT_CACHE": str(Path(folder, "cache"))}
        lines = []
        for how in ("floors measured", "floors kept"):
            began, before = time.perf_counter(), _children_s()
            command = [sys.executable, "-c", _VERIFY, ref]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            verdict, peak_kib = done.stdout.split()
            peak = int(peak_kib) / 1024
            lines.append(
                f"{MEMORY_MB} MiB of weights, {how}: {verdict}, peak {peak:.0f} MiB = {peak / MEMORY_MB:.2f} × its "
                f"size, {_children_s() - before:.0f} s of CPU, {time.perf_counter() - began:.0f} s."
            )
    return "\n".join(lines)


def _cpu(run: Callable[[], Any]) -> float:
    """Median CPU seconds of this process."""
    taken = []
    for _ in range(ROUNDS):
        began = time.process_time()
        run()
        taken.append(time.process_time() - began)
    return statistics.median(taken)


def _children_s() -> float:
    """CPU seconds of all processes that were started and have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _shifted(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The convolution in the middle pads at the end alone."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    padded = [one for node in copy.graph.node for one in node.attribute if one.name == "pads" and set(one.ints) == {1}]
    padded[len(padded) // 2].ints[:] = [0, 0, 2, 2]
    return copy


def _resnet18() -> onnx.ModelProto:
    import torch
    from benchmarks.resnet import resnet18
    from torch import nn

    network, feeds = resnet18()

    class Named(nn.Module):
        def forward(self, image: torch.Tensor) -> Any:
            return network(image)

    holder = Named().eval()
    holder.network = network
    return exported(holder, {"image": feeds["input"][:1]}, outputs=["logits"], dynamic={}, opset=18)


if __name__ == "__main__":
    print(main(peer="--no-polygraphy" not in sys.argv, memory="--no-memory" not in sys.argv))
