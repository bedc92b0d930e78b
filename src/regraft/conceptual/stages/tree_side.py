"""What sides on JAX share: functions of a tuple of arrays, differentiated by JAX."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from regraft.conceptual.stages.declaration import Declaration, flattened, rebuilt, seeded
from regraft.conceptual.stages.interface import Slope, Step
from regraft.errors import Unsupported

if TYPE_CHECKING:
    from regraft.conceptual.stages.gradient_sites import GradientSite
    from regraft.conceptual.stages.interface import Array, Arrays
    from regraft.runtime.interface import Model

SEED = 0
"""Of the factory; JAX draws random numbers from keys alone."""


class TreeSide:
    """The part of a side on JAX that is the same for pytrees and for Keras.

    Args:
        factory: of the user's; called once a question.
        where: how errors name it.
    """

    framework = "jax"

    def __init__(self, factory: Callable[[], object], where: str) -> None:
        self._factory = factory
        self.where = where
        with self.built("float32") as made:
            self.parts = made.parts
            self.pipeline: tuple[Step, ...] = made.steps()
            self.samples: Sequence[Any] = made.samples()
            self.batches: Sequence[Arrays] = made.batches()
            self.steps = made.total_steps()
            self.margin = made.margin()
            self.weight_map = made.weight_map()

    def passed(self, made: Declaration, batch: Arrays) -> Any:
        """The outputs of the network on a batch, in their structure."""
        raise NotImplementedError

    def slope(self, outputs: Arrays, batch: Arrays, *, dtype: str) -> Slope:
        """As `Side.slope`."""
        with self.built(dtype) as made, self.telling():
            import jax

            structure = None
            if "model" in made.parts and set(outputs) != {"outputs"}:
                structure = self.passed(made, arrays(self.batches[0], dtype))
            given = arrays(batch, dtype)

            def loss(values: dict[str, Any]) -> tuple[Any, Any]:
                plain = values["outputs"] if set(values) == {"outputs"} else values
                value = made["loss"](plain if structure is None else rebuilt(structure, values), given)
                return value.sum(), value

            (_, value), gradients = jax.value_and_grad(loss, has_aux=True)(arrays(outputs, dtype))
            return Slope(*plain((value, gradients)))

    def is_random(self) -> bool:
        """As `Side.is_random`: functions of JAX draw from keys alone."""
        return False

    def rates(self, steps: int) -> list[float]:
        """As `Side.rates`."""
        with self.built("float32") as made, self.telling():
            schedule = made.function_schedule()
            if schedule is None:
                raise Unsupported(
                    f"the schedule is {type(made['schedule']).__name__}, not a function of the step", where=self.where
                )
            return [float(schedule(step)) for step in range(steps)]

    def gradient_sites(self, weights: Arrays, batch: Arrays) -> Sequence[GradientSite]:
        """None: functions of JAX have no hooks."""
        return ()

    def gradients_through(
        self, weights: Arrays, batch: Arrays, cotangents: Arrays, *, dtype: str, site: GradientSite, factor: float
    ) -> dict[str, Array]:
        """None: there are no sites."""
        raise Unsupported("gradients cannot be held back in functions of JAX", where=self.where)

    def curve(self, seed: int) -> Array:
        """As `Side.curve`."""
        with self.built("float32") as made, self.telling():
            return made.curve(seed)

    def pulled_back(
        self, made: Declaration, function: Callable[[Any], Any], weights: Any, cotangents: Arrays, dtype: str
    ) -> Any:
        """Derivatives by the weights of what the outputs times the cotangents sum to; then the user's `backward`."""
        import jax

        given = arrays(cotangents, dtype)

        def total(values: Any) -> Any:
            found = flattened(function(values))
            return sum((found[name] * given[name]).sum() for name in given)

        gradients = jax.grad(total, allow_int=True)(weights)
        backward = made.get("backward")
        return gradients if backward is None else backward(gradients)

    def refuse(self, habit: str) -> None:
        """Raise for habits that a loop in JAX is not tried with.

        Raises:
            Unsupported: it is none of those.
        """
        if habit not in ("", "accumulated gradients", "repeated batch", "batches reversed"):
            raise Unsupported(f"a loop in JAX is not tried with: {habit}", where=self.where)

    @contextlib.contextmanager
    def built(self, dtype: str) -> Iterator[Declaration]:
        """A fresh side; 64 bit types are there in float64."""
        from regraft.runtime.jax_graph import running

        with running(is_wide=dtype == "float64"), seeded(SEED):
            yield Declaration(self._factory(), self.where)

    @contextlib.contextmanager
    def telling(self) -> Iterator[None]:
        """What the user's code raises, as an error with its place."""
        try:
            yield
        except (
            RuntimeError,
            TypeError,
            ValueError,
            KeyError,
            IndexError,
            AttributeError,
            NotImplementedError,
        ) as error:
            said = str(error).strip().splitlines()
            raise Unsupported(f"{type(error).__name__}: {said[0][:300] if said else ''}", where=self.where) from error


def arrays(given: Arrays, dtype: str) -> dict[str, Any]:
    """Arrays of JAX, floating-point ones in a precision."""
    import jax.numpy as jnp

    return {name: jnp.asarray(value, dtype=dtype if value.dtype.kind == "f" else None) for name, value in given.items()}


def jax_model(function: Callable[[Any], Any], batch: Arrays, *, where: str) -> tuple[Model, dict[str, Array]]:
    """A function of a batch as a model, with the parts of the batch that are arrays of numbers as its feeds."""
    from regraft.package.formats import Port
    from regraft.runtime.jax_model import JaxModel

    ports = [Port(name, str(value.dtype), tuple(value.shape)) for name, value in batch.items()]
    return JaxModel(function, inputs=ports, where=where), dict(batch)


def plain(tree: Any) -> Any:
    """A tree of numpy arrays."""
    import jax
    import numpy as np

    return jax.tree_util.tree_map(np.array, tree)


def ordered(batches: Sequence[Arrays], habit: str) -> list[Arrays]:
    """The batches as a loop with a habit sees them."""
    if habit == "repeated batch":
        return [batches[0]] * len(batches)
    return list(batches[::-1]) if habit == "batches reversed" else list(batches)


def checked(name: str, value: Array, shape: Sequence[int], where: str) -> Array:
    """A weight, when it fits.

    Raises:
        Unsupported: it has another shape.
    """
    if tuple(value.shape) != tuple(shape):
        raise Unsupported(f"{name} is {tuple(shape)}, the reference's is {tuple(value.shape)}", where=where)
    return value


def known(name: str, weights: Mapping[str, Array], where: str) -> Array:
    """A weight by its name.

    Raises:
        Unsupported: the map has none for it.
    """
    if name not in weights:
        raise Unsupported(f"no weight of the reference is known to be {name}", where=where, hint="extend the map")
    return weights[name]
