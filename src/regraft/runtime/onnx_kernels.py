"""Single ONNX operators: run as onnxruntime runs them, or in float64 wherever a kernel for that can be found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from regraft.errors import MissingExtra, Unsupported
from regraft.runtime.onnx_float64 import float64_kernel, widened, widened_value

if TYPE_CHECKING:
    import onnx

    from regraft.runtime.interface import Array
    from regraft.runtime.operator_graph import OperatorNode

_FED_BYTES = 1 << 16
"""Inputs up to this size that do not change between runs are part of the session: some kernels want constants."""


Constant = Callable[[str], "Array | None"]


class _Plan:
    """How an operator is run: which inputs are computed, its weights, a session for each combination of dtypes.

    Args:
        varying: inputs that are no weights.
        weights: the others.
    """

    def __init__(self, varying: list[str], weights: dict[str, Array]) -> None:
        self.varying = varying
        self.weights = weights
        self.fed: dict[str, Array] = {}
        """Weights that are no part of the session."""
        self.sessions: dict[tuple[Any, ...], tuple[Any, list[str]]] = {}


class Kernels:
    """Runs operators of one model, each in a session of its own that is kept.

    Args:
        model: whose operator sets count.
        threads: intra-op threads; None for onnxruntime's default.
        where: how errors name the model.
    """

    def __init__(self, model: onnx.ModelProto, *, threads: int | None = None, where: str = "") -> None:
        self._opsets = list(model.opset_import)
        self._ir_version = model.ir_version
        self._threads = threads
        self._where = where
        self._sessions: dict[tuple[Any, ...], Any] = {}
        self._plans: dict[str, _Plan] = {}
        self._without_float64: set[str] = set()
        self._constants: set[str] = {tensor.name for tensor in model.graph.initializer}

    def run(self, proto: onnx.NodeProto, values: Mapping[str, Array], precision: str) -> dict[str, Array]:
        """Run one operator on these inputs.

        Args:
            proto: the operator.
            values: input name → array, all inputs.
            precision: `float32` for as it is, or `float64`.
        Raises:
            Unsupported: no kernel runs it; the message is the runtime's own.
        """
        if precision != "float64":
            return self._in_onnxruntime(proto, values, "")
        wide = widened(proto)
        widened_values = {name: widened_value(proto, name, value) for name, value in values.items()}
        if proto.op_type not in self._without_float64:
            try:
                return self._in_onnxruntime(wide, widened_values, "float64")
            except Unsupported:
                self._without_float64.add(proto.op_type)
        found = float64_kernel(wide, widened_values)
        return found if found is not None else self._in_reference(wide, widened_values)

    def run_as_it_stands(
        self, node: OperatorNode, proto: onnx.NodeProto, values: Mapping[str, Array], constant: Constant
    ) -> dict[str, Array] | None:
        """As `run` in the operator's own precision, for one of the graph: session and weights are looked up once.

        Args:
            node, proto: the operator.
            values: its inputs that are no constants, among others.
            constant: name → value of a weight; None for other tensors.
        Returns:
            None where an input is missing, or a value is given in place of a weight.
        """
        plan = self._plans.get(node.name)
        if plan is None:
            taken = [name for name in dict.fromkeys(node.inputs) if name]
            weights = {name: value for name in taken if (value := constant(name)) is not None}
            plan = self._plans[node.name] = _Plan([name for name in taken if name not in weights], weights)
        if any(name in values for name in plan.weights) or any(name not in values for name in plan.varying):
            return None
        fed = {name: _fed(values[name]) for name in plan.varying}
        key = tuple(_kind(value) for value in fed.values())
        session, outputs = plan.sessions.get(key, (None, []))
        if session is None:
            session, outputs = self._session(proto, fed | plan.weights, ""), [name for name in proto.output if name]
            wanted = {value.name for value in session.get_inputs()}
            plan.fed = {name: _fed(value) for name, value in plan.weights.items() if name in wanted}
            plan.sessions[key] = (session, outputs)
        try:
            return dict(zip(outputs, session.run(outputs, fed | plan.fed), strict=True))
        except Exception as error:  # its exceptions share no base class
            raise self._stopped(proto, error) from error

    def _in_onnxruntime(self, proto: onnx.NodeProto, values: Mapping[str, Array], kind: str) -> dict[str, Array]:
        outputs = [name for name in proto.output if name]
        session = self._session(proto, values, kind)
        fed = {value.name for value in session.get_inputs()}
        try:
            found = session.run(outputs, {name: _fed(value) for name, value in values.items() if name in fed})
        except Exception as error:  # its exceptions share no base class
            raise self._stopped(proto, error) from error
        return dict(zip(outputs, found, strict=True))

    def _session(self, proto: onnx.NodeProto, values: Mapping[str, Array], kind: str) -> Any:
        kept = {name for name in values if name in self._constants and values[name].nbytes <= _FED_BYTES}
        signature = tuple((name, _kind(value)) for name, value in values.items())
        held = tuple((name, values[name].tobytes()) for name in sorted(kept))
        key = (proto.SerializeToString(deterministic=True), kind, signature, held)
        if key not in self._sessions:
            self._sessions[key] = self._new_session(proto, values, kept)
        return self._sessions[key]

    def _new_session(self, proto: onnx.NodeProto, values: Mapping[str, Array], kept: set[str]) -> Any:
        import onnx
        from onnx import helper, numpy_helper

        try:
            import onnxruntime
        except ImportError as error:
            raise MissingExtra("onnxruntime", extra="onnx", where=self._where) from error
        inputs = [_declared(name, value) for name, value in values.items() if name not in kept]
        outputs = [onnx.ValueInfoProto(name=name) for name in proto.output if name]
        weights = [numpy_helper.from_array(values[name], name) for name in kept]
        graph = helper.make_graph([proto], "operator", inputs, outputs, weights)
        model = helper.make_model(graph, opset_imports=self._opsets, ir_version=self._ir_version)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = self._threads or 0
        options.enable_cpu_mem_arena = False
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions share no base class
            raise self._stopped(proto, error) from error

    def _in_reference(self, proto: onnx.NodeProto, values: Mapping[str, Array]) -> dict[str, Array]:
        """The reference evaluator of ONNX, in numpy, which computes in the dtype that it is given."""
        import numpy as np
        from onnx import helper
        from onnx.reference import ReferenceEvaluator

        inputs = [_declared(name, value) for name, value in values.items()]
        names = [name for name in proto.output if name]
        outputs = [helper.make_empty_tensor_value_info(name) for name in names]
        graph = helper.make_graph([proto], "operator", inputs, outputs)
        model = helper.make_model(graph, opset_imports=self._opsets, ir_version=self._ir_version)
        try:
            with np.errstate(all="ignore"):
                found = ReferenceEvaluator(model).run(names, dict(values))
        except Exception as error:  # whatever numpy or an operator without implementation raises
            raise self._stopped(proto, error) from error
        result = dict(zip(names, found, strict=True))
        if any(one.dtype.kind == "f" and one.dtype.itemsize < 8 for value in result.values() for one in _parts(value)):
            raise Unsupported(f"{proto.op_type} {proto.name!r} has no kernel in float64", where=self._where)
        return result

    def _stopped(self, proto: onnx.NodeProto, error: Exception) -> Unsupported:
        return Unsupported(f"{proto.op_type} {proto.name!r}: {str(error).strip()[:300]}", where=self._where)


def _parts(value: Any) -> list[Array]:
    """The tensors of a sequence, or the one that it is."""
    return list(value) if isinstance(value, list | tuple) else [value]


def _kind(value: Any) -> str:
    """An element type in words; of a sequence, that of its first tensor."""
    if isinstance(value, list | tuple):
        return f"sequence of {value[0].dtype if value else 'nothing'}"
    return str(value.dtype)


def _declared(name: str, value: Any) -> onnx.ValueInfoProto:
    """An input of an operator's own graph. A sequence without tensors is taken for one of float32."""
    from onnx import TensorProto, helper

    if not isinstance(value, list | tuple):
        return helper.make_tensor_value_info(name, _element_type(value), None)
    kind = _element_type(value[0]) if value else TensorProto.FLOAT
    return helper.make_tensor_sequence_value_info(name, kind, None)


def _fed(value: Any) -> Any:
    import numpy as np

    if isinstance(value, list | tuple):
        return [_fed(one) for one in value]
    return np.ascontiguousarray(value) if value.ndim else value


def _element_type(value: Array) -> int:
    import numpy as np
    from onnx import helper

    if value.dtype == object:
        return 8
    result: int = helper.np_dtype_to_tensor_dtype(np.dtype(value.dtype))
    return result
