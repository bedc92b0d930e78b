"""An ONNX graph in float64: operator by operator, by whichever kernel computes in it."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from regraft.errors import Unsupported
from regraft.runtime.feeding import checked_feeds
from regraft.runtime.interface import Signature, Tap
from regraft.runtime.onnx_graph import OnnxGraph
from regraft.runtime.torch_tensors import cast_port

if TYPE_CHECKING:
    from regraft.runtime.interface import Array, Feeds, Reduce
    from regraft.runtime.onnxruntime_model import OnnxRuntimeModel


class OnnxExactModel:
    """A model that computes what another one means, without the rounding of float32. Slow: for floors, not for use.

    Args:
        model: whose graph is run.
    Source: kernels of onnxruntime where it has them for float64, torch's convolution, and the reference evaluator of
        ONNX for the rest.
    """

    runtime = "onnxruntime"

    def __init__(self, model: OnnxRuntimeModel) -> None:
        self.where = model.where
        self.allows_nan = False
        self._narrow = model
        self._graph = OnnxGraph(model.proto, where=model.where)

    @functools.cached_property
    def signature(self) -> Signature:
        """As the model's own, with float64 for every narrower floating-point type."""
        own = self._narrow.signature
        inputs = tuple(cast_port(port, "float64") for port in own.inputs)
        return Signature(inputs, tuple(cast_port(port, "float64") for port in own.outputs), own.ranges)

    @property
    def effective_precision(self) -> str:
        """Always float64."""
        return "float64"

    def __call__(self, feeds: Feeds) -> dict[str, Array]:
        """One pass.

        Raises:
            Unsupported: an operator has no kernel in float64; the message names it.
        """
        values: dict[str, Any] = dict(self._checked(feeds))
        for node in self._graph.nodes:
            values |= self._graph.run(node, values, precision="float64")
        return {port.name: self._value(values, port.name) for port in self.signature.outputs}

    def trace(self, feeds: Feeds, *, taps: Sequence[str] | None = None, reduce: Reduce | None = None) -> Iterator[Tap]:
        """Every operator's result, in the graph's order."""
        wanted = None if taps is None else set(taps)
        values: dict[str, Any] = dict(self._checked(feeds))
        order = 0
        for node in self._graph.nodes:
            made = self._graph.run(node, values, precision="float64")
            values |= made
            for name, value in made.items():
                if wanted is None or name in wanted:
                    kept = None if reduce is None else reduce(value)
                    yield Tap(name, node.operator, node.scope, order, None if reduce else value, kept)
                order += 1

    def segment(self, inputs: Sequence[str], outputs: Sequence[str]) -> OnnxExactModel:
        """The part between taps; see `OnnxRuntimeModel.segment`."""
        return OnnxExactModel(self._narrow.segment(inputs, outputs))

    def cast(self, dtype: str) -> OnnxExactModel:
        """Itself.

        Raises:
            Unsupported: any other precision than float64.
        """
        if dtype != "float64":
            raise Unsupported(f"a graph in float64 is not cast to {dtype}", where=self.where)
        return self

    def close(self) -> None:
        """Nothing beyond the graph."""

    def _checked(self, feeds: Feeds) -> dict[str, Array]:
        return checked_feeds(self.signature, feeds, where=self.where, allows_nan=self.allows_nan)

    def _value(self, values: dict[str, Any], name: str) -> Array:
        found = values.get(name)
        result: Array | None = self._graph.constant(name) if found is None else found
        if result is None:
            raise Unsupported(f"the graph does not make its output {name!r}", where=self.where)
        return result
