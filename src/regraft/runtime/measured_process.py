"""The process whose time and memory are measured: a task as JSON on stdin, its cost as JSON on stdout."""

from __future__ import annotations

import importlib
import sys
import time
from pathlib import Path

import msgspec

from regraft.errors import RegraftError
from regraft.package.package import open_package
from regraft.package.sources.interface import SourceOptions
from regraft.record.store import open_store
from regraft.runtime import load
from regraft.runtime.interface import Model
from regraft.runtime.measure import ProcessCost, ProcessTask, sample

_LIBRARIES = {
    "onnxruntime": ("numpy", "onnxruntime", "onnx"), "openvino": ("numpy", "openvino"), "tract": ("numpy", "onnx"),
    "iree": ("numpy",), "tvm": ("numpy",), "ncnn": ("numpy",), "mnn": ("numpy",),
    "numpy": ("numpy",),
}  # fmt: skip
_TORCH = ("numpy", "torch")


def main() -> int:
    """Do the task; 0 when its cost was written."""
    task = msgspec.json.decode(sys.stdin.buffer.read(), type=ProcessTask)
    sys.path[:0] = task.search_path
    try:
        cost = _cost(task)
    except RegraftError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    sys.stdout.buffer.write(msgspec.json.encode(cost))
    return 0


def _cost(task: ProcessTask) -> ProcessCost:
    began = time.perf_counter()
    for name in _LIBRARIES.get(task.runtime or "", _TORCH):
        importlib.import_module(name)
    from safetensors.numpy import load_file

    imported = time.perf_counter()
    feeds = load_file(task.feeds)
    baseline = _memory_mib("VmRSS")
    loading = time.perf_counter()
    model = _model(task)
    loaded = time.perf_counter()
    first = sample(lambda: model(feeds)).wall_ms
    for _ in range(task.passes):
        model(feeds)
    return ProcessCost(
        imported - began, loaded - loading, first, _memory_mib("VmHWM"), baseline, model.effective_precision
    )


def _model(task: ProcessTask) -> Model:
    if task.ref.startswith("py:"):
        from regraft.runtime.torch_factory import model_from_factory

        return model_from_factory(task.ref.removeprefix("py:"), threads=task.threads, precision=task.precision)
    store = open_store(Path(task.store) if task.store else None)
    with open_package(task.ref, options=SourceOptions(offline=True, store=store)) as package:
        return load(
            package,
            task.permit,
            runtime=task.runtime,
            path=task.path,
            threads=task.threads,
            precision=task.precision,
            factory=task.factory,
            head=task.head,
        )


def _memory_mib(field: str) -> float:
    """Resident memory of this very process, now (VmRSS) or at its peak (VmHWM).

    `getrusage` is no substitute on Linux: a child inherits the peak of the process that started it.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith(f"{field}:"))
        return int(line.split()[1]) / 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20) if sys.platform == "darwin" else peak / 1024


if __name__ == "__main__":
    raise SystemExit(main())
