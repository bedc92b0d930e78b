"""A training in torch, on the CPU: built anew by the user's factory for every question."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from regraft.conceptual.stages.declaration import Declaration, flattened, rebuilt, seeded
from regraft.conceptual.stages.interface import Settings, Slope, Step, Trained
from regraft.errors import Unsupported, UsageError

if TYPE_CHECKING:
    import torch

    from regraft.conceptual.stages.interface import Arrays
    from regraft.runtime.interface import Array

SEED = 0
"""Of the factory and of every pass: dropout draws the same numbers each time."""


class TorchSide:
    """A side whose factory returns parts of torch.

    Args:
        factory: of the user's; called once a question.
        where: how errors name it.
    """

    framework = "torch"

    def __init__(self, factory: Callable[[], object], where: str) -> None:
        self._factory = factory
        self.where = where
        with self._built("float32") as made:
            self.parts = made.parts
            self.pipeline: tuple[Step, ...] = made.steps()
            self.samples: Sequence[Any] = made.samples()
            self.batches: Sequence[Arrays] = made.batches()

    def weights(self) -> dict[str, Array]:
        """As `Side.weights`."""
        with self._built("float32") as made:
            return _weights(self._module(made))

    def trainable(self) -> frozenset[str]:
        """As `Side.trainable`."""
        with self._built("float32") as made:
            return frozenset(name for name, one in self._module(made).named_parameters() if one.requires_grad)

    def outputs(self, weights: Arrays, batch: Arrays, *, dtype: str) -> dict[str, Array]:
        """As `Side.outputs`."""
        with self._built(dtype, weights) as made, self._telling():
            return _numpy(flattened(self._forward(made, _tensors(batch, dtype))))

    def slope(self, outputs: Arrays, batch: Arrays, *, dtype: str) -> Slope:
        """As `Side.slope`."""
        with self._built(dtype) as made, self._telling():
            leaves = {name: one.requires_grad_() for name, one in _tensors(outputs, dtype).items()}
            loss = made["loss"](self._structured(made, leaves), _tensors(batch, dtype))
            loss.sum().backward()
            gradients = {name: one.grad for name, one in leaves.items() if one.grad is not None}
            return Slope(loss.detach().numpy(), _numpy(gradients))

    def gradients(self, weights: Arrays, batch: Arrays, cotangents: Arrays, *, dtype: str) -> dict[str, Array]:
        """As `Side.gradients`."""
        with self._built(dtype, weights) as made, self._telling():
            module = self._module(made)
            found = flattened(self._forward(made, _tensors(batch, dtype)))
            given = _tensors(cotangents, dtype)
            loss = sum((found[name] * given[name]).sum() for name in given)
            backward = made.get("backward")
            loss.backward() if backward is None else backward(loss, module)  # type: ignore[union-attr]
            return _numpy({name: one.grad for name, one in module.named_parameters() if one.grad is not None})

    def updates(self, weights: Arrays, gradients: Sequence[Arrays], *, dtype: str) -> list[dict[str, Array]]:
        """As `Side.updates`."""
        with self._built(dtype, weights) as made, self._telling():
            module, found = self._module(made), []
            for given in gradients:
                tensors = _tensors(given, dtype)
                for name, one in module.named_parameters():
                    one.grad = tensors.get(name)
                made["optimiser"].step()
                found.append(_weights(module))
            return found

    def settings(self) -> Settings:
        """As `Side.settings`."""
        with self._built("float32") as made:
            names = {id(one): name for name, one in self._module(made).named_parameters()}
            values: dict[str, dict[str, float]] = {}
            for group in made["optimiser"].param_groups:
                numbers = dict(_numbers(group))
                values |= {names[id(one)]: numbers for one in group["params"] if id(one) in names}
            return Settings(type(made["optimiser"]).__name__, values)

    def rates(self, steps: int) -> list[float]:
        """As `Side.rates`."""
        with self._built("float32") as made, self._telling():
            schedule = made.function_schedule()
            if schedule is not None:
                return [float(schedule(step)) for step in range(steps)]
            optimiser, scheduler, found = made["optimiser"], made["schedule"], []
            period = int(made.get("steps_per_epoch") or 1)
            for step in range(1, steps + 1):
                found.append(float(optimiser.param_groups[0]["lr"]))
                optimiser.step()  # without gradients it changes nothing, and schedulers warn when it is missing
                if step % period == 0:
                    scheduler.step()
            return found

    def train(self, weights: Arrays, batches: Sequence[Arrays], *, dtype: str) -> list[Trained]:
        """As `Side.train`."""
        with self._built(dtype, weights) as made, self._telling():
            step = made.get("train_step") or self._train_step(made)
            module, found = self._module(made), []
            for batch in batches:
                loss = step(_tensors(batch, dtype))
                found.append(Trained(float(loss), _weights(module)))
            return found

    def _train_step(self, made: Declaration) -> Callable[[Mapping[str, Any]], Any]:
        optimiser, scheduler, backward = made["optimiser"], made.get("schedule"), made.get("backward")
        schedule, period, count = made.function_schedule(), int(made.get("steps_per_epoch") or 1), [0]

        def step(batch: Mapping[str, Any]) -> Any:
            if schedule is not None:
                for group in optimiser.param_groups:
                    group["lr"] = float(schedule(count[0]))
            optimiser.zero_grad()
            loss = made["loss"](self._forward(made, batch), batch)
            loss.backward() if backward is None else backward(loss, made["model"])
            optimiser.step()
            count[0] += 1
            if schedule is None and scheduler is not None and count[0] % period == 0:
                scheduler.step()
            return loss.detach()

        return step

    def _forward(self, made: Declaration, batch: Mapping[str, Any]) -> Any:
        module, forward = self._module(made), made.get("forward")
        if forward is not None:
            return forward(module, batch)
        if "inputs" not in batch:
            raise UsageError(
                f"the batch has no `inputs` ({', '.join(batch)}), so how the network is called is not known",
                where=self.where,
                hint="return forward=lambda model, batch: model(...)",
            )
        return module(batch["inputs"])

    def _structured(self, made: Declaration, values: Mapping[str, Any]) -> Any:
        """Outputs as the loss function knows them; without a network to ask, by their names."""
        if set(values) == {"outputs"} or "model" not in made.parts:
            return values["outputs"] if set(values) == {"outputs"} else dict(values)
        import torch

        with torch.no_grad():
            example = self._forward(made, _tensors(self.batches[0], str(torch.get_default_dtype())[6:]))
        return rebuilt(example, values)

    def _module(self, made: Declaration) -> Any:
        if "model" not in made.parts:
            raise Unsupported("there is no network", where=self.where, hint="let the factory return `model`")
        return made["model"]

    @contextlib.contextmanager
    def _built(self, dtype: str, weights: Arrays | None = None) -> Iterator[Declaration]:
        """A fresh side in a precision, whose constants are made in it, too."""
        import torch

        before = torch.get_default_dtype()
        with seeded(SEED), torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            torch.set_default_dtype(getattr(torch, dtype))
            try:
                made = Declaration(self._factory(), self.where)
                if "model" in made.parts:
                    made["model"].to(getattr(torch, dtype))
                if weights is not None:
                    self._fill(made["model"], weights)
                torch.manual_seed(SEED)
                yield made
            finally:
                torch.set_default_dtype(before)

    def _fill(self, module: torch.nn.Module, weights: Arrays) -> None:
        import torch

        with torch.no_grad():
            for name, tensor in _named(module):
                if name not in weights:
                    raise Unsupported(
                        f"no weight of the reference is known to be {name}", where=self.where, hint="extend the map"
                    )
                if tuple(weights[name].shape) != tuple(tensor.shape):
                    raise Unsupported(
                        f"{name} is {tuple(tensor.shape)}, the reference's is {tuple(weights[name].shape)}",
                        where=self.where,
                    )
                tensor.copy_(torch.from_numpy(weights[name].copy()))

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
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


def _named(module: torch.nn.Module) -> Iterator[tuple[str, Any]]:
    """Parameters and floating-point buffers."""
    yield from module.named_parameters()
    yield from ((name, one) for name, one in module.named_buffers() if one.is_floating_point())


def _weights(module: torch.nn.Module) -> dict[str, Array]:
    return {name: one.detach().numpy().copy() for name, one in _named(module)}


def _tensors(arrays: Arrays, dtype: str) -> dict[str, Any]:
    """Arrays as tensors, floating-point ones in a precision."""
    import numpy as np
    import torch

    made = {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}
    return {name: one.to(getattr(torch, dtype)) if one.is_floating_point() else one for name, one in made.items()}


def _numpy(tensors: Mapping[str, Any]) -> dict[str, Array]:
    return {name: one.detach().numpy().copy() for name, one in tensors.items()}


def _numbers(group: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in group.items():
        if name == "betas":
            yield from zip(("beta1", "beta2"), map(float, value), strict=False)
        elif isinstance(value, bool | int | float):
            yield name, float(value)
