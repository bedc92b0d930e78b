"""onnxruntime: an ONNX graph as a `Model`; every intermediate tensor can be asked for."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from regraft.errors import MissingExtra, Unsupported
from regraft.package.formats import Port
from regraft.runtime.feeding import checked_feeds
from regraft.runtime.grouping import TRACE_BYTES, groups_within, sizes_of
from regraft.runtime.interface import Signature, Tap
from regraft.runtime.onnx_proto import (
    BROKEN_FILE,
    cut,
    estimated_bytes,
    index_ranges,
    precision_of_graph,
    proto_from_bytes,
    self_contained,
    with_outputs,
)
from regraft.runtime.onnx_weights import OnnxWeights, weights_apart, weights_beside
from regraft.runtime.onnx_windows import unfit_window

if TYPE_CHECKING:
    import onnx

    from regraft.package.package import Package
    from regraft.runtime.interface import Array, Feeds, LoadOptions, Model, Reduce
    from regraft.runtime.verified import VerifiedFiles

_DTYPES = {
    "tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16",
    "tensor(bfloat16)": "bfloat16", "tensor(int64)": "int64", "tensor(int32)": "int32", "tensor(int16)": "int16",
    "tensor(int8)": "int8", "tensor(uint64)": "uint64", "tensor(uint32)": "uint32", "tensor(uint16)": "uint16",
    "tensor(uint8)": "uint8", "tensor(bool)": "bool", "tensor(string)": "string",
}  # fmt: skip
_MAX_KEPT_SESSIONS = 4


class OnnxRuntime:
    """Loads ONNX files."""

    name = "onnxruntime"

    def can_load(self, package: Package, path: str, options: LoadOptions) -> bool:
        """A file in ONNX format."""
        _, recognised = package.probe(path)
        return options.factory is None and recognised is not None and recognised.name == "onnx"

    def load(self, files: VerifiedFiles, path: str, options: LoadOptions) -> OnnxRuntimeModel:
        """Load the graph with onnxruntime's own optimisations."""
        model = _loaded(files, path, options.threads)
        if options.precision not in (None, model.effective_precision):
            raise Unsupported(
                f"the graph computes in {model.effective_precision}; onnxruntime cannot be told {options.precision}",
                where=path,
                hint="convert it first: regraft convert REF --to onnx-float16"
                if options.precision == "float16"
                else "",
            )
        return model


class OnnxRuntimeModel:
    """An ONNX model on the CPU.

    Args:
        content: a serialised ModelProto, without external data.
        threads: intra-op threads; None for onnxruntime's default.
        optimise: let onnxruntime fuse and fold the graph.
        trace_bytes: taps that one pass of a trace may hold.
        where: how errors name it.
        weights: those that `content` names as external data, in memory once.
    Raises:
        MissingExtra: onnxruntime is not installed.
        Unsupported: onnxruntime refuses the model; the message is its own.
    """

    runtime = "onnxruntime"

    def __init__(
        self,
        content: bytes,
        *,
        threads: int | None = None,
        optimise: bool = True,
        trace_bytes: int = TRACE_BYTES,
        where: str = "",
        weights: OnnxWeights | None = None,
    ) -> None:
        self._outline = content
        self.weights = weights
        self.where = where
        self.allows_nan = False
        self._threads = threads
        self._optimise = optimise
        self._trace_bytes = trace_bytes
        self._session = _session(content, threads, optimise, where, weights=weights)
        self._traced: dict[tuple[str, ...], Any] = {}
        self._windows: dict[tuple[tuple[str, tuple[int, ...]], ...], str] = {}

    @property
    def threads(self) -> int | None:
        """Intra-op threads; None for onnxruntime's default."""
        return self._threads

    @functools.cached_property
    def signature(self) -> Signature:
        """Inputs and outputs as the graph declares them.

        Raises:
            Unsupported: an output is no tensor: a sequence, or a map.
        """
        return self._declared()

    def _declared(self) -> Signature:
        outputs = self._session.get_outputs()
        if strange := [value for value in outputs if not value.type.startswith("tensor(")]:
            raise Unsupported(
                f"output {strange[0].name!r} is a {strange[0].type}, and only tensors are returned",
                where=self.where,
                hint="make it a tensor in the graph (ConcatFromSequence, SequenceAt), or return the tensors before it",
            )
        return Signature(
            tuple(_port(value) for value in self._session.get_inputs()),
            tuple(_port(value) for value in outputs),
            index_ranges(self.outline),
        )

    @functools.cached_property
    def outline(self) -> onnx.ModelProto:
        """The graph, parsed; not to be changed. Weights that lie beside it are named only."""
        return proto_from_bytes(self._outline, self.where)

    def unfit_window(self, feeds: Feeds) -> str:
        """The pool whose window does not fit at the sizes of these feeds; see `onnx_windows`."""
        shapes = tuple((name, tuple(value.shape)) for name, value in feeds.items())
        if shapes not in self._windows:
            self._windows[shapes] = unfit_window(self.outline, dict(shapes))
        return self._windows[shapes]

    @property
    def proto(self) -> onnx.ModelProto:
        """The graph with all its weights; not to be changed. Made anew each time where they lie beside it."""
        return self.outline if self.weights is None else self.weights.filled(self.outline)

    @property
    def content(self) -> bytes:
        """The graph with all its weights, serialised."""
        if self.weights is None:
            return self._outline
        content: bytes = self.proto.SerializeToString()
        return content

    @functools.cached_property
    def effective_precision(self) -> str:
        """The floating-point dtype that most tensors between nodes have; `int8` where quantised operators compute."""
        return precision_of_graph(self.outline)

    def float_weights(self) -> Iterator[Array]:
        """Weights in float32 that have at least one axis."""
        from onnx import numpy_helper

        for tensor in self.outline.graph.initializer:
            if tensor.data_type == 1 and len(tensor.dims) > 0:
                beside = self.weights.get(tensor.name) if self.weights is not None else None
                yield numpy_helper.to_array(tensor) if beside is None else beside

    def __call__(self, feeds: Feeds) -> dict[str, Array]:
        """One pass."""
        names = [port.name for port in self.signature.outputs]
        return dict(zip(names, self._run(self._session, names, self._checked(feeds)), strict=True))

    def trace(self, feeds: Feeds, *, taps: Sequence[str] | None = None, reduce: Reduce | None = None) -> Iterator[Tap]:
        """Every node output, in the graph's order, marked as an output of the graph.

        The graph optimiser is off: fusions would remove the tensors that are asked for. With `reduce`, as
        many passes are made as keep the tensors of one pass below `trace_bytes`.
        """
        checked = self._checked(feeds)
        wanted = None if taps is None else set(taps)
        made = {name: node for node in self.outline.graph.node for name in node.output if name}
        names = [name for name in made if wanted is None or name in wanted]
        order = {name: position for position, name in enumerate(made)}
        groups = [names] if names else []
        if reduce is not None:
            sizes = estimated_bytes(self.outline, {name: value.shape for name, value in checked.items()})
            groups = list(groups_within(names, sizes_of(names, sizes), budget=self._trace_bytes))
        for group in groups:
            for name, value in zip(group, self._run(self._traced_session(group), group, checked), strict=True):
                if not hasattr(value, "dtype"):
                    continue  # a sequence: what is taken out of it follows
                kept = None if reduce is None else reduce(value)
                node = made[name]
                yield Tap(
                    name, node.op_type, node.name, order[name], value=value if reduce is None else None, kept=kept
                )

    def segment(self, inputs: Sequence[str], outputs: Sequence[str]) -> OnnxRuntimeModel:
        """The subgraph that computes `outputs` from `inputs`, both named by taps; unoptimised, as traces are.

        Raises:
            Unsupported: the outputs also need tensors that are not among the inputs.
        """
        content = cut(self.outline, inputs, outputs, self.where)
        where = f"{self.where} segment"
        return OnnxRuntimeModel(content, threads=self._threads, optimise=False, where=where, weights=self.weights)

    def cast(self, dtype: str) -> Model:
        """The same graph in float64, bfloat16 or float16, operator by operator; see `OnnxStepwiseModel`.

        Raises:
            Unsupported: another precision.
        """
        from regraft.runtime.onnx_stepwise import OnnxStepwiseModel

        return OnnxStepwiseModel(self, dtype)

    def with_graph(self, content: bytes, weights: OnnxWeights | None = None) -> OnnxRuntimeModel:
        """Another graph, run as this one is."""
        return OnnxRuntimeModel(content, threads=self._threads, where=self.where, weights=weights)

    def optimised_proto(self) -> onnx.ModelProto:
        """The graph as onnxruntime's optimiser rewrites it before a pass.

        Raises:
            Unsupported: onnxruntime cannot write it down, or it is too large for that.
        """
        if self.weights is not None:
            raise Unsupported("the optimised graph of a model of this size is not written down", where=self.where)
        import tempfile
        from pathlib import Path

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "optimised.onnx")
            _session(self.content, self._threads, self._optimise, self.where, save_to=str(path))
            if not path.exists():
                raise Unsupported("onnxruntime does not write down its optimised graph", where=self.where)
            return proto_from_bytes(path.read_bytes(), self.where)

    def close(self) -> None:
        """Drop the sessions."""
        self._traced.clear()
        self._session = None

    def _checked(self, feeds: Feeds) -> dict[str, Array]:
        checked = checked_feeds(self.signature, feeds, where=self.where, allows_nan=self.allows_nan)
        # onnxruntime 1.32 ends numpy's own strings at their first NUL
        return {name: value.astype(object) if value.dtype.kind == "U" else value for name, value in checked.items()}

    def _traced_session(self, names: Sequence[str]) -> Any:
        key = tuple(names)
        if key not in self._traced:
            while len(self._traced) >= _MAX_KEPT_SESSIONS:
                del self._traced[next(iter(self._traced))]
            content = with_outputs(self.outline, names)
            self._traced[key] = _session(content, self._threads, False, self.where, weights=self.weights)
        return self._traced[key]

    def _run(self, session: Any, names: Sequence[str], feeds: Feeds) -> list[Array]:
        if session is None:
            raise Unsupported("the model is closed", where=self.where)
        try:
            values: list[Array] = session.run(list(names), feeds)
        except Exception as error:  # its exceptions share no base class
            raise Unsupported(
                f"onnxruntime stopped: {str(error)[:500]}",
                where=self.where,
                hint="feeds: " + ", ".join(f"{name} {value.shape}" for name, value in feeds.items()),
            ) from error
        return values


def _loaded(files: VerifiedFiles, path: str, threads: int | None) -> OnnxRuntimeModel:
    content = files.read(path)
    if b"location" in content:
        weights = weights_beside(files, path, proto_from_bytes(content, path))
        if weights is not None:
            return OnnxRuntimeModel(content, threads=threads, where=path, weights=weights)
        content = self_contained(files, path)
    apart = weights_apart(content, path)
    if apart is None:
        return OnnxRuntimeModel(content, threads=threads, where=path)
    content, weights = apart
    return OnnxRuntimeModel(content, threads=threads, where=path, weights=weights)


def _session(
    content: bytes,
    threads: int | None,
    optimise: bool,
    where: str,
    *,
    save_to: str = "",
    weights: OnnxWeights | None = None,
) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtra("onnxruntime", extra="onnx", where=where) from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads or 0
    if save_to:
        options.optimized_model_filepath = save_to
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimise else levels.ORT_DISABLE_ALL
    try:
        if weights is not None:
            return _session_beside(content, options, weights, where)
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no base class
        raise Unsupported(
            f"onnxruntime refuses the model: {str(error)[:500]}",
            where=where,
            hint=BROKEN_FILE if "INVALID_PROTOBUF" in str(error) else "",
        ) from error


def _session_beside(content: bytes, options: Any, weights: OnnxWeights, where: str) -> Any:
    """A session whose weights are read from where they lie: the first from their file, later ones from its map."""
    import onnxruntime

    outline = proto_from_bytes(content, where)
    path = weights.file_beside(outline)
    if path is not None:
        try:
            return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        finally:
            weights.spill.forget_name()
    held = weights.give_to(options, outline)
    with weights.spill.releasing():
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    del held  # it has copies of its own, packed for its kernels
    return session


def _port(value: Any) -> Port:
    shape = tuple(extent if isinstance(extent, int | str) else None for extent in value.shape)
    return Port(value.name, _DTYPES.get(value.type, value.type), shape)
