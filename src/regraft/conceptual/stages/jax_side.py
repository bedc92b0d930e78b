"""A training in JAX: a function of a tree of weights, an optimiser as optax has it or a function, a batch of arrays."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from regraft.conceptual.stages.declaration import Declaration, flattened
from regraft.conceptual.stages.interface import Settings, Trained
from regraft.conceptual.stages.tree_side import TreeSide, arrays, checked, jax_model, known, ordered, plain
from regraft.errors import Unsupported

if TYPE_CHECKING:
    from regraft.conceptual.stages.interface import Array, Arrays
    from regraft.runtime.interface import Model

_WITH_RATE = 4
"""Parameters of an optimiser that is a function and is told the learning rate."""


class JaxSide(TreeSide):
    """A side whose factory returns `weights`, a tree of arrays, and functions of them.

    A weight's name is the path to it: `layers.0.kernel`. Leaves that are no floating-point arrays stay as they are.
    """

    framework = "jax"

    def passed(self, made: Declaration, batch: Arrays) -> Any:
        """As `TreeSide.passed`."""
        return self._forward(made)(made["weights"], batch)

    def weights(self) -> dict[str, Array]:
        """As `Side.weights`."""
        with self.built("float32") as made:
            return _named(made["weights"]) if "weights" in made.parts else {}

    def trainable(self) -> frozenset[str]:
        """As `Side.trainable`."""
        return frozenset(self.weights())

    def outputs(self, weights: Arrays, batch: Arrays, *, dtype: str) -> dict[str, Array]:
        """As `Side.outputs`."""
        with self.built(dtype) as made, self.telling():
            filled = self._filled(made, weights, dtype)
            found: dict[str, Array] = plain(flattened(self._forward(made)(filled, arrays(batch, dtype))))
            return found

    def evaluated(self, weights: Arrays, batch: Arrays, *, dtype: str) -> dict[str, Array]:
        """As `Side.evaluated`: functions of JAX have one mode."""
        return self.outputs(weights, batch, dtype=dtype)

    def model(self, weights: Arrays, batch: Arrays) -> tuple[Model, dict[str, Array]]:
        """As `Side.model`."""
        with self.built("float32") as made, self.telling():
            forward, filled = self._forward(made), self._filled(made, weights, "float32")
        return jax_model(lambda given: forward(filled, given), batch, where=self.where)

    def gradients(self, weights: Arrays, batch: Arrays, cotangents: Arrays, *, dtype: str) -> dict[str, Array]:
        """As `Side.gradients`."""
        with self.built(dtype) as made, self.telling():
            fed, forward = arrays(batch, dtype), self._forward(made)
            filled = self._filled(made, weights, dtype)
            found = self.pulled_back(made, lambda values: forward(values, fed), filled, cotangents, dtype)
            return _named(found)

    def updates(self, weights: Arrays, gradients: Sequence[Arrays], *, dtype: str) -> list[dict[str, Array]]:
        """As `Side.updates`."""
        with self.built(dtype) as made, self.telling():
            current, step, found = self._filled(made, weights, dtype), _step(made), []
            state: Any = _initial(made, current)
            schedule = made.function_schedule()
            top = 0.0 if schedule is None else max(float(schedule(i)) for i in range(self.steps))
            for given in gradients:
                current, state = step(current, self._filled(made, given, dtype), state, top)
                found.append(_named(current))
            return found

    def settings(self) -> Settings:
        """Functions say nothing about themselves."""
        return Settings("")

    def train(self, weights: Arrays, batches: Sequence[Arrays], *, dtype: str, habit: str = "") -> list[Trained]:
        """As `Side.train`; the schedule is in the optimiser, unless that is a function that takes the rate."""
        import jax

        self.refuse(habit)
        with self.built(dtype) as made, self.telling():
            forward, step, backward, found = self._forward(made), _step(made), made.get("backward"), []
            current = self._filled(made, weights, dtype)
            state = _initial(made, current)
            kept: Any = None
            schedule = made.function_schedule()
            for count, batch in enumerate(ordered(batches, habit)):
                fed = arrays(batch, dtype)

                def loss(values: Any, fed: Any = fed) -> Any:
                    return made["loss"](forward(values, fed), fed).sum()

                value, gradients = jax.value_and_grad(loss, allow_int=True)(current)
                if habit == "accumulated gradients":
                    gradients = kept = gradients if kept is None else jax.tree_util.tree_map(_sum, gradients, kept)
                rate = 0.0 if schedule is None else float(schedule(count))
                current, state = step(current, gradients if backward is None else backward(gradients), state, rate)
                found.append(Trained(float(value), _named(current)))
            return found

    def _forward(self, made: Declaration) -> Callable[[Any, Any], Any]:
        forward = made.get("forward")
        if forward is not None:
            return forward  # type: ignore[no-any-return]
        model: Callable[[Any, Any], Any] = made["model"]
        return model

    def _filled(self, made: Declaration, values: Arrays, dtype: str) -> Any:
        """The tree of weights with other arrays in it."""
        import jax
        import jax.numpy as jnp

        leaves, structure = jax.tree_util.tree_flatten_with_path(made["weights"])
        filled = [
            jnp.asarray(checked(name, known(name, values, self.where), leaf.shape, self.where), dtype=dtype)
            if _is_weight(leaf)
            else leaf
            for name, leaf in ((_name(path), leaf) for path, leaf in leaves)
        ]
        return jax.tree_util.tree_unflatten(structure, filled)


def _step(made: Declaration) -> Callable[[Any, Any, Any, float], tuple[Any, Any]]:
    """(weights, gradients, state, rate) to (weights, state); what keeps its rate itself is not told it."""
    import jax

    optimiser = made["optimiser"]
    if not hasattr(optimiser, "update"):
        takes_rate = len(inspect.signature(optimiser).parameters) == _WITH_RATE
        if takes_rate and made.function_schedule() is None:
            raise Unsupported("the optimiser takes a rate and there is no schedule", where=made.where)

        def call(weights: Any, gradients: Any, state: Any, rate: float) -> tuple[Any, Any]:
            given = (weights, gradients, state, rate)
            return optimiser(*given) if takes_rate else optimiser(*given[:-1])  # type: ignore[no-any-return]

        return call

    def step(weights: Any, gradients: Any, state: Any, rate: float) -> tuple[Any, Any]:
        changes, state = optimiser.update(gradients, state, weights)
        return jax.tree_util.tree_map(lambda one, change: one + change, weights, changes), state

    return step


def _initial(made: Declaration, weights: Any) -> Any:
    """The optimiser's state before the first step; None for a function, which makes its own."""
    optimiser = made["optimiser"]
    return optimiser.init(weights) if hasattr(optimiser, "init") else None


def _named(tree: Any) -> dict[str, Array]:
    import jax
    import numpy as np

    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {_name(path): np.array(leaf) for path, leaf in leaves if _is_weight(leaf)}


def _name(path: Any) -> str:
    import jax

    return str(jax.tree_util.keystr(path, simple=True, separator="."))


def _sum(one: Any, other: Any) -> Any:
    return one + other


def _is_weight(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and getattr(leaf.dtype, "kind", "") == "f"
