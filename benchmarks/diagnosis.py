"""What localising costs, in passes, beside Polygraphy's comparison of all tensors on the same networks."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import onnxruntime as ort
from benchmarks.mutations.architectures import reference
from benchmarks.mutations.baselines import polygraphy
from benchmarks.mutations.corpus import plant

from regraft.compare.canonical import CanonicalTrace
from regraft.compare.localise import localise
from regraft.runtime.onnx_graph import OnnxGraph

ROUNDS = 5
TOLERANCE = 1e-5
CASES = (
    ("minilm", "epsilon_coarse", "LayerNormalization"),
    ("efficientnet", "padding_shifted", "Conv"),
)


def main() -> str:
    columns = ("network", "plain pass, ms", "floors (kept), ms", "first localisation, ms", "again, ms", "again / pass",
               "faulty, again, ms", "Polygraphy, ms")  # fmt: skip
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|", *(_row(*case) for case in CASES)]
    return "\n".join(lines)


def _row(name: str, kind: str, operator: str) -> str:
    found = reference(name)
    feeds = dict(found.feeds[0])
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(found.proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    plain = _median(lambda: session.run(None, feeds))
    ours = OnnxGraph(found.proto, threads=1)
    CanonicalTrace(ours, feeds)
    start = time.perf_counter()
    trace = CanonicalTrace(ours, feeds)
    floors = time.perf_counter() - start
    same = OnnxGraph(found.proto, threads=1)
    start = time.perf_counter()
    localise(ours, same, feeds, trace=trace)
    first = time.perf_counter() - start
    again = _median(lambda: localise(ours, same, feeds, trace=trace))
    node = next(one.name for one in found.proto.graph.node if one.op_type == operator)
    planted = plant(found, (kind, node))
    faulty, theirs = 0.0, "not planted"
    if planted is not None:
        graph = OnnxGraph(planted[0], threads=1)
        localise(ours, graph, feeds, trace=trace)
        faulty = _median(lambda: localise(ours, graph, feeds, trace=trace))
        *_, seconds = polygraphy(found, planted[0], feeds, TOLERANCE)
        theirs = f"{1e3 * seconds:.0f}"
    cells = (plain, floors, first, again)
    return (
        f"| {name} | {' | '.join(f'{1e3 * cell:.0f}' for cell in cells)} | {again / plain:.1f} | {1e3 * faulty:.0f} | "
        f"{theirs} |"
    )


def _median(run: Callable[[], Any]) -> float:
    taken = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


if __name__ == "__main__":
    print(main())
