"""Faults that were known when the causes were written. `unseen.py` has those that were written afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from benchmarks.training.bases import BASES, Parts, normalise, warmed
from PIL import Image
from torch import nn
from torch.nn import functional as F  # noqa: N812  as torch's own code calls it


class Fault(NamedTuple):
    """One fault.

    Attributes:
        name: what a developer would call it.
        base: the training that it is planted in.
        stage: where it is.
        places: what counts as found exactly; empty where the stage says it all.
        causes: words that name it.
        plant: changes the parts of the training.
    """

    name: str
    base: str
    stage: str
    places: tuple[str, ...]
    causes: tuple[str, ...]
    plant: Callable[[Parts], None]

    def side(self) -> Parts:
        """The parts with the fault in them."""
        parts = BASES[self.base]()
        self.plant(parts)
        return parts


ALL = ("all weights",)


def step(name: str, run: Callable[[Any], Any]) -> Callable[[Parts], None]:
    """Another step of the pipeline."""

    def plant(parts: Parts) -> None:
        parts["pipeline"] = {**parts["pipeline"], name: run}

    return plant


def part(name: str, make: Callable[[Parts], Any]) -> Callable[[Parts], None]:
    """Another part."""

    def plant(parts: Parts) -> None:
        parts[name] = make(parts)

    return plant


def optimiser(make: Callable[[nn.Module], torch.optim.Optimizer]) -> Callable[[Parts], None]:
    """Another optimiser; a scheduler is bound to it."""

    def plant(parts: Parts) -> None:
        parts["optimiser"] = make(parts["model"])
        schedule = parts["schedule"]
        if hasattr(schedule, "step"):
            kind = type(schedule)
            settings = {"StepLR": (4, 0.1), "ExponentialLR": (0.97,)}[kind.__name__]
            parts["schedule"] = kind(parts["optimiser"], *settings)

    return plant


def module(change: Callable[[Any], None]) -> Callable[[Parts], None]:
    """A change of the network."""
    return lambda parts: change(parts["model"])


def _bilinear(kind: Image.Resampling) -> Callable[[Parts], Parts]:
    return lambda s: {**s, "x": np.asarray(Image.fromarray(s["x"]).resize((28, 24), kind))}


def _decayed(excluded: bool) -> Callable[[nn.Module], torch.optim.Optimizer]:
    def make(model: nn.Module) -> torch.optim.Optimizer:
        groups = [
            {"params": [p for p in model.parameters() if p.ndim > 1]},
            {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0 if excluded else 0.05},
        ]
        return torch.optim.AdamW(groups, lr=1e-3, weight_decay=0.05)

    return make


class OwnAdam(torch.optim.Optimizer):
    """Adam as it is re-implemented: without bias correction, or with the epsilon under the root."""

    def __init__(self, parameters: Any, fault: str) -> None:
        super().__init__(parameters, {"lr": 1e-3})
        self._fault = fault

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for one in self.param_groups[0]["params"]:
            if one.grad is None:
                continue
            kept = self.state[one]
            if not kept:
                kept.update(count=0, first=torch.zeros_like(one), second=torch.zeros_like(one))
            kept["count"] += 1
            kept["first"].lerp_(one.grad, 0.1)
            kept["second"].mul_(0.999).addcmul_(one.grad, one.grad, value=0.001)
            bias1, bias2 = 1 - 0.9 ** kept["count"], 1 - 0.999 ** kept["count"]
            if self._fault == "no correction":
                bias1 = bias2 = 1.0
            second = kept["second"] / bias2
            root = (second + 1e-8).sqrt() if self._fault == "epsilon inside" else second.sqrt() + 1e-8
            one.mul_(1 - 1e-3 * 0.05)
            one.addcdiv_(kept["first"] / bias1, root, value=-1e-3)


def _cut(self: Any, x: torch.Tensor) -> torch.Tensor:
    x = self.act(self.norm(self.stem(x)))
    x = x + self.act2(self.norm2(self.inner(x))).detach()
    return self.head(x.mean((2, 3)))


def _cut_branch(model: Any) -> None:
    model.forward = lambda x: _cut(model, x)


def _twice(loss: torch.Tensor, model: nn.Module) -> None:
    loss.backward(retain_graph=True)
    loss.backward()


def _clipped(loss: torch.Tensor, model: nn.Module) -> None:
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)


def _scaled(loss: torch.Tensor, model: nn.Module) -> None:
    (loss * 4096).backward()


def _loop(parts: Parts, kind: str) -> Callable[[Any], torch.Tensor]:
    """A whole step with a habit."""

    def run(batch: Any) -> torch.Tensor:
        optimiser, schedule = parts["optimiser"], parts["schedule"]
        if kind != "no zero_grad":
            optimiser.zero_grad()
        loss = parts["loss"](parts["model"](batch["inputs"]), batch)
        loss.backward()
        if kind == "schedule first":
            schedule.step()
        optimiser.step()
        if kind != "schedule first" and hasattr(schedule, "step"):
            schedule.step()
        return loss.detach()

    return run


def _same_padding(model: Any) -> None:
    """As TensorFlow pads: only at the end where the stride is 2."""
    model.stem.padding = (0, 0)
    convolution = model.stem.forward
    model.stem.forward = lambda x: convolution(F.pad(x, (0, 1, 0, 1)))


def _set(path: str, name: str, value: Any) -> Callable[[Any], None]:
    return lambda model: setattr(model.get_submodule(path), name, value)


def _swapped(model: Any) -> None:
    plain = model.attended
    model.attended = lambda q, k, v: plain(k, q, v)


FAULTS = (
    Fault("BGR", "image", "pipeline", ("decode",), ("channel order",),
          step("decode", lambda s: {**(r := BASES["image"]()["pipeline"]["decode"](s)), "x": r["x"][..., ::-1]})),
    Fault("bicubic for bilinear", "image", "pipeline", ("resize",), ("interpolation",),
          step("resize", _bilinear(Image.Resampling.BICUBIC))),
    Fault("mean and deviation of 0.5", "image", "pipeline", ("normalise",), ("normalisation constants",),
          step("normalise", lambda s: normalise(s, (0.5,) * 3, (0.5,) * 3))),
    Fault("0 to 255", "image", "pipeline", ("scale",), ("value range",),
          step("scale", lambda s: {**s, "x": s["x"].astype(np.float32)})),
    Fault("sum for mean", "image", "loss", ("reduction",), ("reduction",),
          part("loss", lambda p: lambda o, b: F.cross_entropy(o, b["targets"], reduction="sum"))),
    Fault("label smoothing 0.1", "image", "loss", ("label smoothing",), ("label smoothing",),
          part("loss", lambda p: lambda o, b: F.cross_entropy(o, b["targets"], label_smoothing=0.1))),
    Fault("softmax before cross-entropy", "image", "loss", ("from logits",), ("from logits",),
          part("loss", lambda p: lambda o, b: F.cross_entropy(o.softmax(-1), b["targets"]))),
    Fault("padding not ignored", "text", "loss", ("ignore_index",), ("ignore_index",),
          part("loss", lambda p: lambda o, b: F.cross_entropy(o.flatten(0, 1), b["targets"].flatten().clamp(min=0)))),
    Fault("residual branch detached", "image", "backward", ("act2", "add"), ("stop-gradient",), module(_cut_branch)),
    Fault("backward twice", "image", "backward", ALL, ("accumulated twice",), part("backward", lambda p: _twice)),
    Fault("clipped by norm 1", "text", "backward", ALL, ("clipping",), part("backward", lambda p: _clipped)),
    Fault("loss scale 4096 left in", "sound", "backward", ALL, ("loss scale",), part("backward", lambda p: _scaled)),
    Fault("dampening 0.9", "text", "optimiser", ALL, ("dampening",),
          optimiser(lambda m: torch.optim.SGD(m.parameters(), 0.1, 0.9, dampening=0.9, weight_decay=1e-4))),
    Fault("Nesterov", "text", "optimiser", ALL, ("Nesterov",),
          optimiser(lambda m: torch.optim.SGD(m.parameters(), 0.1, 0.9, weight_decay=1e-4, nesterov=True))),
    Fault("L2 for decoupled decay", "image", "optimiser", ALL, ("weight-decay placement",),
          optimiser(lambda m: torch.optim.Adam(m.parameters(), 1e-3, weight_decay=0.05))),
    Fault("Adam epsilon 1e-6", "image", "optimiser", ALL, ("epsilon",),
          optimiser(lambda m: torch.optim.AdamW(m.parameters(), 1e-3, eps=1e-6, weight_decay=0.05))),
    Fault("no decay of biases and norms", "image", "optimiser", ("stem.bias and 6 more", "head.bias and 6 more"),
          ("weight-decay exclusion",), optimiser(_decayed(True))),
    Fault("no bias correction", "image", "optimiser", ALL, ("bias correction",),
          optimiser(lambda m: OwnAdam(m.parameters(), "no correction"))),
    Fault("epsilon inside of the root", "image", "optimiser", ALL, ("epsilon placement",),
          optimiser(lambda m: OwnAdam(m.parameters(), "epsilon inside"))),
    Fault("schedule one step ahead", "image", "schedule", ("every step",), ("off by one",),
          part("schedule", lambda p: lambda s: warmed(s + 1, 20, 200))),
    Fault("half the warm-up", "image", "schedule", ("warm-up",), ("warm-up",),
          part("schedule", lambda p: lambda s: warmed(s, 10, 200))),
    Fault("stepped at each step, not epoch", "text", "schedule", ("every step",), ("per epoch or per step",),
          part("steps_per_epoch", lambda p: 1)),
    Fault("cosine ends at 1e-5", "image", "schedule", ("end",), ("end value",),
          part("schedule", lambda p: lambda s: warmed(s, 20, 200, low=1e-5))),
    Fault("falls by 2, not 10", "text", "schedule", ("step 40",), ("decay factor",),
          part("schedule", lambda p: torch.optim.lr_scheduler.StepLR(p["optimiser"], 4, gamma=0.5))),
    Fault("zero_grad missing", "sound", "training", ("step 1",), ("accumulated gradients",),
          part("train_step", lambda p: _loop(p, "no zero_grad"))),
    Fault("schedule before optimiser", "sound", "training", ("step 0",), ("schedule before the step",),
          part("train_step", lambda p: _loop(p, "schedule first"))),
    Fault("batch norm epsilon 1e-5 → 1e-6", "image", "forward", ("norm",), ("epsilon",),
          module(_set("norm", "eps", 1e-6))),
    Fault("layer norm epsilon 1e-3", "text", "forward", ("norm1",), ("epsilon",), module(_set("norm1", "eps", 1e-3))),
    Fault("tanh GELU", "text", "forward", ("act",), ("gelu_approximation", "activation_kind", "gelu"),
          module(_set("act", "approximate", "tanh"))),
    Fault("SAME padding", "image", "forward", ("stem",), ("padding", "pads"), module(_same_padding)),
    Fault("query and key swapped", "text", "forward", ("network", "query", "key"),
          ("operands_swapped", "operand_order"), module(_swapped)),
)  # fmt: skip
