"""A TFLite graph, or an ONNX graph in tract, as operators that run alone, each cut out of the file."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from regraft.errors import Unsupported
from regraft.runtime.interface import TapStatistics
from regraft.runtime.operator_graph import OperatorNode

if TYPE_CHECKING:
    from regraft.runtime.interface import Array, Feeds, Model
    from regraft.runtime.operator_graph import Values

_MAX_PARTS = 512
"""Parts that are kept; each is an interpreter with a copy of the file's weights that it uses."""


class LiteRtGraph:
    """The operators of a model whose traces name what each takes, as one pass over given feeds shows them.

    Args:
        model: of LiteRT or tract, in this process or isolated.
        feeds: inputs that it accepts.
    """

    def __init__(self, model: Model, feeds: Feeds) -> None:
        self.where = model.where
        self._model = model
        self._parts: dict[str, Model] = {}
        self.inputs: Sequence[str] = tuple(port.name for port in model.signature.inputs)
        self.outputs: Sequence[str] = tuple(port.name for port in model.signature.outputs)
        nodes: dict[tuple[str, tuple[str, ...]], list[str]] = {}
        for tap in model.trace(feeds, reduce=_nothing):
            nodes.setdefault((tap.operator, tap.inputs or ()), []).append(tap.name)
        computed = {*self.inputs, *(name for outputs in nodes.values() for name in outputs)}
        self.nodes: Sequence[OperatorNode] = tuple(
            OperatorNode(
                outputs[0], operator, tuple(name if name in computed else "" for name in inputs), tuple(outputs)
            )
            for (operator, inputs), outputs in nodes.items()
        )

    def constant(self, name: str) -> Array | None:
        """Constants are part of the operators here, and no inputs of theirs."""
        return None

    @property
    def constant_names(self) -> Sequence[str]:
        """None: see `constant`."""
        return ()

    def with_rounded_weights(self, precision: str, *, kept: Collection[str] = ()) -> LiteRtGraph:
        """Not offered.

        Raises:
            Unsupported: always.
        """
        raise Unsupported(f"weights of a model in {self._model.runtime} cannot be replaced", where=self.where)

    def run(self, node: OperatorNode, values: Values, *, precision: str = "float32") -> dict[str, Any]:
        """Run one operator; see `OperatorGraph.run`. Tensors whose values are not given are the file's own."""
        if precision == "float64":
            raise Unsupported(f"{self._model.runtime} has no float64 kernel for {node.operator}", where=self.where)
        given = {name: values[name] for name in dict.fromkeys(node.inputs) if name in values}
        key = f"{node.name} {sorted(given)}"
        if key not in self._parts:
            while len(self._parts) >= _MAX_PARTS:
                self._parts.pop(next(iter(self._parts))).close()
            self._parts[key] = self._model.segment(list(given), [name for name in node.outputs if name])
        self._parts[key].allows_nan = True
        return dict(self._parts[key](given))


def _nothing(value: Array) -> TapStatistics:
    return TapStatistics(value.shape, str(value.dtype), 0.0, 0.0, 0.0)
