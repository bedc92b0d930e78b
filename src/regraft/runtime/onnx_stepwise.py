"""An ONNX graph in another precision, operator by operator: float64 for real, lower ones by rounding every result."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from regraft.errors import Unsupported
from regraft.runtime.feeding import checked_feeds
from regraft.runtime.interface import Signature, Tap
from regraft.runtime.onnx_graph import OnnxGraph
from regraft.runtime.rounding import round_to
from regraft.runtime.torch_tensors import cast_port

if TYPE_CHECKING:
    from regraft.runtime.interface import Array, Feeds, Reduce
    from regraft.runtime.onnxruntime_model import OnnxRuntimeModel
    from regraft.runtime.operator_graph import OperatorNode

_PRECISIONS = ("float64", "tensorfloat32", "bfloat16", "float16")
_PRODUCTS = frozenset("Conv ConvTranspose Gemm MatMul Einsum LSTM GRU RNN".split())
"""Operators whose factors TensorFloat-32 rounds."""


class OnnxStepwiseModel:
    """A model that computes what another one means, in another precision. Slow: for floors, not for use.

    In float64 every operator computes without the rounding of float32. In bfloat16 and float16 weights, inputs and
    every operator's result are rounded to that precision, and operators accumulate in float32, as hardware does. In
    tensorfloat32 the factors of convolutions and products of matrices are, and nothing else.

    Args:
        model: whose graph is run.
        precision: `float64`, `tensorfloat32`, `bfloat16` or `float16`.
    Raises:
        Unsupported: any other precision.
    Source: for float64, kernels of onnxruntime where it has them, torch's convolution, and the reference evaluator of
        ONNX for the rest.
    """

    runtime = "onnxruntime"

    def __init__(self, model: OnnxRuntimeModel, precision: str) -> None:
        if precision not in _PRECISIONS:
            raise Unsupported(
                f"onnxruntime does not run whole graphs in {precision}",
                where=model.where,
                hint="verify against the model it was converted from: regraft verify REFERENCE CANDIDATE",
            )
        self.where = model.where
        self.allows_nan = False
        self.effective_precision = precision
        self._narrow = model
        self._is_exact = precision == "float64"
        self._rounds_factors = precision == "tensorfloat32"
        graph = OnnxGraph(model.outline, where=model.where, weights=model.weights)
        self._graph = graph if self._is_exact or self._rounds_factors else graph.with_rounded_weights(precision)

    @functools.cached_property
    def signature(self) -> Signature:
        """As the model's own; in float64 with float64 for every narrower floating-point type."""
        own = self._narrow.signature
        if not self._is_exact:
            return own
        inputs = tuple(cast_port(port, "float64") for port in own.inputs)
        return Signature(inputs, tuple(cast_port(port, "float64") for port in own.outputs), own.ranges)

    def __call__(self, feeds: Feeds) -> dict[str, Array]:
        """One pass.

        Raises:
            Unsupported: an operator has no kernel in float64; the message names it.
        """
        values = self._checked(feeds)
        for node in self._graph.nodes:
            values |= self._run(node, values)
        return {port.name: self._value(values, port.name) for port in self.signature.outputs}

    def trace(self, feeds: Feeds, *, taps: Sequence[str] | None = None, reduce: Reduce | None = None) -> Iterator[Tap]:
        """Every operator's result, in the graph's order."""
        wanted = None if taps is None else set(taps)
        values = self._checked(feeds)
        order = 0
        for node in self._graph.nodes:
            made = self._run(node, values)
            values |= made
            for name, value in made.items():
                if (wanted is None or name in wanted) and hasattr(value, "dtype"):
                    kept = None if reduce is None else reduce(value)
                    yield Tap(name, node.operator, node.scope, order, None if reduce else value, kept)
                order += 1

    def segment(self, inputs: Sequence[str], outputs: Sequence[str]) -> OnnxStepwiseModel:
        """The part between taps; see `OnnxRuntimeModel.segment`."""
        return OnnxStepwiseModel(self._narrow.segment(inputs, outputs), self.effective_precision)

    def cast(self, dtype: str) -> OnnxStepwiseModel:
        """The same graph in another of these precisions."""
        return OnnxStepwiseModel(self._narrow, dtype)

    def close(self) -> None:
        """Nothing beyond the graph."""

    def _checked(self, feeds: Feeds) -> dict[str, Any]:
        found = checked_feeds(self.signature, feeds, where=self.where, allows_nan=self.allows_nan)
        return found if self._rounds_factors else {name: self._rounded(value) for name, value in found.items()}

    def _run(self, node: OperatorNode, values: dict[str, Any]) -> dict[str, Any]:
        if self._rounds_factors:
            return self._graph.run(node, self._with_factors(node, values))
        made = self._graph.run(node, values, precision="float64" if self._is_exact else "float32")
        return {name: self._rounded(value) for name, value in made.items()}

    def _with_factors(self, node: OperatorNode, values: dict[str, Any]) -> dict[str, Any]:
        if node.operator not in _PRODUCTS:
            return values
        taken = {name: values.get(name, self._graph.constant(name)) for name in node.inputs if name}
        return {**values, **{name: self._rounded(value) for name, value in taken.items()}}

    def _rounded(self, value: Any) -> Any:
        if self._is_exact or getattr(value, "dtype", None) != "float32":
            return value
        return round_to(value, self.effective_precision)

    def _value(self, values: dict[str, Any], name: str) -> Array:
        found = values.get(name)
        result: Array | None = self._graph.constant(name) if found is None else found
        if result is None:
            raise Unsupported(f"the graph does not make its output {name!r}", where=self.where)
        return result
