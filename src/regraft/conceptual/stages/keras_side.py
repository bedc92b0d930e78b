"""A training in Keras 3 on its JAX backend: model, loss function and optimiser of Keras."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from regraft.conceptual.stages.declaration import Declaration, flattened
from regraft.conceptual.stages.interface import Settings, Trained
from regraft.conceptual.stages.tree_side import TreeSide, arrays, checked, jax_model, known, ordered, plain
from regraft.errors import Unsupported

if TYPE_CHECKING:
    from regraft.conceptual.stages.interface import Array, Arrays
    from regraft.runtime.interface import Model


class KerasSide(TreeSide):
    """A side whose factory returns a `keras.Model`. A weight's name is its path: `sequential/dense/kernel`."""

    framework = "keras"

    def passed(self, made: Declaration, batch: Arrays) -> Any:
        """As `TreeSide.passed`, in training mode."""
        model, forward = made["model"], made.get("forward")
        return forward(model, batch) if forward is not None else model(batch["inputs"], training=True)

    def weights(self) -> dict[str, Array]:
        """As `Side.weights`."""
        with self.built("float32") as made:
            return _values(made["model"])

    def trainable(self) -> frozenset[str]:
        """As `Side.trainable`."""
        with self.built("float32") as made:
            return frozenset(one.path for one in made["model"].trainable_variables)

    def outputs(self, weights: Arrays, batch: Arrays, *, dtype: str) -> dict[str, Array]:
        """As `Side.outputs`."""
        with self.built(dtype) as made, self.telling():
            self._fill(made["model"], weights)
            found: dict[str, Array] = plain(flattened(self.passed(made, arrays(batch, dtype))))
            return found

    def evaluated(self, weights: Arrays, batch: Arrays, *, dtype: str) -> dict[str, Array]:
        """As `Side.evaluated`."""
        with self.built(dtype) as made, self.telling():
            self._fill(made["model"], weights)
            fed = arrays(batch, dtype)
            return plain(flattened(self._called(made, fed)))  # type: ignore[no-any-return]

    def model(self, weights: Arrays, batch: Arrays) -> tuple[Model, dict[str, Array]]:
        """As `Side.model`."""
        with self.built("float32") as made, self.telling():
            self._fill(made["model"], weights)
            return jax_model(lambda given: self._called(made, given), batch, where=self.where)

    @staticmethod
    def _called(made: Declaration, batch: Arrays) -> Any:
        """Outputs in evaluation mode, unless the user's forward says otherwise."""
        model, forward = made["model"], made.get("forward")
        return forward(model, batch) if forward is not None else model(batch["inputs"], training=False)

    def gradients(self, weights: Arrays, batch: Arrays, cotangents: Arrays, *, dtype: str) -> dict[str, Array]:
        """As `Side.gradients`."""
        with self.built(dtype) as made, self.telling():
            model = made["model"]
            self._fill(model, weights)
            fed = arrays(batch, dtype)
            values = [one.value for one in model.trainable_variables]
            found = self.pulled_back(made, lambda values: self._at(made, values, fed)[0], values, cotangents, dtype)
            names = [one.path for one in model.trainable_variables]
            return dict(zip(names, plain(found), strict=True))

    def updates(self, weights: Arrays, gradients: Sequence[Arrays], *, dtype: str) -> list[dict[str, Array]]:
        """As `Side.updates`."""
        with self.built(dtype) as made, self.telling():
            model, found = made["model"], []
            self._fill(model, weights)
            for given in gradients:
                tensors = arrays(given, dtype)
                variables = [one for one in model.trainable_variables if one.path in tensors]
                made["optimiser"].apply([tensors[one.path] for one in variables], variables)
                found.append(_values(model))
            return found

    def settings(self) -> Settings:
        """As `Side.settings`; the same for all weights but those left out of the decay."""
        with self.built("float32") as made:
            optimiser, model = made["optimiser"], made["model"]
            if type(getattr(optimiser, "_learning_rate", None)).__name__ not in ("KerasVariable", "Variable"):
                return Settings(type(optimiser).__name__)
            config = {**optimiser.get_config(), "lr": float(optimiser.learning_rate)}
            numbers = {
                {"beta_1": "beta1", "beta_2": "beta2", "epsilon": "eps"}.get(key, key): float(value)
                for key, value in config.items()
                if isinstance(value, bool | int | float)
            }
            return Settings(type(optimiser).__name__, {one.path: numbers for one in model.trainable_variables})

    def train(self, weights: Arrays, batches: Sequence[Arrays], *, dtype: str, habit: str = "") -> list[Trained]:
        """As `Side.train`; a schedule is the optimiser's own learning rate in Keras."""
        import jax

        self.refuse(habit)
        with self.built(dtype) as made, self.telling():
            model, backward, found = made["model"], made.get("backward"), []
            self._fill(model, weights)
            kept: list[Any] = []
            for batch in ordered(batches, habit):
                fed = arrays(batch, dtype)

                def loss(values: Any, fed: Any = fed) -> tuple[Any, Any]:
                    outputs, remembered = self._at(made, values, fed)
                    return made["loss"](outputs, fed).sum(), remembered

                variables = model.trainable_variables
                (value, remembered), gradients = jax.value_and_grad(loss, has_aux=True)([v.value for v in variables])
                if habit == "accumulated gradients":
                    gradients = kept = [g + k for g, k in zip(gradients, kept or [0.0] * len(gradients), strict=True)]
                made["optimiser"].apply(gradients if backward is None else backward(gradients), variables)
                for one, new in zip(model.non_trainable_variables, remembered, strict=True):
                    one.assign(new)
                found.append(Trained(float(value), _values(model)))
            return found

    def _at(self, made: Declaration, values: Sequence[Any], batch: Arrays) -> tuple[Any, list[Any]]:
        """Outputs with other trainable weights, and what else the network then remembers."""
        import keras

        model = made["model"]
        pairs = list(zip(model.trainable_variables, values, strict=True))
        with keras.StatelessScope(state_mapping=pairs) as scope:
            outputs = self.passed(made, batch)
        remembered = [scope.get_current_value(one) for one in model.non_trainable_variables]
        return outputs, [
            one.value if new is None else new
            for one, new in zip(model.non_trainable_variables, remembered, strict=True)
        ]

    def _fill(self, model: Any, weights: Arrays) -> None:
        for one in _variables(model):
            one.assign(checked(one.path, known(one.path, weights, self.where), one.shape, self.where))

    @contextlib.contextmanager
    def built(self, dtype: str) -> Iterator[Declaration]:
        """A fresh side whose layers are made in a precision."""
        import keras

        if keras.backend.backend() != "jax":
            raise Unsupported(
                f"keras was imported on the backend {keras.backend.backend()}",
                where=self.where,
                hint="export KERAS_BACKEND=jax",
            )
        before = keras.config.floatx()
        keras.config.set_floatx(dtype)
        keras.utils.clear_session(free_memory=False)  # layers are named from the beginning again
        try:
            with super().built(dtype) as made:
                yield made
        finally:
            keras.config.set_floatx(before)


def _variables(model: Any) -> list[Any]:
    """What is trained and what is remembered; the state of random numbers is neither."""
    return [one for one in model.variables if str(one.dtype).startswith("float")]


def _values(model: Any) -> dict[str, Array]:
    import numpy as np

    return {one.path: np.array(one.value) for one in _variables(model)}
