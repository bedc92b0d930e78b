"""An exported torch program as operators that run alone, in its own precision or in float64."""

from __future__ import annotations

import functools
import operator
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from regraft.errors import Unsupported
from regraft.runtime.operator_graph import OperatorNode
from regraft.runtime.torch_editing import changed_call, settings_of
from regraft.runtime.torch_export import TorchExportModel, module_scope
from regraft.runtime.torch_tensors import (
    array_from_tensor,
    input_from_array,
    running_with,
    tensor_from_array,
    torch_dtype,
)

if TYPE_CHECKING:
    import torch

    from regraft.runtime.interface import Array
    from regraft.runtime.operator_graph import Values

WEIGHT_PATH = "weight_path"
"""Entry of a node's `meta`: where the module that was traced keeps the weight, if not where the graph does."""
_CHECKS = ("_assert", "sym_constrain")


class TorchGraph:
    """The operators of an exported program; a tensor is named by the node that makes it, or that picks it out.

    Args:
        model: the program.
        threads: intra-op threads of each operator; None for torch's own number.
    """

    def __init__(self, model: TorchExportModel, *, threads: int | None = None) -> None:
        self.where = model.where
        self._model = model
        self._threads = threads
        self._places = {node.name: node for node in model.graph.graph.nodes}
        self._constants: dict[str, Any] = {}

    @functools.cached_property
    def nodes(self) -> Sequence[OperatorNode]:
        """Every call, in the order of the program; what only checks sizes is left out."""
        return tuple(self._read_nodes())

    @functools.cached_property
    def inputs(self) -> tuple[str, ...]:
        """The names of the model's inputs."""
        return tuple(str(node.target) for node in self._places.values() if node.op == "placeholder")

    @functools.cached_property
    def outputs(self) -> tuple[str, ...]:
        """The nodes that are returned, in the order in which the model names its outputs."""
        import torch

        end = next(node for node in self._places.values() if node.op == "output")
        flat, _ = torch.utils._pytree.tree_flatten(end.args[0])
        return tuple(node.name for node in flat if isinstance(node, torch.fx.Node))

    def constant(self, name: str) -> Array | None:
        """The value of a weight, in its own precision; None for what is computed."""
        place = self._places.get(name)
        if place is None or place.op != "get_attr":
            return None
        if name not in self._constants:
            value = self._attribute(place)
            self._constants[name] = array_from_tensor(value) if hasattr(value, "dtype") else None
        result: Array | None = self._constants[name]
        return result

    @functools.cached_property
    def constant_names(self) -> tuple[str, ...]:
        """Nodes that read a weight."""
        return tuple(node.name for node in self._places.values() if node.op == "get_attr")

    def place(self, node: OperatorNode) -> torch.fx.Node:
        """The call that an operator is, as torch has it."""
        found: torch.fx.Node = self._places[node.name]
        return found

    def weight_path(self, name: str) -> str:
        """Where the module keeps the weight that a node reads: `encoder.0.weight`."""
        place = self._places[name]
        return str(place.meta.get(WEIGHT_PATH, place.target))

    def with_rounded_weights(self, precision: str, *, kept: Collection[str] = ()) -> TorchGraph:
        """See `OperatorGraph.with_rounded_weights`."""
        import copy

        import torch

        graph = copy.deepcopy(self._model.graph)
        targets = {str(self._places[name].target) for name in kept}
        with torch.no_grad():
            for name, weight in (*graph.named_parameters(), *graph.named_buffers()):
                if weight.is_floating_point() and weight.numel() > 1 and name not in targets:
                    weight.copy_(weight.to(torch_dtype(precision)).to(weight.dtype))
        inputs = self._model.signature.inputs
        model = TorchExportModel(graph, inputs=inputs, threads=self._threads, where=self.where)
        return TorchGraph(model, threads=self._threads)

    def run(self, node: OperatorNode, values: Values, *, precision: str = "float32") -> dict[str, Any]:
        """Run one operator; see `OperatorGraph.run`. Sizes and tuples travel as they are."""
        place = self._places[node.name]
        return self._call(node, values, place.target, {}, wide=precision == "float64")

    def settings(self, node: OperatorNode) -> dict[str, Any]:
        """See `EditableGraph.settings`."""
        return settings_of(self._places[node.name])

    def run_changed(
        self,
        node: OperatorNode,
        values: Values,
        *,
        operator: str | None = None,
        settings: Mapping[str, Any] | None = None,
        inputs: Sequence[str] | None = None,
    ) -> dict[str, Any]:
        """See `EditableGraph.run_changed`."""
        place = self._places[node.name]
        call = changed_call(place, operator=operator, settings=settings)
        taken = {} if inputs is None else dict(zip(node.inputs, inputs, strict=True))
        return self._call(node, values, call, taken, wide=False)

    def _call(
        self, node: OperatorNode, values: Values, target: Any, taken: Mapping[str, str], *, wide: bool
    ) -> dict[str, Any]:
        """Call something with the operands of an operator.

        Args:
            node: whose operands they are.
            values: of tensors.
            target: what is called.
            taken: operand → tensor to give in its place.
            wide: compute in float64.
        """
        import torch

        place = self._places[node.name]
        is_changing = bool(getattr(getattr(place.target, "_schema", None), "is_mutable", False))

        def given(used: torch.fx.Node) -> Any:
            name = str(used.target) if used.op == "placeholder" else used.name
            name = taken.get(name, name)
            if name in values:
                return _to_torch(values[name], wide=wide, is_changed=is_changing)
            if name not in self._places or self._places[name].op != "get_attr":
                raise Unsupported(f"{node.name} lacks its input {name!r}", where=self.where)
            value = self._attribute(self._places[name])
            value = value.double() if wide and _is_floating(value) else value
            return value.clone() if is_changing and hasattr(value, "clone") else value

        args, kwargs = torch.fx.map_arg((place.args, place.kwargs), given)
        if wide:
            args, kwargs = torch.utils._pytree.tree_map(_widened_dtype, (args, kwargs))
        with running_with(self._threads):
            try:
                found = target(*args, **kwargs)
            except Exception as error:
                raise Unsupported(
                    f"{node.operator} {node.name!r}: {str(error).strip()[:300]}", where=self.where
                ) from error
        result = _from_torch(found)
        results = result if node.outputs != (node.name,) else (result,)
        made = {name: one for name, one in zip(node.outputs, results, strict=False) if name}
        if wide and any(_is_narrow(one) for one in made.values()):
            raise Unsupported(f"{node.operator} {node.name!r} does not keep float64", where=self.where)
        return made

    def _read_nodes(self) -> Iterator[OperatorNode]:
        for place in self._places.values():
            if place.op in ("placeholder", "get_attr", "output") or str(place.target).startswith(
                ("aten._assert", *_CHECKS)
            ):
                continue
            if _is_part(place) and _parts(place.args[0]):
                continue  # a result of the operator that makes several
            if place.op != "call_function":
                raise Unsupported(f"the program has a {place.op}, which cannot be run alone", where=self.where)
            inputs = tuple(
                str(used.target) if used.op == "placeholder" else used.name for used in place.all_input_nodes
            )
            outputs = _parts(place) or (place.name,)
            yield OperatorNode(place.name, str(place.target), inputs, outputs, module_scope(place))

    def _attribute(self, place: torch.fx.Node) -> Any:
        return functools.reduce(getattr, str(place.target).split("."), self._model.graph)


def _is_part(place: Any) -> bool:
    return place.target is operator.getitem and isinstance(place.args[1], int)


def _parts(place: Any) -> tuple[str, ...]:
    """The names of the results of an operator that makes several; empty for others."""
    users = list(place.users)
    if not users or not all(map(_is_part, users)):
        return ()
    names = {user.args[1]: user.name for user in reversed(users)}
    if min(names) < 0 or len(names) < len(users):
        return ()
    return tuple(names.get(position, "") for position in range(max(names) + 1))


def _is_narrow(value: Any) -> bool:
    return hasattr(value, "dtype") and value.dtype.kind == "f" and str(value.dtype) != "float64"


def _to_torch(value: Any, *, wide: bool, is_changed: bool = False) -> Any:
    """A value for an operator; in memory of its own where the operator works in place on it."""
    if isinstance(value, tuple):
        return tuple(_to_torch(part, wide=wide, is_changed=is_changed) for part in value)
    if not hasattr(value, "dtype"):
        return value
    is_wide = wide and value.dtype.kind == "f"
    make = input_from_array if is_changed else tensor_from_array
    return make(value, "float64" if is_wide else str(value.dtype))


def _from_torch(found: Any) -> Any:
    if isinstance(found, tuple | list):
        return tuple(_from_torch(part) for part in found)
    if hasattr(found, "detach"):
        return array_from_tensor(found).copy()
    return found


def _widened_dtype(value: Any) -> Any:
    import torch

    narrow = (torch.float32, torch.float16, torch.bfloat16)
    return torch.float64 if isinstance(value, torch.dtype) and value in narrow else value


def _is_floating(value: Any) -> bool:
    return hasattr(value, "is_floating_point") and bool(value.is_floating_point())
