"""Networks of JAX as a user would hand them over: `py:jax_factories:NAME`."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np


def encoder(seed: int = 0, *, eps: float = 1e-5, approximate: bool = False) -> tuple[Any, dict[str, np.ndarray]]:
    """One attention layer with an embedding; weights by numpy, so that torch can be given the same."""
    weights = {name: jnp.asarray(value) for name, value in encoder_weights(seed).items()}

    def forward(feeds: dict[str, jax.Array]) -> dict[str, jax.Array]:
        h = weights["embed"][feeds["ids"]]  # (B, T, 16)
        with jax.named_scope("attention"):
            q, k, v = (h @ weights[name].T for name in ("q", "k", "v"))
            scores = q @ jnp.swapaxes(k, 1, 2) / 4.0
            scores = jnp.where(feeds["mask"][:, None, :] > 0, scores, -1e9)
            h = h + jax.nn.softmax(scores, axis=-1) @ v
        with jax.named_scope("norm"):
            mean = h.mean(-1, keepdims=True)
            variance = ((h - mean) ** 2).mean(-1, keepdims=True)
            h = (h - mean) / jnp.sqrt(variance + eps)
        h = jax.nn.gelu(h @ weights["up"].T, approximate=approximate)
        return {"logits": h @ weights["down"].T, "pooled": h.mean(1)}

    return forward, {"ids": np.zeros((1, 5), "int64"), "mask": np.ones((1, 5), "int64")}


def encoder_weights(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    sizes = {"embed": (50, 16), "q": (16, 16), "k": (16, 16), "v": (16, 16), "up": (32, 16), "down": (7, 32)}
    return {name: (rng.standard_normal(size) / 4).astype("float32") for name, size in sizes.items()}


def torch_twin() -> tuple[Any, dict[str, Any]]:
    """The encoder in torch, with the same weights."""
    import torch

    class Twin(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, value in encoder_weights().items():
                self.register_parameter(name, torch.nn.Parameter(torch.from_numpy(value)))

        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
            h = self.embed[ids]
            q, k, v = h @ self.q.T, h @ self.k.T, h @ self.v.T
            scores = (q @ k.transpose(1, 2) / 4.0).masked_fill(mask[:, None, :] == 0, -1e9)
            h = h + torch.softmax(scores, -1) @ v
            h = torch.nn.functional.layer_norm(h, (16,), eps=1e-5)
            h = torch.nn.functional.gelu(h @ self.up.T)
            return {"logits": h @ self.down.T, "pooled": h.mean(1)}

    return Twin(), {"ids": torch.zeros(1, 5, dtype=torch.int64), "mask": torch.ones(1, 5, dtype=torch.int64)}


def tanh_encoder() -> tuple[Any, dict[str, np.ndarray]]:
    """The encoder with the other GELU: a real porting fault."""
    return encoder(approximate=True)


def module() -> tuple[Any, dict[str, np.ndarray]]:
    """A module of equinox, called with the input in its place."""
    net = eqx.nn.MLP(4, 3, 8, 1, key=jax.random.key(0))
    return eqx.filter_vmap(net), {"x": np.zeros((2, 4), "float32")}


def loops() -> tuple[Any, dict[str, np.ndarray]]:
    """A recurrent cell under `scan`, a `while`, and a branch."""
    w = (np.random.default_rng(0).standard_normal((4, 4)) / 2).astype("float32")

    def forward(feeds: dict[str, jax.Array]) -> tuple[jax.Array, ...]:
        def step(state: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
            state = jnp.tanh(state @ w + x)
            return state, state

        last, states = jax.lax.scan(step, jnp.zeros(4), feeds["x"])
        grown = jax.lax.while_loop(lambda s: jnp.abs(s).max() < 10, lambda s: s * 1.7 + 0.1, last)
        return grown, jax.lax.cond(last.sum() > 0, lambda s: s.sum(0), lambda s: s.mean(0), states)

    return forward, {"x": np.ones((6, 4), "float32")}


def convolution(dtype: str = "float32") -> tuple[Any, dict[str, np.ndarray]]:
    """Convolution, pooling, cumulative sum, sorting, scattering: primitives with parameters of their own."""
    kernel = (np.random.default_rng(0).standard_normal((3, 3, 2, 5)) / 4).astype("float32")

    def forward(image: jax.Array) -> jax.Array:
        x = image.astype(dtype)
        x = jax.lax.conv_general_dilated(
            x, kernel.astype(dtype), (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"),
            preferred_element_type=dtype,
        )  # fmt: skip
        x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        x = jnp.cumsum(x, axis=1) + jnp.arange(x.shape[2], dtype=dtype)[None, None, :, None]
        x = jnp.sort(x, axis=-1).at[:, 0].add(1.0)
        return x.astype("float32").mean((1, 2))

    return forward, {"image": np.zeros((1, 8, 8, 2), "float32")}


def half() -> tuple[Any, dict[str, np.ndarray]]:
    return convolution("bfloat16")


def broken() -> tuple[Any, dict[str, np.ndarray]]:
    return lambda feeds: feeds["x"] @ jnp.zeros((3, 3)), {"x": np.zeros((2, 4), "float32")}


def without_examples() -> Any:
    return lambda feeds: feeds["x"]
