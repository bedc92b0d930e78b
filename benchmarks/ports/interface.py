"""What a port is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

Arrays = Mapping[str, np.ndarray]


class Port(NamedTuple):
    """A network and its re-implementation.

    Attributes:
        name: of the architecture.
        frameworks: of the two.
        changes: what was renamed, re-laid, fused or split.
        reference: the network in torch, and example inputs.
        candidate: the port, and example inputs; its own weights are random.
        feeds: inputs by the reference's names, extents differ between axes.
        truth: weights of the reference → those of the port, written by hand.
    """

    name: str
    frameworks: str
    changes: str
    reference: Callable[[], tuple[Any, dict[str, Any]]]
    candidate: Callable[[], tuple[Any, dict[str, Any]]]
    feeds: dict[str, np.ndarray]
    truth: Callable[[Arrays], dict[str, np.ndarray]]


def numbers(shapes: Mapping[str, tuple[int, ...]], *, seed: int = 3) -> dict[str, Any]:
    """Random weights for a port in JAX, scaled so that nothing grows."""
    import jax.numpy as jnp

    random = np.random.default_rng(seed)
    return {name: jnp.asarray(random.normal(0, 0.1, shape).astype(np.float32)) for name, shape in shapes.items()}


def initialised(module: Any, *, seed: int = 5) -> Any:
    """Weights that are alike in no two places: also biases, scales and running statistics."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in (*module.named_parameters(), *module.named_buffers()):
            if not value.is_floating_point():
                continue
            if name.endswith("running_var"):
                value.uniform_(0.5, 1.5, generator=generator)
            elif value.ndim < 2:
                centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
                value.normal_(centre, 0.2, generator=generator)
            else:
                value.normal_(0.0, (2.0 / value[0].numel()) ** 0.5, generator=generator)
    return module.eval()
