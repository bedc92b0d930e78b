"""Trainings written again without a fault: in JAX and Keras, and in other words of torch. None may be accused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import keras
import numpy as np
import torch
from benchmarks.training.bases import BASES, DEVIATION, IGNORED, MEAN, Parts, warmed
from torch import nn
from torch.nn import functional as F  # noqa: N812  as torch's own code calls it

from regraft.conceptual.stages.interface import Renamed, WeightMap

EVERYTHING = ("pipeline", "forward", "loss", "backward", "optimiser", "schedule", "training")


class Port(NamedTuple):
    """One re-implementation.

    Attributes:
        stages: that must have been compared.
    """

    name: str
    base: str
    side: Callable[[], Parts]
    weights: WeightMap | None = None
    stages: tuple[str, ...] = EVERYTHING


def _numbers(tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    return {name: jnp.asarray(value.detach().numpy()) for name, value in tensors.items()}


def _linear(name: str, theirs: str) -> dict[str, tuple[str, tuple[int, ...] | None]]:
    return {f"{name}.weight": (f"{theirs}.kernel", (1, 0)), f"{name}.bias": (f"{theirs}.bias", None)}


def _norm(name: str, theirs: str) -> dict[str, tuple[str, tuple[int, ...] | None]]:
    return {f"{name}.weight": (f"{theirs}.scale", None), f"{name}.bias": (f"{theirs}.shift", None)}


TEXT = {
    "words.weight": ("embedding.table", None),
    **{k: v for ours, theirs in (("query", "attention.q"), ("key", "attention.k"), ("value", "attention.v"),
                                 ("out", "attention.o"), ("up", "mlp.0"), ("down", "mlp.1"), ("head", "classify"))
       for k, v in _linear(ours, theirs).items()},
    **{k: v for ours, theirs in (("norm1", "ln.0"), ("norm2", "ln.1"), ("last", "ln.2"))
       for k, v in _norm(ours, theirs).items()},
}  # fmt: skip


def _tree(flat: Mapping[str, Any]) -> Any:
    """Nested dicts from dotted names."""
    made: dict[str, Any] = {}
    for name, value in flat.items():
        *path, leaf = name.split(".")
        place = made
        for one in path:
            place = place.setdefault(one, {})
        place[leaf] = value
    return made


def _jax_weights(parts: Parts, names: Mapping[str, tuple[str, tuple[int, ...] | None]]) -> Any:
    state = {name: value.detach().numpy() for name, value in parts["model"].named_parameters()}
    return _tree({name: jnp.asarray(value) for name, value in Renamed(names).to_candidate(state).items()})


def text_in_jax() -> Parts:
    parts = BASES["text"]()

    def norm(x: Any, p: Any) -> Any:
        mean = x.mean(-1, keepdims=True)
        variance = ((x - mean) ** 2).mean(-1, keepdims=True)
        return (x - mean) * jax.lax.rsqrt(variance + 1e-5) * p["scale"] + p["shift"]

    def linear(x: Any, p: Any) -> Any:
        return x @ p["kernel"] + p["bias"]

    def model(w: Any, batch: Any) -> Any:
        x = w["embedding"]["table"][batch["inputs"]]
        h, a = norm(x, w["ln"]["0"]), w["attention"]
        q, k, v = (linear(h, a[name]) for name in "qkv")
        scores = jnp.einsum("btd,bsd->bts", q * 0.25, k)
        x = x + linear(jax.nn.softmax(scores) @ v, a["o"])
        hidden = jax.nn.gelu(linear(norm(x, w["ln"]["1"]), w["mlp"]["0"]), approximate=False)
        x = x + linear(hidden, w["mlp"]["1"])
        return linear(norm(x, w["ln"]["2"]), w["classify"])

    def loss(outputs: Any, batch: Any) -> Any:
        targets = batch["targets"]
        counts = targets != IGNORED
        logs = jax.nn.log_softmax(outputs)
        picked = jnp.take_along_axis(logs, jnp.where(counts, targets, 0)[..., None], -1)[..., 0]
        return -(picked * counts).sum() / counts.sum()

    def sgd(weights: Any, gradients: Any, state: Any, rate: float) -> tuple[Any, Any]:
        given = jax.tree.map(lambda g, w: g + 1e-4 * w, gradients, weights)
        velocity = given if state is None else jax.tree.map(lambda v, g: 0.9 * v + g, state, given)
        return jax.tree.map(lambda w, v: w - rate * v, weights, velocity), velocity

    return {**parts, "model": model, "weights": _jax_weights(parts, TEXT), "loss": loss, "optimiser": sgd,
            "schedule": lambda step: 0.1 * 0.1 ** (step // 40)}  # fmt: skip


SOUND = {**_linear("first", "0"), **_linear("second", "1")}


def sound_in_jax() -> Parts:
    parts = BASES["sound"]()

    def rmsprop(weights: Any, gradients: Any, state: Any, rate: float) -> tuple[Any, Any]:
        zeros = jax.tree.map(jnp.zeros_like, weights)
        second, velocity = (zeros, zeros) if state is None else state
        second = jax.tree.map(lambda s, g: 0.9 * s + 0.1 * g * g, second, gradients)
        velocity = jax.tree.map(lambda v, g, s: 0.9 * v + g / (jnp.sqrt(s) + 1e-6), velocity, gradients, second)
        return jax.tree.map(lambda w, v: w - rate * v, weights, velocity), (second, velocity)

    def model(w: Any, batch: Any) -> Any:
        hidden = jnp.tanh(batch["inputs"] @ w["0"]["kernel"] + w["0"]["bias"])
        return hidden @ w["1"]["kernel"] + w["1"]["bias"]

    def loss(outputs: Any, batch: Any) -> Any:
        z, t = outputs, batch["targets"]
        return (jnp.maximum(z, 0) - z * t + jnp.log1p(jnp.exp(-jnp.abs(z)))).mean()

    return {**parts, "model": model, "weights": _jax_weights(parts, SOUND), "loss": loss, "optimiser": rmsprop,
            "schedule": lambda step: 0.01 * 0.97**step}  # fmt: skip


KERAS_SOUND = {
    "first.weight": ("sound/first/kernel", (1, 0)), "first.bias": ("sound/first/bias", None),
    "second.weight": ("sound/second/kernel", (1, 0)), "second.bias": ("sound/second/bias", None),
}  # fmt: skip


def sound_in_keras() -> Parts:
    """Without its optimiser: that of Keras has its epsilon elsewhere."""
    parts = BASES["sound"]()
    model = keras.Sequential([
        keras.layers.Input((64,)), keras.layers.Dense(12, activation="tanh", name="first"),
        keras.layers.Dense(1, name="second"),
    ], name="sound")  # fmt: skip
    crossentropy = keras.losses.BinaryCrossentropy(from_logits=True)
    return {
        **{name: parts[name] for name in ("samples", "pipeline", "batches", "steps")},
        "model": model, "loss": lambda outputs, batch: crossentropy(batch["targets"], outputs),
        "schedule": keras.optimizers.schedules.ExponentialDecay(0.01, 1, 0.97),
    }  # fmt: skip


def _changed(base: str, change: Callable[[Parts], None]) -> Callable[[], Parts]:
    def side() -> Parts:
        parts = BASES[base]()
        change(parts)
        return parts

    return side


def _attention(parts: Parts) -> None:
    parts["model"].attended = F.scaled_dot_product_attention


def _erf(parts: Parts) -> None:
    act = parts["model"].act
    act.forward = lambda x: 0.5 * x * (1 + torch.erf(x * 0.7071067811865476))


def _layer_norm(parts: Parts) -> None:
    for name in ("norm1", "norm2", "last"):
        norm = getattr(parts["model"], name)

        def by_hand(x: torch.Tensor, norm: Any = norm) -> torch.Tensor:
            centred = x - x.mean(-1, keepdim=True)
            return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * norm.weight + norm.bias

        norm.forward = by_hand


def _loss_by_hand(parts: Parts) -> None:
    def loss(outputs: torch.Tensor, batch: Any) -> torch.Tensor:
        return (outputs.logsumexp(-1) - outputs.gather(1, batch["targets"][:, None])[:, 0]).mean()

    parts["loss"] = loss


def _one_hot(parts: Parts) -> None:
    parts["loss"] = lambda o, b: -(F.one_hot(b["targets"], 3) * torch.log(o.softmax(-1))).sum() / len(o)


def _for_each(parts: Parts) -> None:
    parts["optimiser"] = torch.optim.AdamW(parts["model"].parameters(), lr=1e-3, weight_decay=0.05, foreach=True)


def _fused(parts: Parts) -> None:
    parts["optimiser"] = torch.optim.AdamW(parts["model"].parameters(), lr=1e-3, weight_decay=0.05, fused=True)


def _normalised_at_once(parts: Parts) -> None:
    factor, offset = 1 / np.float32(DEVIATION), np.float32(MEAN) / np.float32(DEVIATION)
    parts["pipeline"] = {**parts["pipeline"], "normalise": lambda s: {**s, "x": s["x"] * factor - offset}}


def _scaled_by_factor(parts: Parts) -> None:
    parts["pipeline"] = {**parts["pipeline"], "scale": lambda s: {**s, "x": s["x"] * np.float32(1 / 255)}}


def _lambda(parts: Parts) -> None:
    optimiser = parts["optimiser"]
    parts["schedule"] = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: warmed(step, 20, 200) / 1e-3)


def _own_loop(parts: Parts) -> None:
    def step(batch: Any) -> torch.Tensor:
        loss = parts["loss"](parts["model"](batch["inputs"]), batch)
        parts["model"].zero_grad()
        loss.backward()
        parts["optimiser"].step()
        parts["schedule"].step()
        return loss.detach()

    parts["train_step"] = step


def _accumulated(parts: Parts) -> None:
    """Gradients of the two halves of a batch, each a half of the mean."""

    def step(batch: Any) -> torch.Tensor:
        parts["optimiser"].zero_grad()
        total = torch.zeros(())
        for half in range(2):
            some = {name: value[half * 4 : half * 4 + 4] for name, value in batch.items()}
            loss = parts["loss"](parts["model"](some["inputs"]), some) / 2
            loss.backward()
            total = total + loss.detach()
        parts["optimiser"].step()
        parts["schedule"].step()
        return total

    parts["train_step"] = step


def _nothing_clipped(parts: Parts) -> None:
    def backward(loss: torch.Tensor, model: nn.Module) -> None:
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1e9)

    parts["backward"] = backward


PORTS = (
    Port("text in JAX", "text", text_in_jax, Renamed(TEXT)),
    Port("sound in JAX", "sound", sound_in_jax, Renamed(SOUND)),
    Port("sound in Keras", "sound", sound_in_keras, Renamed(KERAS_SOUND),
         ("pipeline", "forward", "loss", "backward", "schedule")),
    *(Port(name, base, _changed(base, change)) for name, base, change in (
        ("the same, again", "image", lambda parts: None), ("fused attention", "text", _attention),
        ("GELU by erf", "text", _erf), ("layer norm by hand", "text", _layer_norm),
        ("cross-entropy by logsumexp", "image", _loss_by_hand),
        ("cross-entropy from one-hot labels", "image", _one_hot),
        ("AdamW over lists", "image", _for_each), ("AdamW fused", "image", _fused),
        ("normalisation as one product", "image", _normalised_at_once), ("scaled by 1/255", "image", _scaled_by_factor),
        ("schedule as LambdaLR", "image", _lambda), ("a loop of its own", "sound", _own_loop),
        ("gradients of two halves", "sound", _accumulated), ("a clip that never acts", "text", _nothing_clipped),
    )),
)  # fmt: skip
