"""Checks of an environment that import nothing here: metadata is read, imports are tried in processes of their own."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from regraft.plugins import PARTS
from regraft.record.evidence import Severity

RUNTIMES = (
    ("torch", "torch", "pip install torch==2.13.0"),
    ("torchvision", "torchvision", "pip install torchvision"),
    ("transformers", "transformers", "pip install transformers"),
    ("onnx", "onnx", "pip install onnx"),
    ("onnxruntime", "onnxruntime", "pip install onnxruntime"),
    ("openvino", "openvino", "pip install openvino"),
    ("tract", "tract", "pip install tract"),
    ("iree-base-runtime", "iree.runtime", "pip install iree-base-runtime"),
    ("apache-tvm", "tvm", "pip install apache-tvm"),
    ("ncnn", "ncnn", "pip install ncnn pnnx"),
    ("mnn", "MNN", "pip install mnn"),
    ("tensorflow", "tensorflow", "regraft doctor --environment tensorflow"),
    ("keras", "keras", "pip install keras"),
    ("jax", "jax", "pip install jax"),
    ("ai-edge-litert", "ai_edge_litert.interpreter", "pip install ai-edge-litert"),
    ("scikit-learn", "sklearn", "pip install scikit-learn"),
)
"""(distribution, module, how to get it)."""
_SAID = 300
_TRIAL = """
import functools, importlib, sys
found = importlib.import_module(sys.argv[1])
if sys.argv[2]:
    found = functools.reduce(getattr, sys.argv[2].split("."), found)
if sys.argv[3:]:
    member = found()
    for part in sys.argv[3:]:
        getattr(member, part)
"""


class Check(msgspec.Struct, frozen=True):
    """One thing that was looked at.

    Attributes:
        state: `works`, `missing`, `broken`, `note`.
        fix: what to do about it; None where nothing is to be done.
    """

    rule: str
    area: str
    name: str
    state: str
    message: str
    severity: Severity = Severity.INFO
    fix: str | None = None


def installed_version(distribution: str, *, search: Sequence[str] | None = None) -> str | None:
    """Version of an installed distribution from its metadata; None when there is none."""
    found = _distribution(distribution, search)
    return None if found is None else found.version


def check_runtime(name: str, module: str, install: str, *, timeout_s: float = 60.0) -> Check:
    """Whether a runtime is installed and survives its own import, tried in a process of its own."""
    version = installed_version(name)
    if version is None:
        return Check("RGD-RUN-001", "runtime", name, "missing", "not installed", fix=install)
    failure = try_import(module, timeout_s=timeout_s)
    if failure is None:
        return Check("RGD-RUN-002", "runtime", name, "works", f"{version}, imports")
    return Check("RGD-RUN-003", "runtime", name, "broken", f"{version}, {failure}", Severity.MEDIUM, _mend(name))


def try_import(module: str, *, timeout_s: float, attribute: str | None = None, parts: Sequence[str] = ()) -> str | None:
    """Import a module in a new interpreter; None when that works, else what went wrong, crash and hang included.

    Args:
        attribute: what the module must have.
        parts: what an instance of that must have.
    """
    command = [sys.executable, "-P", "-c", _TRIAL, module, attribute or "", *parts]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, check=False, env=_environment()
        )
    except subprocess.TimeoutExpired:
        return f"its import did not end within {timeout_s:.0f} s"
    except OSError as error:
        return f"no interpreter could be started: {error.strerror}"
    if done.returncode < 0:
        return f"its import crashes ({_signal_name(-done.returncode)})"
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        return "fails to import: " + (lines[-1][:_SAID] if lines else f"exit status {done.returncode}")
    return None


def check_torchvision(*, search: Sequence[str] | None = None) -> Check | None:
    """The trap of a torchvision built for CUDA beside a torch built for CPU, seen without importing either.

    Such a torchvision fails at import with `operator torchvision::nms does not exist`, and takes
    transformers' models down with it where pillow is installed.
    """
    torch, vision = _distribution("torch", search), _distribution("torchvision", search)
    if torch is None or vision is None:
        return None
    torch_cuda, vision_cuda = _is_cuda_torch(torch), _is_cuda_vision(vision)
    if torch_cuda is None or vision_cuda is None or torch_cuda == vision_cuda or not vision_cuda:
        return Check("RGD-TRV-001", "trap", "torchvision", "works", "built for the same device as torch")
    return Check(
        "RGD-TRV-002",
        "trap",
        "torchvision",
        "broken",
        f"torchvision {vision.version} is built for CUDA, torch {torch.version} for CPU: "
        "importing it fails with `operator torchvision::nms does not exist`",
        Severity.MEDIUM,
        "pip uninstall torchvision, or install both from https://download.pytorch.org/whl/cpu",
    )


def check_extras(distribution: str = "regraft") -> Iterator[Check]:
    """Which optional dependencies are there, by the metadata of the installation."""
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        lines = importlib.metadata.requires(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        yield Check("RGD-EXT-001", "extra", "all", "note", "run from source: what is optional is not recorded")
        return
    extras: dict[str, list[str]] = {}
    for line in lines:
        marker = re.search(r"extra\s*==\s*['\"]([^'\"]+)['\"]", line)
        try:
            name = Requirement(line).name
        except InvalidRequirement:
            continue
        if marker and name != distribution:
            extras.setdefault(marker[1], []).append(name)
    for extra, names in sorted(extras.items()):
        absent = [name for name in names if installed_version(name) is None]
        if absent:
            install = f"pip install 'regraft[{extra}]'"
            yield Check("RGD-EXT-002", "extra", extra, "missing", f"without {', '.join(absent)}", fix=install)
        else:
            yield Check("RGD-EXT-003", "extra", extra, "works", ", ".join(names))


def check_plugins(*, timeout_s: float = 60.0, groups: Mapping[str, Sequence[str]] = PARTS) -> Iterator[Check]:
    """Every plug-in of another distribution, loaded in a process of its own; a broken one says why."""
    for group, parts in groups.items():
        for point in importlib.metadata.entry_points(group=group):
            module, _, attribute = point.value.partition(":")
            attribute = attribute.split("[")[0].strip()
            failure = try_import(module.strip(), attribute=attribute or None, parts=parts, timeout_s=timeout_s)
            if failure is None:
                yield Check("RGD-PLG-001", "plug-in", point.name, "works", point.value)
            else:
                fix = f"update or remove {point.dist.name if point.dist else point.value}; other verbs go on without it"
                yield Check("RGD-PLG-002", "plug-in", point.name, "broken", failure, Severity.MEDIUM, fix)


def check_bytecode() -> Check | None:
    """PYTHONDONTWRITEBYTECODE makes every start compile everything again: twice the start-up time and more."""
    if not sys.flags.dont_write_bytecode and not os.environ.get("PYTHONDONTWRITEBYTECODE"):
        return None
    message = "PYTHONDONTWRITEBYTECODE is set: every start compiles all modules again"
    return Check("RGD-ENV-003", "python", "bytecode", "note", message, Severity.LOW, "unset PYTHONDONTWRITEBYTECODE")


def check_tool(name: str, purpose: str) -> Check:
    """Whether a program is on the path, and which version it says it is."""
    if shutil.which(name) is None:
        return Check("RGD-ENV-004", "tool", name, "missing", f"not on the path: {purpose}", fix=f"install {name}")
    try:
        done = subprocess.run(
            [name, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=False
        )
        said = done.stdout.decode("utf-8", "replace").strip().splitlines()
    except (OSError, subprocess.TimeoutExpired):
        said = []
    return Check("RGD-ENV-005", "tool", name, "works", said[0][:100] if said else "there")


def check_gpu() -> Check:
    """Which accelerator the driver names; asked of nvidia-smi, no runtime is imported."""
    if shutil.which("nvidia-smi") is None:
        return Check(
            "RGD-GPU-001", "hardware", "gpu", "missing", "none that a driver names; everything runs on the CPU"
        )
    command = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check("RGD-GPU-002", "hardware", "gpu", "broken", f"nvidia-smi: {type(error).__name__}", Severity.LOW)
    said = done.stdout.decode("utf-8", "replace").strip()
    if done.returncode or not said:
        return Check("RGD-GPU-002", "hardware", "gpu", "broken", "nvidia-smi finds no usable device", Severity.LOW)
    return Check("RGD-GPU-003", "hardware", "gpu", "works", "; ".join(said.splitlines()[:8])[:_SAID])


def _distribution(name: str, search: Sequence[str] | None) -> importlib.metadata.Distribution | None:
    if search is None:
        try:
            return importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            return None
    return next(iter(importlib.metadata.distributions(name=name, path=list(search))), None)


def _is_cuda_torch(torch: importlib.metadata.Distribution) -> bool | None:
    """What torch/version.py says (`cuda = None` in a CPU build); None when it cannot be told."""
    text = _text(torch, "torch/version.py")
    match = re.search(r"^cuda\b[^=]*=\s*(.+?)\s*$", text, re.MULTILINE)
    if match:
        return match[1] != "None"
    return _tag(torch.version)


def _is_cuda_vision(vision: importlib.metadata.Distribution) -> bool | None:
    """The local tag in torchvision/version.py, else whether its extension is linked to CUDA."""
    match = re.search(r"__version__\s*=\s*['\"]([^'\"]+)", _text(vision, "torchvision/version.py"))
    tagged = _tag(match[1]) if match else None
    if tagged is not None:
        return tagged
    folder = Path(str(vision.locate_file("torchvision")))
    libraries = sorted(folder.glob("_C*.so")) or sorted(folder.glob("_C*.pyd"))
    try:
        return any(b"libcudart" in library.read_bytes() for library in libraries) if libraries else None
    except OSError:
        return None


def _tag(version: str) -> bool | None:
    _, plus, local = version.partition("+")
    return (local.startswith("cu") if not local.startswith("cpu") else False) if plus else None


def _text(distribution: importlib.metadata.Distribution, path: str) -> str:
    try:
        with Path(str(distribution.locate_file(path))).open("rb") as file:
            return file.read(1 << 16).decode("utf-8", "replace")
    except OSError:
        return ""


def _environment() -> dict[str, str]:
    """The user's environment, with what makes imports slow or chatty turned off; Keras computes with JAX here."""
    return {
        **os.environ,
        "KERAS_BACKEND": "jax",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONWARNINGS": "ignore",
        "CUDA_MODULE_LOADING": "LAZY",
    }


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _mend(name: str) -> str:
    return f"pip install --force-reinstall {name}, in an environment of its own where it conflicts"
