"""Weights to compare two networks with: the reference's own, as freshly initialised, early in training, and larger.

Trained weights hide faults: gates saturate, channels are dead, activations stay below a bound. So both networks are
also given, through the proven map, weights that nobody has trained.
Source: differential testing of a re-implementation early in its training, with the original as oracle.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.compare.weight_map import WeightMap
from regraft.errors import Unsupported
from regraft.runtime.feeding import feeds_for

if TYPE_CHECKING:
    from regraft.runtime.interface import Array, Feeds, Model

STEPS = 8
"""Of training: signs of gradients count then, and nothing is saturated yet."""
_STEP = 0.02
"""Of a weight's size, that one step moves each of its numbers."""
_LARGER = 8.0
_LEAST_SPREAD = 0.3


class Checkpoint(msgspec.Struct, frozen=True):
    """One set of weights for both networks.

    Attributes:
        name: `own`, `fresh`, `trained` or `larger`.
        told: how a message calls it.
        values: weights of the reference that differ from its own, by name.
    """

    name: str
    told: str
    values: dict[str, Array] = {}


OWN = Checkpoint("own", "the reference's own weights")


def checkpoints(
    reference: Model, weight_map: WeightMap, values: Mapping[str, Array], feeds: Sequence[Feeds], *, seed: int
) -> list[Checkpoint]:
    """The reference's own weights, and others that are made of a seed alone.

    Args:
        reference: of torch or JAX; the weights of others are drawn anew, and not trained.
        weight_map: only weights that the candidate has, too, are replaced.
        values: the reference's weights.
        feeds: batches to train on.
        seed: of all that is drawn.
    """
    mapped = mapped_names(weight_map)
    if not mapped or any(pair.status == "ambiguous" for pair in weight_map.pairs):
        return [OWN]
    fresh = tied({name: value for name, value in _fresh(reference, values, seed).items() if name in mapped}, weight_map)
    larger = {name: (_times(value, _LARGER) if value.ndim > 1 else value) for name, value in fresh.items()}
    found = [OWN, Checkpoint("fresh", f"weights as freshly initialised (seed {seed})", fresh)]
    trained = _trained(reference, {**values, **fresh}, feeds, seed)
    if trained is not None:
        moved = tied({name: trained[name] for name in fresh}, weight_map)
        found.append(Checkpoint("trained", f"weights after {STEPS} steps of training (seed {seed})", moved))
    found.append(Checkpoint("larger", f"fresh weights, {_LARGER:g} times as large (seed {seed})", larger))
    return found


def mapped_names(weight_map: WeightMap) -> list[str]:
    """Weights of the reference that the candidate has, too, in the map's order."""
    return list(dict.fromkeys(one.piece.weight for pair in weight_map.pairs for one in pair.sources))


def _times(value: Any, factor: float) -> Array:
    return (value * factor).astype(value.dtype)  # type: ignore[no-any-return]


def tied(made: dict[str, Array], weight_map: WeightMap) -> dict[str, Array]:
    """Weights that the candidate has once, and the reference several times, stay equal."""
    for first, *others in weight_map.conflicts.values():
        made |= {name: made[first] for name in others if first in made and name in made}
    return made


def _fresh(reference: Model, values: Mapping[str, Array], seed: int) -> dict[str, Array]:
    """By the network's own `reset_parameters` where it has that; the rest drawn with the spread that it had."""
    import numpy as np

    random = np.random.default_rng(seed)
    made = {name: _redrawn(value, random) for name, value in values.items()}
    module = getattr(reference, "module", None)
    return made | (_reset(module, values, seed) if module is not None else {})


def _redrawn(value: Array, random: Any) -> Array:
    mean, spread = float(value.mean()), float(value.std())
    made = mean + max(spread, _LEAST_SPREAD * (abs(mean) or 1.0)) * random.standard_normal(value.shape)
    if value.size and value.min() > 0:
        made = abs(made) + _LEAST_SPREAD * mean  # variances and scales stay positive
    return made.astype(value.dtype)  # type: ignore[no-any-return]


def _reset(module: Any, values: Mapping[str, Array], seed: int) -> dict[str, Array]:
    """Weights of the modules that can initialise themselves."""
    import torch

    from regraft.runtime.torch_tensors import array_from_tensor

    copied = copy.deepcopy(module)
    found: dict[str, Array] = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for scope, one in copied.named_modules():
            reset: Callable[[], None] | None = getattr(one, "reset_parameters", None)
            if not callable(reset):
                continue
            try:
                reset()
            except (TypeError, ValueError, RuntimeError):
                continue  # it wants arguments: what it holds is drawn instead
            held = [*one.named_parameters(recurse=False), *one.named_buffers(recurse=False)]
            names = {f"{scope}.{name}" if scope else name: value for name, value in held}
            found |= {name: array_from_tensor(value.detach()) for name, value in names.items() if name in values}
    return found


def _trained(reference: Model, values: dict[str, Array], feeds: Sequence[Feeds], seed: int) -> dict[str, Array] | None:
    """Weights after some steps towards random targets; None where the runtime has no gradients, or they blow up.

    A step moves every number by the same share of its weight's size, against the sign of its gradient (signSGD).
    """
    import numpy as np

    gradients = {"TorchModel": _torch_gradients, "JaxModel": _jax_gradients}.get(type(reference).__name__)
    if gradients is None or not feeds:
        return None
    held = dict(values)
    try:
        for step in range(STEPS):
            slopes = gradients(reference, held, feeds[step % len(feeds)], seed)
            for name, slope in slopes.items():
                size = float(np.sqrt(np.square(held[name]).mean())) or 1.0
                held[name] = (held[name] - _STEP * size * np.sign(slope)).astype(held[name].dtype)
    except (Unsupported, RuntimeError, TypeError, ValueError):
        return None
    return held if all(np.isfinite(value).all() for value in held.values()) else None


def _torch_gradients(reference: Any, values: Mapping[str, Array], feeds: Feeds, seed: int) -> dict[str, Array]:
    import torch

    from regraft.runtime.named_weights import with_weights
    from regraft.runtime.torch_tensors import array_from_tensor, named_tensors, tensor_from_array

    model: Any = with_weights(reference, values)
    given = {port.name: tensor_from_array(feeds[port.name], port.dtype) for port in model.signature.inputs}
    held = {
        name: value for name, value in model.module.named_parameters() if name in values and value.is_floating_point()
    }
    generator = torch.Generator().manual_seed(seed)
    with torch.enable_grad():
        loss = torch.zeros(())
        for _, output in named_tensors(model.module(**given)):
            if output.is_floating_point():
                loss = loss + (output - torch.randn(output.shape, generator=generator)).square().mean()
        slopes = torch.autograd.grad(loss, list(held.values()), allow_unused=True)
    found = zip(held, slopes, strict=True)
    return {name: array_from_tensor(slope.detach()) for name, slope in found if slope is not None}


def _jax_gradients(reference: Any, values: Mapping[str, Array], feeds: Feeds, seed: int) -> dict[str, Array]:
    import numpy as np

    from regraft.runtime.jax_graph import import_jax, running
    from regraft.runtime.jax_model import named_leaves

    if not reference.weights:
        raise Unsupported("a function hides its weights", where=reference.where)
    jax = import_jax(reference.where)
    random = np.random.default_rng(seed)
    given = feeds_for(reference, feeds)

    def loss(weights: Any) -> Any:
        outputs = [one for _, one in named_leaves(reference.function({**reference.weights, **weights}, given))]
        real = [one for one in outputs if "float" in str(one.dtype)]
        return sum(((one - random.standard_normal(one.shape).astype("float32")) ** 2).mean() for one in real)

    with running():
        slopes = jax.grad(loss)({name: jax.numpy.asarray(value) for name, value in values.items()})
    return {name: np.asarray(slope) for name, slope in slopes.items()}
