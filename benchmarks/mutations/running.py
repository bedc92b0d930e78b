"""Run a graph in ONNX Runtime as it is written, and see every tensor that it makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

ort.set_default_logger_severity(4)


class Stopped(Exception):
    """The runtime refused the graph, or stopped while it ran."""


def session(proto: onnx.ModelProto, *, level: str = "disable", threads: int = 1) -> ort.InferenceSession:
    """A session at one of ONNX Runtime's optimisation levels: disable, basic, extended, layout, all.

    Raises:
        Stopped: the graph does not load.
    """
    options = ort.SessionOptions()
    options.graph_optimization_level = LEVELS[level]
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    try:
        return ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's exceptions have no base of their own
        raise Stopped(str(error)[:500]) from error


LEVELS = {
    "disable": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}


def run(
    proto: onnx.ModelProto, feeds: Mapping[str, np.ndarray], *, level: str = "disable", threads: int = 1
) -> dict[str, np.ndarray]:
    """Outputs by name.

    Raises:
        Stopped: the graph does not load or does not run on these feeds.
    """
    return answers(session(proto, level=level, threads=threads), feeds)


def answers(opened: ort.InferenceSession, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs of an open session by name.

    Raises:
        Stopped: it does not run on these feeds.
    """
    names = [output.name for output in opened.get_outputs()]
    try:
        values: Sequence[Any] = opened.run(names, dict(feeds))
    except Exception as error:  # as above
        raise Stopped(str(error)[:500]) from error
    return dict(zip(names, values, strict=True))


def trace(proto: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every tensor that a node of the outer graph makes, by name, and the feeds.

    Raises:
        Stopped: the graph does not load or does not run on these feeds.
    """
    tapped = onnx.ModelProto()
    tapped.CopyFrom(proto)
    known = {output.name for output in tapped.graph.output}
    for node in tapped.graph.node:
        for name in node.output:
            if name and name not in known:
                tapped.graph.output.add().name = name
                known.add(name)
    return {**feeds, **run(tapped, feeds)}
