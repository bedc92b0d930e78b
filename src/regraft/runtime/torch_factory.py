"""The user's own code builds the network: torch, with or without weights from a package, or a function of JAX."""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from regraft.errors import NotFound, Unsupported, UsageError
from regraft.package.formats import Port
from regraft.runtime.jax_model import JaxModel, jax_model
from regraft.runtime.keras_model import KerasModel
from regraft.runtime.torch_module import TorchModel
from regraft.runtime.torch_script import TorchScriptModel
from regraft.runtime.torch_tensors import cast_port, dtype_name, precision_of, torch_dtype
from regraft.runtime.torch_weights import WEIGHT_FORMATS, state_dict_from_files

if TYPE_CHECKING:
    import torch
    from torch import nn

    from regraft.package.package import Package
    from regraft.runtime.interface import LoadOptions, Model
    from regraft.runtime.verified import VerifiedFiles


class TorchFactoryRuntime:
    """Loads weights into the network that a factory of the user's builds.

    The factory is called without arguments and its network is filled strictly; or, when it has a parameter
    without a default, it is called with the state_dict and fills the network itself. It returns the network, or
    (network, example inputs): name → tensor; see `torch_model`.
    """

    name = "torch"

    def can_load(self, package: Package, path: str, options: LoadOptions) -> bool:
        """Any file of weights, when the user names a factory."""
        if options.factory is None:
            return False
        _, recognised = package.probe(path)
        return recognised is not None and recognised.name in WEIGHT_FORMATS

    def load(self, files: VerifiedFiles, path: str, options: LoadOptions) -> Model:
        """Read the tensors, then call the factory."""
        assert options.factory is not None
        weights = state_dict_from_files(files, path)
        return model_from_factory(
            options.factory, weights=weights, threads=options.threads, precision=options.precision, where=path
        )


def model_from_factory(
    place: str,
    *,
    weights: Mapping[str, torch.Tensor] | None = None,
    threads: int | None = None,
    precision: str | None = None,
    runtime: str | None = None,
    where: str = "",
) -> TorchModel | TorchScriptModel | JaxModel | KerasModel:
    """Call `module:factory` of the user's and wrap the network that it returns.

    A TorchScript module is called by position, in the order of the examples; a functional `keras.Model` is one by its
    own layers. What else is no `torch.nn.Module` but can be called, and comes with example inputs, is taken as a
    function of JAX; see `jax_model`.

    Args:
        place: `module:factory`; the module must be importable.
        weights: state_dict to fill the network with; None leaves it as the factory built it.
        threads: intra-op threads during a pass.
        precision: dtype to convert the network to; None leaves it as it is.
        runtime: `torch-cuda` for a network of torch on the GPU; all else is as None.
        where: how errors name the model; default `py:module:factory`.
    Raises:
        NotFound: there is no such module or factory.
        UsageError: the factory cannot be called so, or returns no network.
        Unsupported: the weights do not fit the network; the message says which.
    """
    where = where or f"py:{place}"
    network, examples = _built(named_factory(place), place, weights, where)
    if not _is_torch(network):
        if threads is not None:
            raise Unsupported(
                "JAX cannot be told a number of threads once it is imported", where=where, hint="leave --threads out"
            )
        if _is_keras(network):
            return KerasModel(network, precision=precision, where=where)
        return jax_model(network, examples, precision=precision, where=where)
    if _is_program(network):
        return _program(network, examples, threads=threads, precision=precision, where=where)
    if runtime == "torch-cuda":
        from regraft.runtime.torch_cuda import TorchCudaModel

        return TorchCudaModel(torch_model(network, examples, threads=threads, where=where), precision=precision)
    if precision is not None:
        network = network.to(torch_dtype(precision))
    return torch_model(network, examples, threads=threads, where=where)


def torch_model(
    network: nn.Module, examples: Mapping[str, Any], *, threads: int | None = None, where: str = ""
) -> TorchModel:
    """A network as a model, which puts it into evaluation mode.

    Args:
        network: called with keyword arguments.
        examples: parameter of `forward` → tensor or array; empty where every parameter without a default takes what
            the weights are made of. The first axis of the first one is the batch, and in each other one the first
            axis of that extent is. A lone integer (a sample rate) is a setting: nothing else is legal.
        threads: intra-op threads during a pass.
        where: how errors name it.
    """
    dtype = precision_of(iter(network.parameters()))
    ports = [cast_port(port, dtype) for port in _ports(network, examples, dtype)]
    return TorchModel(network, inputs=ports, ranges=_settings(examples), threads=threads, where=where)


def named_factory(place: str) -> Callable[..., Any]:
    """The function that `module:factory` names; its module is imported.

    Raises:
        NotFound: there is no such module or function.
        UsageError: it is no function, or the module raises.
    """
    module_name, _, name = place.removeprefix("py:").partition(":")
    try:
        found: Any = importlib.import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
    except ImportError as error:
        raise NotFound(
            f"cannot import {module_name}: {error}", where=f"py:{place}", hint="is its folder on PYTHONPATH?"
        ) from error
    except AttributeError as error:
        raise NotFound(str(error), where=f"py:{place}") from error
    except (Exception, SystemExit) as error:  # a script that ends by sys.exit(0) has not passed
        frame = traceback.extract_tb(error.__traceback__)[-1]
        line = "" if isinstance(error, SyntaxError) else f", {frame.filename}:{frame.lineno}"
        what = f"importing {module_name} raised {type(error).__name__}: {str(error)[:300]}"
        raise UsageError(what, where=f"py:{place}{line}") from error
    if not callable(found):
        raise UsageError(f"{name} is {type(found).__name__}, not a function", where=f"py:{place}")
    return found  # type: ignore[no-any-return]


def _built(
    factory: Callable[..., Any], place: str, weights: Mapping[str, torch.Tensor] | None, where: str
) -> tuple[Any, Mapping[str, Any]]:
    parameters = inspect.signature(factory).parameters.values()
    required = [
        p for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    if len(required) > 1 or (required and weights is None):
        takes = ", ".join(p.name for p in required)
        raise UsageError(f"the factory wants ({takes}); it is called with nothing, or with a state_dict", where=where)
    result = factory(weights) if required else factory()
    network, examples = result if isinstance(result, tuple) and len(result) == 2 else (result, {})
    is_function = weights is None and callable(network) and bool(examples)
    if not isinstance(examples, Mapping) or not (_is_torch(network) or is_function):
        raise UsageError(
            f"the factory returned {type(result).__name__}; wanted is a torch.nn.Module, (module, example inputs), "
            "or (function of JAX, example inputs)",
            where=f"py:{place}",
        )
    if _is_torch(network) and any("Uninitialized" in type(one).__name__ for one in network.parameters()):
        raise UsageError(
            "the network has lazy modules that nothing was passed through, so that they have no weights",
            where=f"py:{place}",
            hint="call it once with the example inputs in the factory",
        )
    if weights is not None and not required:
        _fill(network, weights, where)
    return network, examples


def _is_torch(network: object) -> bool:
    """Whether it is a `torch.nn.Module`; torch is not imported to find that out."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(network, torch.nn.Module)


def _is_program(network: object) -> bool:
    import torch

    return isinstance(network, torch.jit.ScriptModule)


def _program(
    network: torch.jit.ScriptModule,
    examples: Mapping[str, Any],
    *,
    threads: int | None,
    precision: str | None,
    where: str,
) -> TorchScriptModel:
    """A program whose arguments are described by examples, where there are any."""
    dtype = precision_of(iter(network.parameters()))
    ports = [cast_port(port, dtype) for port in _ports(network, examples, dtype)] if examples else None
    model = TorchScriptModel(network, inputs=ports, threads=threads, where=where)
    return model if precision is None else model.cast(precision)


def _is_keras(network: object) -> bool:
    """Whether it is a `keras.Model` that says its inputs; keras is not imported to find that out."""
    keras = sys.modules.get("keras")
    return keras is not None and isinstance(network, keras.Model) and bool(network.inputs)


def _fill(network: nn.Module, weights: Mapping[str, torch.Tensor], where: str) -> None:
    try:
        network.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise Unsupported(
            "the weights do not fit the factory's network: " + " ".join(lines[1:4])[:500],
            where=where,
            hint="let the factory take the state_dict as its parameter and rename the weights itself",
        ) from error


def _ports(network: nn.Module, examples: Mapping[str, Any], dtype: str) -> list[Port]:
    import torch

    if examples:
        tensors = {str(name): torch.as_tensor(value) for name, value in examples.items()}
        batch = next((tensor.shape[0] for tensor in tensors.values() if tensor.ndim), 0)
        return [Port(name, dtype_name(one.dtype), _extents(one.shape, batch)) for name, one in tensors.items()]
    parameters = inspect.signature(network.forward).parameters.values()
    return [
        Port(p.name, dtype)
        for p in parameters
        if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]


def _extents(shape: Sequence[int], batch: int) -> tuple[int | str | None, ...]:
    """The shape of an example with its batch named: the first axis as long as the batch, wherever that stands."""
    extents: list[int | str | None] = list(shape)
    if batch in extents:
        extents[extents.index(batch)] = "batch"
    return tuple(extents)


def _settings(examples: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """The one legal value of each lone integer."""
    import torch

    lone = {str(name): torch.as_tensor(value) for name, value in examples.items()}
    return {
        name: (int(one), int(one))
        for name, one in lone.items()
        if not one.ndim and not one.is_floating_point() and one.dtype != torch.bool
    }
