"""What torch writes: state dicts, checkpoints, modules, scripted and exported programs."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from typing import Any

from tests.trust.corpus import Sample


def samples() -> Iterator[Sample]:
    """Saved by torch.save in both ways, then programs."""
    import torch

    for number, (what, value) in enumerate(_values().items()):
        data = io.BytesIO()
        torch.save(value, data, _use_new_zipfile_serialization=number % 3 != 1)
        suffix = ("pt", "pth", "bin", "ckpt")[number % 4]
        yield Sample(f"benign torch/{what}", {f"model.{suffix}": data.getvalue()}, kind="benign")
    for what, program in _programs().items():
        yield Sample(f"benign torch/{what}", program, kind="benign")


def _values() -> dict[str, Any]:
    import torch
    from torch import nn

    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2))
    adam = torch.optim.AdamW(net.parameters(), lr=1e-3)
    net(torch.zeros(1, 3, 3, 3).add(1).expand(2, 3, 3, 3)).sum().backward()
    adam.step()
    schedule = torch.optim.lr_scheduler.StepLR(adam, 10)
    weights, shared = net.state_dict(), torch.randn(4)
    return {
        "state dict": weights,
        "state dict again": {k: v.clone() for k, v in weights.items()},
        "checkpoint": {
            "epoch": 3,
            "model": weights,
            "optimizer": adam.state_dict(),
            "scheduler": schedule.state_dict(),
        },
        "Lightning checkpoint": {
            "state_dict": weights,
            "pytorch-lightning_version": "2.4.0",
            "hyper_parameters": {"lr": 1e-3, "name": "x"},
            "callbacks": {
                "ModelCheckpoint": {"best_model_path": "/home/me/best.ckpt", "current_score": torch.tensor(0.5)}
            },
        },
        "tensor": torch.randn(3, 4),
        "tensor of halves": torch.randn(3).half(),
        "tensor of bfloat16": torch.randn(3).bfloat16(),
        "tensor of booleans": torch.tensor([True, False]),
        "tensor of complex numbers": torch.zeros(2, dtype=torch.complex64),
        "tensor that requires a gradient": torch.randn(3, requires_grad=True),
        "tensor, a view": torch.arange(10)[2:5],
        "tensor, transposed": torch.randn(3, 4).t(),
        "sparse tensor": torch.eye(3).to_sparse(),
        "sparse tensor, compressed": torch.eye(3).to_sparse_csr(),
        "parameter": nn.Parameter(torch.randn(2)),
        "shared storage": {"a": shared, "b": shared[1:]},
        "list of tensors": [torch.zeros(1), torch.ones(2)],
        "size and device": {"size": torch.Size([1, 2]), "device": torch.device("cpu"), "dtype": torch.float32},
        "random state": {"torch": torch.get_rng_state(), "step": 5},
        "empty dict": {},
        "embedding matrix": {"embedding.weight": torch.randn(1000, 16)},
        "adapter": {f"base.layers.{i}.q_proj.lora_{k}.weight": torch.randn(2, 4) for i in range(4) for k in "AB"},
        "quantised tensor": torch.quantize_per_tensor(torch.randn(4), 0.1, 0, torch.qint8),
        "nested dict": {"student": {"w": torch.zeros(2)}, "teacher": {"w": torch.ones(2)}, "args": {"a": [1, 2]}},
        "arrays of numpy": {"mean": torch.zeros(3).numpy(), "std": torch.ones(3).numpy()},
        "optimizer alone": adam.state_dict(),
        "float8": torch.zeros(4).to(torch.float8_e4m3fn),
        "text and numbers": {"vocab": ["a", "b"], "threshold": 0.5, "classes": ("x", "y")},
        "metadata": {"version": torch.__version__, "state_dict": weights},
    }


def _programs() -> dict[str, dict[str, bytes]]:
    import torch
    from torch import nn

    found: dict[str, dict[str, bytes]] = {}
    nets: dict[str, nn.Module] = {
        "linear": nn.Linear(3, 2),
        "LSTM": nn.LSTM(3, 2),
        "convolution": nn.Sequential(nn.Conv1d(1, 2, 3), nn.GELU()),
    }
    shapes = {"linear": (2, 3), "LSTM": (5, 1, 3), "convolution": (1, 1, 8)}
    with warnings.catch_warnings(action="ignore"):
        for what, net in nets.items():
            for way in ("scripted", "traced"):
                made = torch.jit.script(net) if way == "scripted" else torch.jit.trace(net, torch.zeros(shapes[what]))
                buffer = io.BytesIO()
                torch.jit.save(made, buffer)
                found[f"{what}, {way}"] = {"model.pt": buffer.getvalue()}
            buffer = io.BytesIO()
            torch.export.save(torch.export.export(net.eval(), (torch.zeros(shapes[what]),)), buffer)
            found[f"{what}, exported"] = {"model.pt2": buffer.getvalue()}
    return found
