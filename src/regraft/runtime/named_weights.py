"""The weights of a model by the names that its own code gives them, and the same model with others in their place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.errors import Unsupported, UsageError

if TYPE_CHECKING:
    from regraft.runtime.interface import Array, Model
    from regraft.runtime.operator_graph import OperatorGraph


_WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "BatchNormalization", "PRelu", "LSTM", "GRU", "RNN"})
"""Operators of ONNX all of whose operands but the first are weights, however small."""
_TORCH = ("TorchModel", "TorchScriptModel")
_FILLED = frozenset({*_TORCH, "JaxModel", "KerasModel", "OnnxRuntimeModel"})
_READ = _FILLED | {"TorchExportModel"}


class NamedWeight(msgspec.Struct, frozen=True):
    """One tensor of floating-point numbers that a model holds.

    Attributes:
        name: as the model's code, state_dict or file calls it.
        shape: extents.
        dtype: as numpy or the framework names it.
        tensors: constants of the operator graph that hold it; none where no operator takes it.
        aliases: further names of the same tensor (tied weights).
        is_learned: False for what is stored and not trained (running statistics, tables).
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    tensors: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    is_learned: bool = True


def can_be_filled(model: Model) -> bool:
    """Can its weights be replaced, as far as it shows them?"""
    return type(model).__name__ in _FILLED


def are_weights_read(model: Model) -> bool:
    """Is it known how its operators use its weights?"""
    return type(model).__name__ in _READ


def named_weights(model: Model, graph: OperatorGraph) -> dict[str, NamedWeight]:
    """Weights by name, in the order in which the model declares them.

    Args:
        model: that the graph is of.
        graph: its operators.
    """
    kind = type(model).__name__
    any_graph: Any = graph
    any_model: Any = model
    if kind in _TORCH:
        return _of_torch(any_model.module, any_graph)
    if kind in ("JaxModel", "KerasModel") and any_model.weights:
        return {
            name: NamedWeight(name, tuple(value.shape), str(value.dtype), (name,))
            for name, value in any_model.weights.items()
            if "float" in str(value.dtype)
        }
    return _of_constants(graph)


def weight_values(model: Model, graph: OperatorGraph) -> dict[str, Array]:
    """Weight → value; for a model whose weights are in memory, views of them."""
    import numpy as np

    kind = type(model).__name__
    any_model: Any = model
    weights = named_weights(model, graph)
    if kind in _TORCH:
        from regraft.runtime.torch_tensors import array_from_tensor

        held = {**dict(any_model.module.named_parameters()), **dict(any_model.module.named_buffers())}
        return {name: array_from_tensor(held[name].detach()) for name in weights}
    if kind in ("JaxModel", "KerasModel") and any_model.weights:
        return {name: np.asarray(any_model.weights[name]) for name in weights}
    return {name: graph.constant(one.tensors[0]) for name, one in weights.items()}  # type: ignore[misc]


def with_weights(model: Model, values: Mapping[str, Array]) -> Model:
    """The same network with other values in some of its weights.

    Args:
        model: of torch, JAX (a pytree), Keras or ONNX; a network of Keras is changed itself.
        values: weight → array of its shape.
    Raises:
        Unsupported: the runtime's weights cannot be replaced.
        UsageError: there is no such weight, or it has another shape.
    """
    kind = type(model).__name__
    any_model: Any = model
    if kind in _TORCH:
        return _torch_with(any_model, values)  # type: ignore[no-any-return]
    if kind in ("JaxModel", "KerasModel"):
        if not any_model.weights:
            raise Unsupported(
                "the weights lie hidden in a function, so that no others can be put in their place",
                where=model.where,
                hint="return a module (flax, equinox), or jax.tree_util.Partial(function, weights)",
            )
        _check({name: tuple(value.shape) for name, value in any_model.weights.items()}, values, model.where)
        return any_model.with_weights(values)  # type: ignore[no-any-return]
    if kind == "OnnxRuntimeModel":
        from regraft.runtime.onnx_filling import with_constants

        return with_constants(any_model, values)
    raise Unsupported(
        f"weights cannot be put into a model of {model.runtime}",
        where=model.where,
        hint="compare it with the weights that it has: --own-weights",
    )


def _of_torch(module: Any, graph: Any) -> dict[str, NamedWeight]:
    """Parameters and floating-point buffers; tied ones once, under the name that comes first."""
    tensors: dict[str, list[str]] = {}
    for name in graph.constant_names:
        tensors.setdefault(graph.weight_path(name), []).append(name)
    found: dict[int, tuple[str, Any, list[str]]] = {}
    named = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    for name, value in named:
        if value.is_floating_point():
            found.setdefault(id(value), (name, value, []))[2].append(name)
    learned = {id(value) for value in module.parameters()}
    return {
        name: NamedWeight(
            name,
            tuple(value.shape),
            str(value.dtype).removeprefix("torch."),
            tuple(tensor for one in names for tensor in tensors.get(one, ())),
            tuple(names[1:]),
            key in learned,
        )
        for key, (name, value, names) in found.items()
    }


def _of_constants(graph: OperatorGraph) -> dict[str, NamedWeight]:
    """What a graph of a file holds: floating-point constants with at least one axis that operators take.

    Lone numbers are settings, but for those of operators that have weights alone.
    """
    taken = {name for node in graph.nodes for name in node.inputs}
    parts = {name for node in graph.nodes if node.operator in _WEIGHTED for name in node.inputs[1:]}
    found = {}
    for name in graph.constant_names:
        value = graph.constant(name) if name in taken else None
        if value is not None and value.dtype.kind == "f" and value.ndim and (value.size > 1 or name in parts):
            found[name] = NamedWeight(name, tuple(value.shape), str(value.dtype), (name,))
    return found


def _torch_with(model: Any, values: Mapping[str, Array]) -> Any:
    import copy

    import torch

    from regraft.runtime.torch_module import TorchModel
    from regraft.runtime.torch_tensors import tensor_from_array

    module = copy.deepcopy(model.module)
    held = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    _check({name: tuple(value.shape) for name, value in held.items()}, values, model.where)
    with torch.no_grad():
        for name, value in values.items():
            held[name].copy_(tensor_from_array(value, str(value.dtype)))
    if not isinstance(model, TorchModel):
        return model.with_module(module)
    signature = model.signature
    return TorchModel(
        module, inputs=signature.inputs, ranges=signature.ranges, threads=model.threads, where=model.where
    )


def _check(shapes: Mapping[str, tuple[int, ...]], values: Mapping[str, Array], where: str) -> None:
    for name, value in values.items():
        if name not in shapes:
            raise UsageError(f"there is no weight {name!r}", where=where, hint=_nearest(name, shapes))
        if value.shape != shapes[name]:
            raise UsageError(f"the weight {name!r} has shape {shapes[name]}, not {value.shape}", where=where)


def _nearest(name: str, among: Mapping[str, Any]) -> str:
    import difflib

    close = difflib.get_close_matches(name, list(among), n=1, cutoff=0.3)
    return f"did you mean {close[0]}?" if close else ""
