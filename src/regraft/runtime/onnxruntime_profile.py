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
_KERNEL = "_kernel_time"


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
    taken: dict[str, list[float]] = defaultdict(list)  # node → µs, pass by pass
    operators: dict[str, str] = {}
    for event in events:
        name = str(event.get("name", ""))
        if event.get("cat") == "Node" and name.endswith(_KERNEL):
            node = name.removesuffix(_KERNEL)
            taken[node].append(float(event["dur"]))
            operators[node] = str(event.get("args", {}).get("op_name", ""))
    scopes: dict[str, list[str]] = defaultdict(list)
    for node in taken:
        scopes[node.rpartition("/")[0].strip("/") or operators[node]].append(node)
    found = [
        Kernels(
            scope,
            tuple(dict.fromkeys(operators[node] for node in nodes)),
            statistics.median(sum(column) for column in zip(*(taken[n][-passes:] for n in nodes), strict=False)) / 1e3,
        )
        for scope, nodes in scopes.items()
    ]
    return sorted(found, key=lambda one: -one.ms)
