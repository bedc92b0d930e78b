"""Where ONNX Runtime spends a pass: kernels timed by its own profiler, added up by the scope in their names."""

from __future__ import annotations

import statistics
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.errors import Unsupported
from regraft.runtime.feeding import checked_feeds

if TYPE_CHECKING:
    from regraft.runtime.interface import Feeds
    from regraft.runtime.onnxruntime_model import OnnxRuntimeModel

PASSES = 7
_WARM = 2
_KERNEL, _RUN = "_kernel_time", "model_run"
_CONTROL = ("If", "Loop", "Scan")
"""Operators whose time is that of the nodes in their bodies."""


class Kernels(msgspec.Struct, frozen=True):
    """One scope of a graph.

    Attributes:
        scope: what stands before the last slash of the nodes' names, else their operator; a node that fusion made has
            the name that onnxruntime gives it.
        operators: kinds of its operators.
        ms: median over passes of the time in its kernels.
    """

    scope: str
    operators: tuple[str, ...]
    ms: float


def kernel_times(model: OnnxRuntimeModel, feeds: Feeds, *, passes: int = PASSES) -> list[Kernels]:
    """Time by scope, the longest first, of the graph as onnxruntime optimises it.

    Args:
        model: on the CPU; its graph must fit one message.
        feeds: by its names.
        passes: that are timed, after two that are not.
    Raises:
        Unsupported: onnxruntime writes no profile for it.
    """
    import onnxruntime

    checked = checked_feeds(model.signature, feeds, where=model.where)
    options = onnxruntime.SessionOptions()
    options.enable_profiling = True
    options.intra_op_num_threads = model.threads or 0
    with tempfile.TemporaryDirectory(prefix="regraft-profile-") as folder:
        options.profile_file_prefix = f"{folder}/passes"
        try:
            session = onnxruntime.InferenceSession(model.content, options, providers=["CPUExecutionProvider"])
            for _ in range(_WARM + passes):
                session.run(None, checked)
            events = msgspec.json.decode(Path(session.end_profiling()).read_bytes())
        except Exception as error:  # onnxruntime raises what it likes
            raise Unsupported(f"onnxruntime does not profile it: {str(error)[:300]}", where=model.where) from error
    return _by_scope(events, passes)


def _by_scope(events: list[dict[str, Any]], passes: int) -> list[Kernels]:
    """Nodes in the body of a loop have many events a pass; those of the loop itself hold them, and are left out."""
    runs = sorted((float(one["ts"]), float(one["dur"])) for one in events if one.get("name") == _RUN)[-passes:]
    taken: dict[str, list[float]] = {}  # node → µs, pass by pass
    operators: dict[str, str] = {}
    for event in events:
        name, operator = str(event.get("name", "")), str(event.get("args", {}).get("op_name", ""))
        if event.get("cat") != "Node" or not name.endswith(_KERNEL) or operator in _CONTROL:
            continue
        node, at = name.removesuffix(_KERNEL), float(event["ts"])
        operators[node] = operator
        of_passes = taken.setdefault(node, [0.0] * len(runs))
        for i, (start, duration) in enumerate(runs):
            if start <= at <= start + duration:
                of_passes[i] += float(event["dur"])
    scopes: dict[str, list[str]] = defaultdict(list)
    for node in taken:
        scopes[node.rpartition("/")[0].strip("/") or operators[node]].append(node)
    found = [
        Kernels(
            scope,
            tuple(dict.fromkeys(operators[node] for node in nodes)),
            statistics.median(sum(column) for column in zip(*(taken[n] for n in nodes), strict=True)) / 1e3,
        )
        for scope, nodes in scopes.items()
        if runs
    ]
    return sorted(found, key=lambda one: -one.ms)
