"""An OpenVINO graph as operators that run alone, each compiled as a graph of its own."""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from regraft.errors import Unsupported
from regraft.runtime.openvino_model import OpenVinoModel, input_names, tap_places
from regraft.runtime.operator_graph import OperatorNode

if TYPE_CHECKING:
    from regraft.runtime.interface import Array
    from regraft.runtime.operator_graph import Values


class OpenVinoGraph:
    """The operators of an OpenVINO model that depend on an input, in the precision that the model computes in.

    Args:
        model: compiled model; its segments are compiled with the same settings.
    """

    def __init__(self, model: OpenVinoModel) -> None:
        self.where = model.where
        self._model = model
        self._segments: dict[str, OpenVinoModel] = {}
        self._places = dict(tap_places(model.graph))
        self._names = {(place.get_node().get_name(), place.get_index()): name for name, place in self._places.items()}
        for name, place in zip(input_names(model.graph), model.graph.inputs, strict=True):
            self._names[place.get_node().get_name(), place.get_index()] = name

    @functools.cached_property
    def nodes(self) -> Sequence[OperatorNode]:
        """Operators in topological order; their constant operands are named by the constant."""
        found: dict[str, OperatorNode] = {}
        for place in self._places.values():
            node = place.get_node()
            key = node.get_name()
            if key in found:
                continue
            outputs = tuple(self._names.get((key, i), "") for i in range(node.get_output_size()))
            inputs = tuple(self._taken(value) for value in node.input_values())
            found[key] = OperatorNode(key, node.get_type_name(), inputs, outputs, node.get_friendly_name())
        return tuple(found.values())

    @functools.cached_property
    def inputs(self) -> tuple[str, ...]:
        """Names of the model's inputs."""
        return tuple(port.name for port in self._model.signature.inputs)

    @functools.cached_property
    def outputs(self) -> tuple[str, ...]:
        """The tensors that the results return."""
        return tuple(self._taken(result.input_value(0)) for result in self._model.graph.get_results())

    def constant(self, name: str) -> Array | None:
        """Constants are part of the operators here; only their names are known."""
        return self._constants.get(name)

    @functools.cached_property
    def _constants(self) -> dict[str, Array]:
        return {
            f"constant {node.get_friendly_name()}": node.data
            for node in self._model.graph.get_ops()
            if node.get_type_name() == "Constant"
        }

    @property
    def constant_names(self) -> Sequence[str]:
        """Constants by their friendly names."""
        return tuple(self._constants)

    def with_rounded_weights(self, precision: str, *, kept: Collection[str] = ()) -> OpenVinoGraph:
        """Not offered.

        Raises:
            Unsupported: always.
        """
        raise Unsupported("the constants of an OpenVINO graph cannot be replaced", where=self.where)

    def run(self, node: OperatorNode, values: Values, *, precision: str = "float32") -> dict[str, Any]:
        """Run one operator; see `OperatorGraph.run`. There is no float64 on OpenVINO's CPU plugin."""
        if precision == "float64":
            raise Unsupported("OpenVINO does not compute in float64", where=self.where)
        inputs = list(dict.fromkeys(name for name in node.inputs if self.constant(name) is None and name in self._fed))
        missing = [name for name in inputs if name not in values]
        if missing:
            raise Unsupported(f"{node.operator} {node.name!r} lacks its input {missing[0]!r}", where=self.where)
        if node.name not in self._segments:
            outputs = [name for name in node.outputs if name]
            self._segments[node.name] = self._model.segment(inputs, outputs)
        segment = self._segments[node.name]
        segment.allows_nan = True
        return _run(segment, {name: values[name] for name in inputs})

    def plain(self, values: Values) -> dict[str, Any]:
        """Results of all operators behind some tensors in one pass: compiling operators one by one takes long.

        Args:
            values: tensors to start from, the model's inputs among them.
        Returns:
            tensor name → value of everything that depends on one of the tensors that are no inputs; of everything
            where there are inputs alone.
        """
        feeds = {name: value for name, value in values.items() if name in self._fed}
        cuts = [name for name in feeds if name not in self.inputs]
        if not cuts:
            return {tap.name: tap.value for tap in self._model.trace(feeds) if tap.value is not None}
        behind = self._behind(cuts)
        return _run(self._model.segment(list(feeds), behind), feeds) if behind else {}

    def _behind(self, cuts: list[str]) -> list[str]:
        found = set(cuts)
        behind = []
        for node in self.nodes:
            if any(name in found for name in node.inputs):
                made = [name for name in node.outputs if name and name not in cuts]
                found.update(made)
                behind += made
        return behind

    @functools.cached_property
    def _fed(self) -> frozenset[str]:
        return frozenset((*self._places, *self.inputs))

    def _taken(self, value: Any) -> str:
        source = value.get_node()
        known = self._names.get((source.get_name(), value.get_index()))
        if known is not None:
            return known
        is_constant = source.get_type_name() == "Constant"
        return f"constant {source.get_friendly_name()}" if is_constant else ""  # computed from constants alone


_NUMBERS = frozenset({"int8", "uint8", "int16", "int32", "int64", "float16", "float32", "float64"})


def _run(segment: OpenVinoModel, feeds: Values) -> dict[str, Any]:
    """One pass; integers of the reference may be of another width in OpenVINO, or floating-point numbers."""
    wanted = {port.name: port.dtype for port in segment.signature.inputs}
    fitted = {
        name: value.astype(wanted[name]) if value.dtype.kind in "iu" and wanted.get(name) in _NUMBERS else value
        for name, value in feeds.items()
    }
    return dict(segment(fitted))
