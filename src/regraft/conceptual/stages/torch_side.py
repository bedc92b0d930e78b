"""A training in torch, on the CPU: built anew by the user's factory for every question."""

from __future__ import annotations

import contextlib
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from regraft.conceptual.stages.declaration import Declaration, flattened, rebuilt, seeded
from regraft.conceptual.stages.gradient_sites import GradientSite, WatchedCalls, module_sites, passing
from regraft.conceptual.stages.interface import Settings, Slope, Step, Trained
from regraft.conceptual.stages.torch_loop import TorchLoop
from regraft.errors import Unsupported, UsageError

if TYPE_CHECKING:
    import torch

    from regraft.conceptual.stages.interface import Array, Arrays
    from regraft.runtime.interface import Model

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
            self.steps = made.total_steps()
            self.margin = made.margin()
            self.weight_map = made.weight_map()

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

    def evaluated(self, weights: Arrays, batch: Arrays, *, dtype: str) -> dict[str, Array]:
        """As `Side.evaluated`."""
        with self._built(dtype, weights) as made, self._telling():
            self._module(made).eval()
            return _numpy(flattened(self._forward(made, _tensors(batch, dtype))))

    def model(self, weights: Arrays, batch: Arrays) -> tuple[Model, dict[str, Array]]:
        """As `Side.model`."""
        from torch import nn

        from regraft.runtime.torch_factory import torch_model

        with self._built("float32", weights) as made, self._telling():
            module, forward = self._module(made), made.get("forward")
            fed = {name: value for name, value in batch.items() if forward is not None or name == "inputs"}

            class Fed(nn.Module):
                """The network, called as the side calls it, with the parts of a batch by name."""

                def __init__(self) -> None:
                    super().__init__()
                    self.network = module

                def forward(self, **parts: torch.Tensor) -> Any:
                    return self.network(parts["inputs"]) if forward is None else forward(self.network, parts)

            named = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in fed]
            own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
            Fed.forward.__signature__ = inspect.Signature([own, *named])  # type: ignore[attr-defined]  # for torch.export
            return torch_model(Fed(), _tensors(fed, "float32"), where=self.where), dict(fed)

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
            loss.backward() if backward is None else backward(loss, module)
            return _numpy({name: one.grad for name, one in module.named_parameters() if one.grad is not None})

    def gradient_sites(self, weights: Arrays, batch: Arrays) -> list[GradientSite]:
        """Where a gradient may be cut in a pass: outputs and inputs of modules, then operands of functions."""
        with self._built("float32", weights) as made, self._telling():
            network = self._module(made)
            watched = WatchedCalls(network)
            with watched:
                self._forward(made, _tensors(batch, "float32"))
            return [*module_sites(network), *watched.sites]

    def gradients_through(
        self, weights: Arrays, batch: Arrays, cotangents: Arrays, *, dtype: str, site: GradientSite, factor: float
    ) -> dict[str, Array]:
        """As `gradients`, when a site passes gradients on times a factor: 0 cuts them off."""
        with self._built(dtype, weights) as made, self._telling():
            network = self._module(made)
            with passing(network, site, factor):
                found = flattened(self._forward(made, _tensors(batch, dtype)))
            given = _tensors(cotangents, dtype)
            loss = sum((found[name] * given[name]).sum() for name in given)
            if not loss.requires_grad:
                return {}
            backward = made.get("backward")
            loss.backward() if backward is None else backward(loss, network)
            return _numpy({name: one.grad for name, one in network.named_parameters() if one.grad is not None})

    def is_random(self) -> bool:
        """As `Side.is_random`."""
        import torch

        if "model" not in self.parts or not self.batches:
            return False
        with self._built("float32") as made, self._telling():
            batch, found = _tensors(self.batches[0], "float32"), []
            for seed in (SEED, SEED + 1):
                torch.manual_seed(seed)
                found.append(_numpy(flattened(self._forward(made, batch))))
            return any((found[0][name] != found[1][name]).any() for name in found[0])

    def updates(self, weights: Arrays, gradients: Sequence[Arrays], *, dtype: str) -> list[dict[str, Array]]:
        """As `Side.updates`."""
        with self._built(dtype, weights) as made, self._telling():
            module, found = self._module(made), []
            for group in made["optimiser"].param_groups:  # a scheduler sets the rate of its first step at once
                group["lr"] = group.get("initial_lr", group["lr"])
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
                numbers = dict(_numbers({**group, "lr": group.get("initial_lr", group["lr"])}))
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

    def train(self, weights: Arrays, batches: Sequence[Arrays], *, dtype: str, habit: str = "") -> list[Trained]:
        """As `Side.train`."""
        with self._built(dtype, weights) as made, self._telling(), warnings.catch_warnings():
            if habit:  # torch warns of some
                warnings.simplefilter("ignore")
            own = made.get("train_step")
            if own is not None and habit:
                raise Unsupported("the training step is your own and cannot be changed", where=self.where)
            loop = TorchLoop(made, self._forward, habit)
            step = own or loop.step
            module, found = self._module(made), []
            for batch in loop.ordered(batches):
                loss = step(_tensors(batch, dtype))
                found.append(Trained(float(loss), _weights(module)))
            return found

    def curve(self, seed: int) -> Array:
        """As `Side.curve`."""
        with self._built("float32") as made, self._telling():
            return made.curve(seed)

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
