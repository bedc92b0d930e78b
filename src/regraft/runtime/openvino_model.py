"""OpenVINO: an IR or ONNX graph as a `Model`. Its effective precision is read back: by default it lowers it."""

from __future__ import annotations

import functools
import math
import posixpath
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from regraft.errors import Damaged, MissingExtra, Unsupported
from regraft.package.formats import Port
from regraft.runtime.feeding import checked_feeds
from regraft.runtime.grouping import TRACE_BYTES, groups_within
from regraft.runtime.interface import Signature, Tap
from regraft.runtime.onnx_proto import self_contained

if TYPE_CHECKING:
    import openvino

    from regraft.package.package import Package
    from regraft.runtime.interface import Array, Feeds, LoadOptions, Reduce
    from regraft.runtime.verified import VerifiedFiles

_DTYPES = {
    "f64": "float64", "f32": "float32", "f16": "float16", "bf16": "bfloat16", "i64": "int64", "i32": "int32",
    "i16": "int16", "i8": "int8", "u64": "uint64", "u32": "uint32", "u16": "uint16", "u8": "uint8",
    "boolean": "bool", "string": "string",
}  # fmt: skip
_HINTS = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}
_NOT_TAPS = frozenset({"Parameter", "Constant", "Result", "Assign", "ReadValue"})
_PASSED_THROUGH = frozenset({"Convert", "Reshape", "Squeeze", "Unsqueeze"})


class OpenVinoRuntime:
    """Loads OpenVINO IR, and ONNX through OpenVINO's own front end."""

    name = "openvino"

    def can_load(self, package: Package, path: str, options: LoadOptions) -> bool:
        """The XML of an IR, or an ONNX file."""
        _, recognised = package.probe(path)
        return options.factory is None and recognised is not None and recognised.name in ("openvino-ir", "onnx")

    def load(self, files: VerifiedFiles, path: str, options: LoadOptions) -> OpenVinoModel:
        """Read the graph and compile it for the CPU."""
        graph = _graph(files, path)
        return OpenVinoModel(graph, threads=options.threads, precision=options.precision, where=path)


class OpenVinoModel:
    """An OpenVINO graph, compiled for the CPU.

    Args:
        graph: `openvino.Model`; it is not changed.
        threads: inference threads; None for OpenVINO's default.
        precision: `float32`, `float16` or `bfloat16` to demand; None lets OpenVINO choose, which on many
            CPUs means bfloat16.
        trace_bytes: taps that one pass of a trace may hold.
        where: how errors name it.
    Raises:
        MissingExtra: openvino is not installed.
        Unsupported: OpenVINO refuses the model or the precision; the message is its own.
    """

    runtime = "openvino"

    def __init__(
        self,
        graph: openvino.Model,
        *,
        threads: int | None = None,
        precision: str | None = None,
        trace_bytes: int = TRACE_BYTES,
        where: str = "",
    ) -> None:
        self.graph = graph
        self.where = where
        self.allows_nan = False
        self._threads = threads
        self._precision = precision
        self._trace_bytes = trace_bytes
        self._compiled = self._compile(graph)
        self._request = self._compiled.create_infer_request()
        if precision is not None and self._hint != _HINTS[precision]:
            raise Unsupported(f"OpenVINO computes in {self._hint} although {precision} was asked for", where=where)

    @functools.cached_property
    def signature(self) -> Signature:
        """Inputs and outputs; a dynamic dimension has no name in OpenVINO, so it is None."""
        return Signature(
            tuple(_port(place, f"input_{i}") for i, place in enumerate(self.graph.inputs)),
            tuple(_port(place, f"output_{i}") for i, place in enumerate(self.graph.outputs)),
            _index_ranges(self.graph),
        )

    @property
    def effective_precision(self) -> str:
        """What the compiled model says that it infers in; `int8` where the graph is quantised."""
        if any(operator.get_type_name() == "FakeQuantize" for operator in self.graph.get_ops()):
            return "int8"
        return _DTYPES.get(self._hint, self._hint)

    @property
    def _hint(self) -> str:
        return str(self._compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())

    def __call__(self, feeds: Feeds) -> dict[str, Array]:
        """One pass."""
        values = self._infer(self._request, self._checked(feeds))
        return {port.name: value for port, value in zip(self.signature.outputs, values, strict=True)}

    def trace(self, feeds: Feeds, *, taps: Sequence[str] | None = None, reduce: Reduce | None = None) -> Iterator[Tap]:
        """The output of every operator that depends on an input, added to the results of a copy of the graph.

        OpenVINO fuses what is not asked for, so the tensors may differ in rounding from those of a plain
        pass. With `reduce`, as many passes are made as keep the tensors of one pass below `trace_bytes`.
        """
        checked = self._checked(feeds)
        wanted = None if taps is None else set(taps)
        sized = self._sized(checked) if reduce is not None else self.graph
        places = [
            (order, name) for order, (name, _) in enumerate(tap_places(self.graph)) if wanted is None or name in wanted
        ]
        groups = [places] if places else []
        if reduce is not None:
            known = {name: _size_bytes(place) for name, place in tap_places(sized)}
            sizes = [known.get(name) for _, name in places]
            groups = list(groups_within(places, sizes, budget=self._trace_bytes))
        for group in groups:
            yield from self._pass(group, checked, reduce)

    def segment(self, inputs: Sequence[str], outputs: Sequence[str]) -> OpenVinoModel:
        """The subgraph that computes `outputs` from `inputs`, both named by taps or inputs of the model.

        Raises:
            Unsupported: a name is no tap, or the outputs also need tensors that are not among the inputs.
        """
        import openvino
        from openvino import opset13

        copy = self.graph.clone()
        places = dict(tap_places(copy))
        own = {_name_of(place, f"input_{i}"): place for i, place in enumerate(copy.inputs)}
        for name in (*inputs, *outputs):
            if name not in places and name not in own:
                raise Unsupported(f"the graph cannot be cut at {name!r}: there is no such tensor", where=self.where)
        parameters = []
        ends = [places[name] if name in places else own[name] for name in outputs]
        for name in inputs:
            place = places[name] if name in places else own[name]
            parameter = opset13.parameter(place.get_partial_shape(), place.get_element_type(), name=name)
            for target in place.get_target_inputs():
                target.replace_source_output(parameter.output(0))
            parameter.output(0).get_tensor().set_names({name})
            parameters.append(parameter)
        results = []
        for name, end in zip(outputs, ends, strict=True):
            result = opset13.result(end)
            result.output(0).get_tensor().add_names({name})
            results.append(result)
        try:
            part = openvino.Model(results, parameters, "segment")
        except RuntimeError as error:
            raise Unsupported(f"the outputs need more than these inputs: {_brief(error)}", where=self.where) from error
        return OpenVinoModel(part, threads=self._threads, precision=self._precision, where=f"{self.where} segment")

    def cast(self, dtype: str) -> OpenVinoModel:
        """The same graph, compiled for another precision.

        Raises:
            Unsupported: the CPU plugin has no such precision; float64 it has not.
        """
        return OpenVinoModel(self.graph, threads=self._threads, precision=dtype, where=self.where)

    def close(self) -> None:
        """Drop the compiled model."""
        self._request = self._compiled = None

    def _checked(self, feeds: Feeds) -> dict[str, Array]:
        return checked_feeds(self.signature, feeds, where=self.where, allows_nan=self.allows_nan)

    def _compile(self, graph: openvino.Model) -> Any:
        if self._precision is not None and self._precision not in _HINTS:
            raise Unsupported(
                f"OpenVINO's CPU plugin does not compute in {self._precision}",
                where=self.where,
                hint=f"it computes in {', '.join(_HINTS)}",
            )
        properties: dict[str, Any] = {}
        if self._threads is not None:
            properties["INFERENCE_NUM_THREADS"] = self._threads
        if self._precision is not None:
            properties["INFERENCE_PRECISION_HINT"] = _HINTS[self._precision]
        try:
            return _core(self.where).compile_model(graph, "CPU", properties)
        except RuntimeError as error:
            raise Unsupported(f"OpenVINO refuses the model: {_brief(error)}", where=self.where) from error

    def _infer(self, request: Any, feeds: Feeds) -> list[Array]:
        if request is None:
            raise Unsupported("the model is closed", where=self.where)
        try:
            found = request.infer(dict(enumerate(feeds.values())), share_inputs=True)
        except RuntimeError as error:
            raise Unsupported(
                f"OpenVINO stopped: {_brief(error)}",
                where=self.where,
                hint="feeds: " + ", ".join(f"{name} {value.shape}" for name, value in feeds.items()),
            ) from error
        return list(found.values())

    def _pass(self, group: Sequence[tuple[int, str]], feeds: Feeds, reduce: Reduce | None) -> Iterator[Tap]:
        import openvino
        from openvino import opset13

        copy = self.graph.clone()
        places = dict(tap_places(copy))
        results = [opset13.result(places[name]) for _, name in group]
        traced = openvino.Model(results, copy.get_parameters(), "trace")
        values = self._infer(self._compile(traced).create_infer_request(), feeds)
        for (order, name), value in zip(group, values, strict=True):
            node = places[name].get_node()
            kept = None if reduce is None else reduce(value)
            yield Tap(
                name,
                node.get_type_name(),
                node.get_friendly_name(),
                order,
                value=value if reduce is None else None,
                kept=kept,
            )

    def _sized(self, feeds: Feeds) -> openvino.Model:
        """A copy with the shapes of these feeds, from which the sizes of taps follow."""
        copy = self.graph.clone()
        try:
            copy.reshape({i: list(value.shape) for i, value in enumerate(feeds.values())})
        except RuntimeError:  # a graph that fixes shapes elsewhere: sizes stay unknown, the trace does not
            return self.graph
        return copy


def graph_from_bytes(content: bytes, weights: bytes | None = None, *, where: str = "") -> openvino.Model:
    """Read a graph from memory.

    Args:
        content: ONNX, or the XML of an IR.
        weights: the `.bin` of an IR.
        where: how errors name it.
    Raises:
        Unsupported: OpenVINO refuses it.
        MissingExtra: openvino is not installed.
    """
    core = _core(where)
    try:
        return core.read_model(content, weights) if weights is not None else core.read_model(content)
    except RuntimeError as error:
        raise Unsupported(f"OpenVINO refuses the model: {_brief(error)}", where=where) from error


def _graph(files: VerifiedFiles, path: str) -> openvino.Model:
    if files.format_of(path) == "onnx":
        return graph_from_bytes(self_contained(files, path), where=path)
    stem = posixpath.splitext(posixpath.basename(path))[0]
    weights = files.beside(path, f"{stem}.bin")
    if weights is None:
        raise Damaged(f"the constants of the graph, {stem}.bin, are not beside it", where=path)
    return graph_from_bytes(files.read(path), files.read_opaque(weights), where=path)


def _core(where: str) -> Any:
    try:
        import openvino
    except ImportError as error:
        raise MissingExtra("openvino", extra="openvino", where=where) from error
    return _shared_core(openvino.Core)


@functools.cache
def _shared_core(core: Any) -> Any:
    """One Core for the process: starting one reads its plugins."""
    return core()


def tap_places(graph: openvino.Model) -> list[tuple[str, Any]]:
    """Name and place of every output that depends on an input, in topological order; names made unique."""
    live: set[str] = {node.get_name() for node in graph.get_parameters()}
    seen: set[str] = set()
    places = []
    for node in graph.get_ordered_ops():
        if not any(value.get_node().get_name() in live for value in node.input_values()):
            continue
        live.add(node.get_name())
        if node.get_type_name() in _NOT_TAPS:
            continue
        for index, place in enumerate(node.outputs()):
            fallback = node.get_friendly_name() + (f".{index}" if len(node.outputs()) > 1 else "")
            name = _name_of(place, fallback)
            name = name if name not in seen else f"{name}@{node.get_name()}.{index}"
            seen.add(name)
            places.append((name, place))
    return places


def input_names(graph: openvino.Model) -> list[str]:
    """Names of a graph's inputs, in order."""
    return [_name_of(place, f"input_{i}") for i, place in enumerate(graph.inputs)]


def _name_of(place: Any, fallback: str) -> str:
    names = sorted(place.get_names())
    return names[0] if names else fallback


def _port(place: Any, fallback: str) -> Port:
    shape = place.get_partial_shape()
    extents = None
    if shape.rank.is_static:
        extents = tuple(dimension.get_length() if dimension.is_static else None for dimension in shape)
    kind = place.get_element_type().get_type_name()
    return Port(_name_of(place, fallback), _DTYPES.get(kind, kind), extents)


def _size_bytes(place: Any) -> int | None:
    shape = place.get_partial_shape()
    if not shape.is_static:
        return None
    width: int = place.get_element_type().bitwidth
    elements: int = math.prod(shape.to_shape())
    return elements * max(1, width // 8)


def _index_ranges(graph: openvino.Model) -> dict[str, tuple[int, int]]:
    """Integer input → legal range, for inputs that index a table of weights: the size of a vocabulary."""
    ranges: dict[str, tuple[int, int]] = {}
    for i, place in enumerate(graph.inputs):
        waiting = list(place.get_target_inputs())
        while waiting:
            target = waiting.pop()
            node = target.get_node()
            if node.get_type_name() in _PASSED_THROUGH and target.get_index() == 0:
                waiting.extend(node.output(0).get_target_inputs())
            elif node.get_type_name() == "Gather" and target.get_index() == 1:
                table = node.input_value(0).get_partial_shape()
                if table.rank.is_static and len(table) == 2 and table[0].is_static:
                    name, last = _name_of(place, f"input_{i}"), table[0].get_length() - 1
                    ranges[name] = (0, min(last, ranges.get(name, (0, last))[1]))
    return ranges


def _brief(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " · ".join(lines[-3:])[:500]
