"""Faults that were written after the causes; RESULTS.md has their first run, and what was mended since."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from benchmarks.training.bases import IGNORED, Parts, crop, label, pad, truncate, warmed
from benchmarks.training.faults import ALL, Fault, module, optimiser, part, step
from torch import nn
from torch.nn import functional as F  # noqa: N812  as torch's own code calls it


def _weighted(outputs: torch.Tensor, batch: Any) -> torch.Tensor:
    weight = torch.tensor([1.0, 3.0, 0.5]).to(outputs)
    return F.cross_entropy(outputs, batch["targets"], weight=weight)


def _over_all(outputs: torch.Tensor, batch: Any) -> torch.Tensor:
    """The mean also over what is ignored."""
    targets = batch["targets"].flatten()
    return F.cross_entropy(outputs.flatten(0, 1), targets, reduction="sum") / len(targets)


def _focal(outputs: torch.Tensor, batch: Any) -> torch.Tensor:
    plain = F.cross_entropy(outputs, batch["targets"], reduction="none")
    return ((1 - torch.exp(-plain)) ** 2 * plain).mean()


def _by_value(loss: torch.Tensor, model: nn.Module) -> None:
    loss.backward()
    nn.utils.clip_grad_value_(model.parameters(), 0.01)


def _quarter(loss: torch.Tensor, model: nn.Module) -> None:
    (loss / 4).backward()


def _stopped_scores(model: Any) -> None:
    model.attended = lambda q, k, v: (q @ k.transpose(-1, -2) / 4.0).softmax(-1).detach() @ v


def _stopped_key(model: Any) -> None:
    plain = model.attended
    model.attended = lambda q, k, v: plain(q, k.detach(), v)


def _frozen(model: Any) -> None:
    model.words.weight.requires_grad_(False)


def _biases_twice(model: nn.Module) -> torch.optim.Optimizer:
    """Biases at twice the rate, as Caffe has it."""
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1]},
        {"params": [p for p in model.parameters() if p.ndim < 2], "lr": 0.2},
    ]
    return torch.optim.SGD(groups, 0.1, 0.9, weight_decay=1e-4)


class OwnRMSprop(torch.optim.Optimizer):
    """RMSprop with the epsilon under the root, as TensorFlow had it."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {"lr": 0.01})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for one in self.param_groups[0]["params"]:
            if one.grad is None:
                continue
            kept = self.state[one]
            if not kept:
                kept.update(second=torch.zeros_like(one), velocity=torch.zeros_like(one))
            kept["second"].mul_(0.9).addcmul_(one.grad, one.grad, value=0.1)
            kept["velocity"].mul_(0.9).add_(one.grad / (kept["second"] + 1e-6).sqrt())
            one.add_(kept["velocity"], alpha=-0.01)


class Decayed(torch.optim.AdamW):
    """The decay is not multiplied by the learning rate."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, lr=1e-3, weight_decay=0.0)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for one in self.param_groups[0]["params"]:
            one.mul_(1 - 0.05)
        return super().step(closure)


def _loop(parts: Parts, kind: str) -> Any:
    first: list[Any] = []
    count = [0]

    def run(batch: Any) -> torch.Tensor:
        optimiser, schedule = parts["optimiser"], parts["schedule"]
        first.append(batch)
        batch = first[0] if kind == "one batch" else batch
        optimiser.zero_grad()
        loss = parts["loss"](parts["model"](batch["inputs"]), batch)
        loss.backward()
        optimiser.step()
        if kind == "new optimiser":
            optimiser.state.clear()
        count[0] += 1
        if kind != "no schedule":
            schedule.step()
        return loss.detach()

    return run


def _momentum(model: Any) -> None:
    model.norm.momentum = 0.01


def _reshaped(sample: Parts) -> Parts:
    x = sample["x"]
    return {**sample, "x": x.reshape(3, *x.shape[:2])}


UNSEEN = (
    Fault("crop one row lower", "image", "pipeline", ("crop",), ("crop offset",),
          step("crop", lambda s: crop(s, move=1))),
    Fault("crop of 18", "image", "pipeline", ("crop",), ("crop size",), step("crop", lambda s: crop(s, 18))),
    Fault("mirrored", "image", "pipeline", ("crop",), ("flip",),
          step("crop", lambda s: {**(r := crop(s)), "x": r["x"][:, ::-1]})),
    Fault("channels first by reshape", "image", "pipeline", ("layout",), ("layout",), step("layout", _reshaped)),
    Fault("width and height exchanged", "image", "pipeline", ("layout",), ("layout",),
          step("layout", lambda s: {**s, "x": s["x"].transpose(2, 1, 0)})),
    Fault("half precision", "image", "pipeline", ("scale",), ("dtype",),
          step("scale", lambda s: {**s, "x": (s["x"] / 255).astype(np.float16)})),
    Fault("classes in another order", "image", "pipeline", ("label",), ("label order",),
          step("label", lambda s: label(s, ("dog", "cat", "tree")))),
    Fault("lower-cased", "text", "pipeline", ("clean",), ("lower-casing",),
          step("clean", lambda t: " ".join(t.lower().split()))),
    Fault("cut to 6", "text", "pipeline", ("truncate",), ("truncation",), step("truncate", lambda i: truncate(i, 6))),
    Fault("padded on the left", "text", "pipeline", ("pad",), ("padding side",),
          step("pad", lambda i: np.pad(i, (14 - len(i), 0)))),
    Fault("padded with -1", "text", "pipeline", ("pad",), ("padding value",), step("pad", lambda i: pad(i, value=-1))),
    Fault("no end token", "text", "pipeline", ("special",), ("special tokens",),
          step("special", lambda i: np.array([1, *i]))),
    Fault("every tenth value", "sound", "pipeline", ("resample",), ("resampling",),
          step("resample", lambda x: x[::10])),
    Fault("samples shuffled", "sound", "pipeline", ("extract",), ("order",),
          part("samples", lambda p: p["samples"][::-1])),
    Fault("class weights", "image", "loss", ("class weights",), ("class weights",), part("loss", lambda p: _weighted)),
    Fault("mean over padding, too", "text", "loss", ("reduction",), ("reduction",), part("loss", lambda p: _over_all)),
    Fault("base 2", "image", "loss", ("log base",), ("log base",),
          part("loss", lambda p: lambda o, b: F.cross_entropy(o, b["targets"]) / np.log(2))),
    Fault("clamped to 0.3 … 0.7", "sound", "loss", ("epsilon",), ("epsilon",),
          part("loss", lambda p: lambda o, b: F.binary_cross_entropy(o.sigmoid().clamp(0.3, 0.7), b["targets"]))),
    Fault("positives weigh 2", "sound", "loss", ("class weights",), ("class weights",),
          part("loss", lambda p: lambda o, b: F.binary_cross_entropy_with_logits(
              o, b["targets"], pos_weight=torch.tensor(2.0).to(o)))),
    Fault("focal loss", "image", "loss", (), ("formula",), part("loss", lambda p: _focal)),
    Fault("padding label 0 ignored, too", "text", "loss", ("ignore_index",), ("ignore_index",),
          part("loss", lambda p: lambda o, b: F.cross_entropy(
              o.flatten(0, 1), torch.where(b["targets"] == 0, IGNORED, b["targets"]).flatten()))),
    Fault("clipped by value", "sound", "backward", ALL, ("clipping",), part("backward", lambda p: _by_value)),
    Fault("divided by 4", "image", "backward", ALL, ("scale",), part("backward", lambda p: _quarter)),
    Fault("attention scores detached", "text", "backward", ("softmax", "matmul"), ("stop-gradient",),
          module(_stopped_scores)),
    Fault("keys detached", "text", "backward", ("key",), ("stop-gradient",), module(_stopped_key)),
    Fault("embeddings frozen", "text", "backward", ("words.weight",), ("frozen",), module(_frozen)),
    Fault("momentum 0.95", "text", "optimiser", ALL, ("momentum",),
          optimiser(lambda m: torch.optim.SGD(m.parameters(), 0.1, 0.95, weight_decay=1e-4))),
    Fault("beta2 0.98", "image", "optimiser", ALL, ("beta2",),
          optimiser(lambda m: torch.optim.AdamW(m.parameters(), 1e-3, (0.9, 0.98), weight_decay=0.05))),
    Fault("rate of biases doubled", "text", "optimiser", (), ("learning rate",), optimiser(_biases_twice)),
    Fault("decay 5e-4", "text", "optimiser", ALL, ("weight decay",),
          optimiser(lambda m: torch.optim.SGD(m.parameters(), 0.1, 0.9, weight_decay=5e-4))),
    Fault("RMSprop's epsilon inside", "sound", "optimiser", ALL, ("epsilon placement",),
          optimiser(lambda m: OwnRMSprop(m.parameters()))),
    Fault("decay without the rate", "image", "optimiser", ALL, ("weight-decay placement",),
          optimiser(lambda m: Decayed(m.parameters()))),
    Fault("AMSGrad", "image", "optimiser", ALL, ("AMSGrad",),
          optimiser(lambda m: torch.optim.AdamW(m.parameters(), 1e-3, weight_decay=0.05, amsgrad=True))),
    Fault("warm-up from 1", "image", "schedule", ("warm-up",), ("warm-up",),
          part("schedule", lambda p: lambda s: warmed(s, 20, 200, offset=1))),
    Fault("linear for cosine", "image", "schedule", ("curve",), ("curve",),
          part("schedule", lambda p: lambda s: s / 2e4 if s < 20 else 1e-3 * (200 - s) / 180)),
    Fault("rate times 4", "image", "schedule", ("every step",), ("base rate",),
          part("schedule", lambda p: lambda s: warmed(s, 20, 200, top=4e-3))),
    Fault("falls every 3 epochs", "text", "schedule", ("milestones",), ("milestones",),
          part("schedule", lambda p: torch.optim.lr_scheduler.StepLR(p["optimiser"], 3, gamma=0.1))),
    Fault("factor 0.95", "sound", "schedule", ("every step",), ("decay factor",),
          part("schedule", lambda p: torch.optim.lr_scheduler.ExponentialLR(p["optimiser"], 0.95))),
    Fault("optimiser made anew", "sound", "training", ("step 1",), ("optimiser reset",),
          part("train_step", lambda p: _loop(p, "new optimiser"))),
    Fault("always the first batch", "sound", "training", ("step 1",), ("repeated batch",),
          part("train_step", lambda p: _loop(p, "one batch"))),
    Fault("schedule never stepped", "sound", "training", ("step 1",), ("no schedule",),
          part("train_step", lambda p: _loop(p, "no schedule"))),
    Fault("batch norm momentum 0.01", "image", "training", ("norm.running_mean",), ("running statistics",),
          module(_momentum)),
)  # fmt: skip
