"""Calibration cases of an NVIDIA GPU: torch there against torch on the processor, in every precision that it has.

    python tools/calibrate_on_cuda.py --assets .cache/assets/x > cases.jsonl

on a machine with a GPU; `tools/calibrate_thresholds.py --more cases.jsonl` takes them into thresholds and tables.
Networks whose packages are not there are left out.
"""

# ruff: noqa: E402
from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tools")]

import torch

from calibrate_thresholds import calibration_feeds, row
from calibration_faults import faulty_copies
from calibration_models import PUBLISHED, Network, networks
from regraft.compare.measure import EXACT, Yardstick
from regraft.errors import RegraftError, Unsupported
from regraft.runtime.torch_cuda import TorchCudaModel

_PRECISIONS = ("float32", "tensorfloat32", "bfloat16", "float16")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--assets", type=Path, default=ROOT / ".cache/assets/x")
    options.add_argument("--seeds", type=int, default=2)
    chosen = options.parse_args()
    warnings.simplefilter("ignore")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}", file=sys.stderr)
    published = {f"{name} (ONNX)" for _, name, *_ in PUBLISHED}
    for network in networks(chosen.assets):
        try:
            model = None if network.name in published else network.build()
        except (RegraftError, OSError, ImportError, ValueError) as error:
            print(f"{network.name} is left out: {error}", file=sys.stderr)
            continue
        for seed in range(chosen.seeds if model is not None else 0):
            for precision in _PRECISIONS:
                for case in _cases(network, model, seed, precision):
                    print(json.dumps(case), flush=True)


def _cases(network: Network, model: Any, seed: int, precision: str) -> Iterator[dict[str, Any]]:
    feeds = calibration_feeds(model, network, seed, precision)
    answers = list(Yardstick(model, feeds[0], precisions=(precision,), method=EXACT).answers(feeds))
    labels = {"architecture": network.architecture, "network": network.name, "seed": seed, "method": EXACT}
    candidate = TorchCudaModel(model, precision=precision)
    # cuDNN's recurrent kernels are 27 to 54 floors off in float32 (fast tanh and sigmoid): no benign conversion.
    if precision != "float32" or not any(isinstance(m, torch.nn.RNNBase) for m in model.module.modules()):
        name = f"torch → {torch.cuda.get_device_name()}"
        yield row(labels | {"side": "benign", "change": name}, precision, answers, candidate, feeds)
    for fault, faulty in faulty_copies(model) if precision == "tensorfloat32" else ():
        there = TorchCudaModel(faulty, precision=precision)
        try:
            yield row(labels | {"side": "fault", "change": fault}, precision, answers, there, feeds)
        except Unsupported as error:  # a forward that was replaced refers to the network on the processor
            print(f"{network.name} with {fault} is left out: {error.what}", file=sys.stderr)


if __name__ == "__main__":
    main()
