"""Latency of a network that Regraft runs, beside the best that plain programs of its runtimes and of torch reach.

Each contender is a process of its own, on one thread; all take turns in a random order. A ratio is taken within each
round, so that a busy moment of the machine hits both sides of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from benchmarks.latency_program import MINILM

ROUNDS, PASSES = 24, 8
CONTENDERS = (
    "regraft onnxruntime", "regraft openvino f32", "regraft openvino bf16", "onnxruntime", "openvino, as it comes",
    "openvino f32", "openvino bf16", "torch eager", "torch.compile", "AOTInductor",
)  # fmt: skip
FLOAT32 = ("regraft onnxruntime", "regraft openvino f32", "onnxruntime", "openvino f32", "torch eager", "torch.compile",
           "AOTInductor")  # fmt: skip
"""Contenders whose answers are those of float32: a gain by bfloat16 is another thing, and is compared on its own."""


def main() -> str:
    os.environ["PYTHONPATH"] = str(Path(__file__).parent.parent)
    sections = []
    for network, title in (("minilm", "MiniLM, 1 × 16 tokens"), ("resnet18", "ResNet-18, 1 × 3 × 224 × 224")):
        with tempfile.TemporaryDirectory() as name:
            prepare(network, Path(name))
            sections.append(f"### {title}\n\n{section(measured(network, Path(name)))}")
    return f"{ROUNDS} rounds of {PASSES} passes each, one thread.\n\n" + "\n\n".join(sections)


def prepare(network: str, folder: Path) -> None:
    """The package that everybody runs, and feeds of one row."""
    from regraft.workflow.convert import convert

    ref = str(MINILM) if network == "minilm" else "py:benchmarks.resnet:resnet18"
    made = convert(ref, to="onnx", out=folder / "package")
    assert made.path is not None, made.evidence.summary
    rng = np.random.default_rng(0)
    if network == "minilm":
        ids = rng.integers(100, 4000, (1, 16))
        feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    else:
        feeds = {"input": rng.normal(size=(1, 3, 224, 224)).astype(np.float32)}
    np.savez(folder / "feeds.npz", **feeds)


def measured(network: str, folder: Path) -> dict[str, list[list[tuple[float, float]]]]:
    """Contender → round → (wall ms, CPU ms) of each pass; those that do not start are left out, and said."""
    found: dict[str, list[list[tuple[float, float]]]] = {}
    with contextlib.ExitStack() as stack:
        running = {}
        for name in CONTENDERS:
            process = _start(name, network, folder)
            stack.callback(process.wait)
            stack.callback(process.kill)
            if process.stdout is not None and process.stdout.readline().strip() == "ready":
                running[name] = process
            else:
                sys.stderr.write(f"{name}: does not run here\n")
        order = list(running)
        for turn in range(ROUNDS):
            random.Random(turn).shuffle(order)
            for name in order:
                found.setdefault(name, []).append(_ask(running[name]))
    return {name: found[name] for name in CONTENDERS if name in found}


def _start(name: str, network: str, folder: Path) -> subprocess.Popen[str]:
    program = str(Path(__file__).with_name("latency_program.py"))
    return subprocess.Popen(
        [sys.executable, program, name, network, str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip


def _ask(process: subprocess.Popen[str]) -> list[tuple[float, float]]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{PASSES}\n")
    process.stdin.flush()
    return [(wall, cpu) for wall, cpu in json.loads(process.stdout.readline())]


def section(found: dict[str, list[list[tuple[float, float]]]]) -> str:
    lines = ["| contender | wall ms | CPU ms | p95 wall ms |", "|---|---|---|---|"]
    for name, rounds in found.items():
        walls = [wall for one in rounds for wall, _ in one]
        cpus = [cpu for one in rounds for _, cpu in one]
        lines.append(
            f"| {name} | {statistics.median(walls):.2f} | {statistics.median(cpus):.2f} | "
            f"{statistics.quantiles(walls, n=20)[-1]:.2f} |"
        )
    told = [_best(found, FLOAT32, "in float32"), _best(found, CONTENDERS, "in any precision")]
    return "\n".join(lines) + "\n\n" + "\n".join(told)


def _best(found: dict[str, list[list[tuple[float, float]]]], among: tuple[str, ...], where: str) -> str:
    """Our best against the peers' best, by CPU time: of a pass on one thread, other work does not change that much."""
    ours = min((n for n in among if n in found and n.startswith("regraft")), key=lambda n: _cpu(found[n]))
    peer = min((n for n in among if n in found and not n.startswith("regraft")), key=lambda n: _cpu(found[n]))
    ratios = {
        kind: sorted(
            statistics.median(one[i] for one in a) / statistics.median(one[i] for one in b)
            for a, b in zip(found[ours], found[peer], strict=True)
        )
        for i, kind in enumerate(("wall", "CPU"))
    }
    said = ", ".join(
        f"{kind} {statistics.median(r):.3f} [{r[len(r) // 4]:.3f}, {r[-1 - len(r) // 4]:.3f}]"
        for kind, r in ratios.items()
    )
    return f"Best {where}: {ours} over {peer}: {said} (median of the rounds and its quartiles)."


def _cpu(rounds: list[list[tuple[float, float]]]) -> float:
    return statistics.median(cpu for one in rounds for _, cpu in one)
