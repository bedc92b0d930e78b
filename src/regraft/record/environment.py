"""The environment in which evidence was made: versions, processor, threads, accelerator."""

from __future__ import annotations

import functools
import os
import platform
import sys
from pathlib import Path

import msgspec

from regraft.version import __version__

_WATCHED = ("numpy", "torch", "transformers", "onnx", "onnxruntime", "openvino", "huggingface_hub", "sklearn")


class Environment(msgspec.Struct, frozen=True):
    """What a number may depend on. `packages` lists those that this process has imported."""

    regraft: str
    python: str
    packages: dict[str, str]
    cpu: str
    isa: str
    threads: int
    gpu: str | None = None


def capture_environment() -> Environment:
    """Describe this process without importing anything that is not imported already."""
    loaded = {name: getattr(sys.modules[name], "__version__", "") for name in _WATCHED if sys.modules.get(name)}
    cpu, isa = _processor()
    return Environment(
        regraft=__version__,
        python=platform.python_version(),
        packages={name: str(version) for name, version in loaded.items()},
        cpu=cpu,
        isa=isa,
        threads=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
    )


@functools.cache
def _processor() -> tuple[str, str]:
    """Model name and widest vector extension, from /proc/cpuinfo where there is one."""
    machine = platform.machine()
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return machine, machine
    fields = dict(line.split(":", 1) for line in text.split("\n\n", 1)[0].splitlines() if ":" in line)
    named = {key.strip(): value.strip() for key, value in fields.items()}
    flags = set((named.get("flags") or named.get("Features") or "").split())
    isa = next((name for name, flag in _VECTOR_FLAGS if flag in flags), machine)
    return named.get("model name", machine), isa


_VECTOR_FLAGS = (("avx512", "avx512f"), ("avx2", "avx2"), ("avx", "avx"), ("sve", "sve"), ("neon", "asimd"))
