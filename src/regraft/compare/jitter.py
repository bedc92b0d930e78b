"""The fallback where nothing computes in float64: inputs and weights moved by one unit in the last place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from regraft.errors import Unsupported
from regraft.runtime.isolated import IsolatedModel
from regraft.runtime.rounding import neighbours

if TYPE_CHECKING:
    import numpy as np

    from regraft.runtime.interface import Array, Feeds, Model

RUNS = 8
"""Jittered runs of which the floor is made."""
_RESIZING = ("Resize", "Upsample")
"""Operators whose operands after the first say how large the result is: moved by one unit they mean other shapes."""


def jittered_runs(model: Model, *, seed: int, unit: float, runs: int = RUNS) -> Iterator[tuple[Model, int]]:
    """Copies of a model whose floating-point weights are moved at random, one at a time.

    Args:
        model: torch, TorchScript, exported program or onnxruntime model, or one in another process that can do it.
        seed: of the first copy; the next ones follow.
        unit: relative size of the move: the distance between neighbouring numbers of the precision.
        runs: how many copies.
    Yields:
        (copy, seed with which its feeds are to be jittered); the caller closes nothing.
    Raises:
        Unsupported: the weights of this runtime's models cannot be moved.
    """
    for run in range(runs):
        copy = _jittered(model, seed + run, unit)
        yield copy, seed + run
        if isinstance(copy, IsolatedModel):
            copy.close()


def jittered_feeds(feeds: Feeds, *, seed: int, unit: float) -> dict[str, Array]:
    """The feeds with every floating-point element moved by at most `unit`, relatively; integers stay.

    Where nothing is larger than `unit` (zeros, denormal numbers), moves in proportion would move nothing that counts:
    it is moved by `unit` itself, as if it were next to 1.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    moved: dict[str, Array] = {}
    for name, value in feeds.items():
        if value.dtype.kind != "f":
            moved[name] = value
        elif np.abs(value).max(initial=0.0) <= unit:
            steps = rng.integers(-1, 2, size=value.shape)
            moved[name] = (value.astype(np.float64) + unit * steps).astype(value.dtype)
        else:
            moved[name] = neighbours(value, rng, unit)
    return moved


def _jittered(model: Model, seed: int, unit: float) -> Model:
    import numpy as np

    rng = np.random.default_rng(seed)
    kind = type(model).__name__
    if kind in ("TorchModel", "TorchScriptModel", "TorchExportModel"):
        return _torch(model, rng, unit)
    if kind == "OnnxRuntimeModel":
        return _onnx(model, rng, unit)
    if isinstance(model, IsolatedModel):
        return model.with_moved_weights(seed, unit)
    raise Unsupported(
        f"weights of a model in {model.runtime} cannot be moved to measure its noise floor",
        where=model.where,
        hint="name the model that it was converted from as the reference",
    )


def _torch(model: Any, rng: np.random.Generator, unit: float) -> Model:
    import copy

    import numpy as np
    import torch

    clone = copy.copy(model)
    holder = "graph" if hasattr(model, "graph") else "module"
    setattr(clone, holder, copy.deepcopy(getattr(model, holder)))
    network = getattr(clone, holder)
    with torch.no_grad():
        for tensor in {id(t): t for t in (*network.parameters(), *network.buffers())}.values():
            if tensor.is_floating_point():
                moved = neighbours(tensor.detach().to(torch.float64).numpy(), rng, unit)
                tensor.copy_(torch.from_numpy(np.array(moved)))
    result: Model = clone
    return result


def _onnx(model: Any, rng: np.random.Generator, unit: float) -> Model:
    import onnx
    from onnx import numpy_helper

    from regraft.runtime.onnxruntime_model import OnnxRuntimeModel

    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    for tensor in _float_weights(proto):
        moved = neighbours(numpy_helper.to_array(tensor), rng, unit)
        tensor.CopyFrom(numpy_helper.from_array(moved, tensor.name))
    return OnnxRuntimeModel(proto.SerializeToString(), where=f"{model.where} jittered")


def _float_weights(proto: Any) -> Iterator[Any]:
    """Tensors of weights; scalars are settings of operators (an epsilon, a scale) as often as weights."""
    kinds = _float_kinds()
    graphs = list(_graphs(proto.graph))
    sizes = {name for graph in graphs for node in graph.node if node.op_type in _RESIZING for name in node.input[1:]}
    for graph in graphs:
        wanted = [tensor for tensor in graph.initializer if tensor.name not in sizes]
        for node in graph.node:
            if sizes.isdisjoint(node.output):
                wanted += [attribute.t for attribute in node.attribute if attribute.HasField("t")]
        yield from (tensor for tensor in wanted if tensor.data_type in kinds and list(tensor.dims))


def _graphs(graph: Any) -> Iterator[Any]:
    """A graph and those inside of its operators."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else ())):
                yield from _graphs(inner)


def _float_kinds() -> Mapping[int, str]:
    from regraft.runtime.onnx_proto import FLOAT_NAMES

    return {kind: name for kind, name in FLOAT_NAMES.items() if name != "bfloat16"}
