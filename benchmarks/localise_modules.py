"""Faults planted in torch modules: found across frameworks, at the right module, with the right cause?

usage: localise_modules.py [--networks NAME…] [--kinds NAME…] [--pairs NAME…] [--verbose]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import onnx
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.modules.faults import FAULTS, Fault
from benchmarks.modules.networks import NETWORKS, feeds, model, network

from regraft.compare.localise import Localisation, localise
from regraft.deployment.convert.hops.onnx_from_torch import OnnxFromTorch
from regraft.deployment.convert.interface import Source
from regraft.errors import Unsupported
from regraft.runtime.graphs import operator_graph
from regraft.runtime.onnx_graph import OnnxGraph
from regraft.runtime.openvino_model import OpenVinoModel, graph_from_bytes
from regraft.runtime.operator_graph import OperatorGraph

Made = Callable[[nn.Module, str], OperatorGraph]
SMALL = 3
FOLDED_INTO = {"stem": "norm", "depthwise": "norm2"}
"""Convolution → the batch norm that the exporter makes one operator of with it, in the latter's scope."""


class Result(NamedTuple):
    """How right the answer about one pair is; see `score`."""

    fault: Fault
    pair: str
    detected: bool
    exact: bool
    small: bool
    cause: bool
    extra: int
    seconds: float
    said: str


def torch_graph(module: nn.Module, name: str) -> OperatorGraph:
    """As torch.export writes it down."""
    return operator_graph(model(module, name), feeds(name))


def onnx_graph(module: nn.Module, name: str) -> OperatorGraph:
    """As our converter exports it."""
    return OnnxGraph(onnx.load_from_string(_onnx(module, name)), where="model.onnx")


def openvino_graph(module: nn.Module, name: str) -> OperatorGraph:
    """The ONNX file in OpenVINO, computing in float32."""
    return operator_graph(OpenVinoModel(graph_from_bytes(_onnx(module, name)), precision="float32"), feeds(name))


def _onnx(module: nn.Module, name: str) -> bytes:
    return OnnxFromTorch().convert(Source(model(module, name), [feeds(name)])).files["model.onnx"]


PAIRS: dict[str, tuple[Made, Made]] = {
    "torch, torch": (torch_graph, torch_graph),
    "torch, ONNX": (torch_graph, onnx_graph),
    "ONNX, torch": (onnx_graph, torch_graph),
    "torch, OpenVINO": (torch_graph, openvino_graph),
}
"""Name → what is right, and what is damaged."""


def damaged(fault: Fault) -> nn.Module:
    """The network with the fault in it."""
    made = network(fault.network)
    fault.plant(made)
    return made


def located(reference: OperatorGraph, candidate: OperatorGraph, fault: Fault) -> Localisation:
    """Regraft's answer."""
    fed = feeds(fault.network, is_other=fault.is_baked)
    return localise(reference, candidate, fed, inputs=dict(zip(fed, candidate.inputs, strict=True)))


def score(fault: Fault, pair: str, reference: OperatorGraph, found: Localisation, seconds: float) -> Result:
    """Judge an answer by the modules that its operators of the reference belong to.

    An origin is right when one of its operators is of the damaged module; exact when it is the only one.
    """
    scopes = {node.name: node.scope for node in reference.nodes}
    places = [fault.scope, fault.beside] if fault.beside else [fault.scope]
    right = [
        one
        for one in found.origins
        if any(_is_in(scopes.get(name, ""), place) for name in one.reference for place in places)
    ]
    sizes = [len(one.reference) for one in right]
    said = "; ".join(f"{[scopes.get(n, n) for n in one.reference]} {one.cause}: {one.detail}" for one in found.origins)
    return Result(
        fault, pair, bool(found.origins), any(size == 1 for size in sizes), any(size <= SMALL for size in sizes),
        any(one.cause in fault.causes for one in right), len(found.origins) - len(right), seconds, said,
    )  # fmt: skip


def _is_in(scope: str, module: str) -> bool:
    return module in scope.split(".") or scope == FOLDED_INTO.get(module)


def results(faults: Iterable[Fault], pairs: Iterable[str]) -> Iterator[Result]:
    """Every fault in every pair of frameworks."""
    right: dict[tuple[str, Made], OperatorGraph] = {}
    for fault in faults:
        for pair in pairs:
            mine, theirs = PAIRS[pair]
            if (fault.network, mine) not in right:
                right[fault.network, mine] = mine(network(fault.network), fault.network)
            reference = right[fault.network, mine]
            try:
                candidate = theirs(damaged(fault), fault.network)
            except Unsupported:  # OpenVINO refuses random dropout: no fault gets through in silence
                continue
            began = time.perf_counter()
            found = located(reference, candidate, fault)
            yield score(fault, pair, reference, found, time.perf_counter() - began)


def table(every: Iterable[Result]) -> str:
    """Counts by pair of frameworks, as Markdown."""
    rows = list(every)
    lines = [
        "| reference, candidate | n | detected | exact | ≤ 3 operators | cause | extra | median s |",
        f"|{'---|' * 8}",
    ]
    for pair in dict.fromkeys(row.pair for row in rows):
        mine = [row for row in rows if row.pair == pair]
        counts = [
            f"{sum(getattr(row, name) for row in mine)}" for name in ("detected", "exact", "small", "cause", "extra")
        ]
        median = sorted(row.seconds for row in mine)[len(mine) // 2]
        lines.append(f"| {' | '.join([pair, str(len(mine)), *counts, f'{median:.2f}'])} |")
    return "\n".join(lines)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS))
    parser.add_argument("--kinds", nargs="*", default=[])
    parser.add_argument("--pairs", nargs="*", default=list(PAIRS))
    parser.add_argument("--verbose", action="store_true", help="print every answer that is not right")
    options = parser.parse_args()
    torch.set_num_threads(1)
    chosen = [f for f in FAULTS if f.network in options.networks and (not options.kinds or f.kind in options.kinds)]
    rows = []
    for row in results(chosen, options.pairs):
        rows.append(row)
        if options.verbose and not (row.exact and row.cause):
            print(
                f"{row.pair} {row.fault.network}/{row.fault.kind} at {row.fault.scope}: {row.said or 'nothing'}",
                file=sys.stderr,
            )
    print(table(rows))


if __name__ == "__main__":
    main()
