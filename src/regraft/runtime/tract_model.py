"""tract: an ONNX graph as a `Model`, in a process of its own, because some graphs make it abort."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from regraft.errors import MissingExtra, Unsupported
from regraft.package.formats import Port
from regraft.runtime.feeding import checked_feeds
from regraft.runtime.interface import Signature, Tap
from regraft.runtime.isolated import IsolatedModel
from regraft.runtime.isolated_worker import Recipe
from regraft.runtime.onnx_proto import (
    cut,
    index_ranges,
    precision_of_graph,
    proto_from_bytes,
    self_contained,
    with_outputs,
)

if TYPE_CHECKING:
    import onnx

    from regraft.package.package import Package
    from regraft.runtime.interface import Array, Feeds, LoadOptions, Reduce
    from regraft.runtime.verified import VerifiedFiles

_FACTS = {
    "float32": "f32", "float64": "f64", "float16": "f16", "int64": "i64", "int32": "i32", "int16": "i16", "int8": "i8",
    "uint64": "u64", "uint32": "u32", "uint16": "u16", "uint8": "u8", "bool": "bool",
}  # fmt: skip
"""Dtype → its name in tract's words for shapes, `3,16,f32`."""
_MAX_KEPT = 8
"""Sizes for which the prepared graph is kept."""


class TractRuntime:
    """Loads ONNX files."""

    name = "tract"

    def can_load(self, package: Package, path: str, options: LoadOptions) -> bool:
        """A file in ONNX format."""
        _, recognised = package.probe(path)
        return options.factory is None and recognised is not None and recognised.name == "onnx"

    def load(self, files: VerifiedFiles, path: str, options: LoadOptions) -> IsolatedModel:
        """Hand the verified bytes, external data taken in, to a process of its own."""
        if options.threads not in (None, 1):
            raise Unsupported("tract computes on one thread", where=path, hint="--threads 1")
        content = self_contained(files, path)
        model = IsolatedModel(Recipe("regraft.runtime.tract_model:TractModel", content, {"where": path}), where=path)
        if options.precision not in (None, model.effective_precision):
            model.close()
            raise Unsupported(
                f"the graph computes in {model.effective_precision}; tract cannot be told {options.precision}",
                where=path,
            )
        return model


class TractModel:
    """An ONNX model in tract on the CPU, in this very process. It is prepared anew for each set of sizes.

    Args:
        content: a serialised ModelProto with all its weights.
        where: how errors name it.
    Raises:
        MissingExtra: tract is not installed.
        Damaged: it is no ModelProto.
        Unsupported: tract refuses the model; the message is its own. It may also abort the process.
    """

    runtime = "tract"

    def __init__(self, content: bytes, *, where: str = "") -> None:
        _import_tract(where)
        self.where = where
        self.allows_nan = False
        self.outline = proto_from_bytes(content, where)
        """The graph, parsed; not to be changed."""
        del self.outline.graph.value_info[:]  # sizes that were written down beside it are taken for demands
        self._content: bytes = self.outline.SerializeToString()
        self._prepared: dict[tuple[object, ...], Any] = {}
        self._is_closed = False

    @functools.cached_property
    def signature(self) -> Signature:
        """Inputs and outputs as the graph declares them."""
        graph = self.outline.graph
        weights = {weight.name for weight in graph.initializer}
        inputs = tuple(_port(value) for value in graph.input if value.name not in weights)
        return Signature(inputs, tuple(_port(value) for value in graph.output), index_ranges(self.outline))

    @functools.cached_property
    def effective_precision(self) -> str:
        """The floating-point dtype that most tensors between nodes have; tract lowers none."""
        return precision_of_graph(self.outline)

    @functools.cached_property
    def _dtypes(self) -> dict[str, str]:
        """Tensor → dtype that ONNX gives it; tract has truth values and sizes where that has integers."""
        import onnx.shape_inference

        try:
            graph = onnx.shape_inference.infer_shapes(self.outline).graph
        except (RuntimeError, ValueError):  # it refuses some graphs that runtimes accept
            return {}
        return {value.name: _port(value).dtype for value in (*graph.value_info, *graph.output)}

    def float_weights(self) -> Iterator[Array]:
        """Weights in float32 that have at least one axis."""
        from onnx import TensorProto, numpy_helper

        for tensor in self.outline.graph.initializer:
            if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) > 0:
                yield numpy_helper.to_array(tensor)

    def __call__(self, feeds: Feeds) -> dict[str, Array]:
        """One pass."""
        values = self._run(self._content, "", self._checked(feeds))
        outputs = {}
        for port, value in zip(self.signature.outputs, values, strict=True):
            array = _array(value, port.dtype)
            if array is None:
                raise Unsupported(f"output {port.name!r} has no type that tract hands out", where=self.where)
            outputs[port.name] = array
        return outputs

    def trace(self, feeds: Feeds, *, taps: Sequence[str] | None = None, reduce: Reduce | None = None) -> Iterator[Tap]:
        """Every node's outputs in the graph's order, marked as outputs of the graph; all of them exist at once.

        tract fuses less around a tensor that is asked for, so that the last bits may differ from a plain pass. What has
        a type that it does not hand out is left out.
        """
        wanted = None if taps is None else frozenset(taps)
        made = {name: node for node in self.outline.graph.node for name in node.output if name}
        order = {name: position for position, name in enumerate(made)}
        names = [name for name in made if wanted is None or name in wanted]
        if not names:
            return
        checked = self._checked(feeds)
        returned = [port.name for port in self.signature.outputs]
        content = with_outputs(self.outline, names)
        values = self._run(content, "\n".join(names), checked)
        found = dict(zip((*returned, *(name for name in names if name not in returned)), values, strict=True))
        for name in names:
            value = _array(found[name], self._dtypes.get(name))
            if value is None:
                continue
            node = made[name]
            kept = None if reduce is None else reduce(value)
            plain = value if reduce is None else None
            yield Tap(name, node.op_type, node.name, order[name], value=plain, kept=kept, inputs=tuple(node.input))

    def segment(self, inputs: Sequence[str], outputs: Sequence[str]) -> TractModel:
        """The subgraph that computes `outputs` from `inputs`, both named by taps.

        Raises:
            Unsupported: the outputs also need tensors that are not among the inputs.
        """
        return TractModel(cut(self.outline, inputs, outputs, self.where), where=f"{self.where} segment")

    def cast(self, dtype: str) -> TractModel:
        """Not offered: tract has few kernels for other precisions than float32.

        Raises:
            Unsupported: always.
        """
        raise Unsupported(
            f"tract does not run whole graphs in {dtype}",
            where=self.where,
            hint="let another runtime be the reference: --reference-runtime onnxruntime",
        )

    def close(self) -> None:
        """Drop what was prepared."""
        self._prepared.clear()
        self._is_closed = True

    def _checked(self, feeds: Feeds) -> dict[str, Array]:
        return checked_feeds(self.signature, feeds, where=self.where, allows_nan=self.allows_nan)

    def _run(self, content: bytes, kind: str, feeds: Feeds) -> list[Any]:
        """Outputs of a pass, as tensors of tract's; `kind` tells graphs with other outputs apart."""
        if self._is_closed:
            raise Unsupported("the model is closed", where=self.where)
        tract = _import_tract(self.where)
        key = (kind, *((name, value.shape) for name, value in feeds.items()))
        sizes = ", ".join(f"{name} {value.shape}" for name, value in feeds.items())
        try:
            if key not in self._prepared:
                while len(self._prepared) >= _MAX_KEPT:
                    del self._prepared[next(iter(self._prepared))]
                self._prepared[key] = _prepared(content, feeds)
            names, runnable = self._prepared[key]
            values: list[Any] = runnable.run([feeds[name] for name in names])
        except tract.TractError as error:
            raise Unsupported(
                f"tract refuses the model: {_said(error)}", where=self.where, hint=f"feeds: {sizes}"
            ) from error
        return values


def _prepared(content: bytes, feeds: Feeds) -> tuple[list[str], Any]:
    """Names of the inputs in tract's order, and what runs them; the graph is told every size before it is optimised."""
    import tract

    with tempfile.NamedTemporaryFile(prefix="regraft-", suffix=".onnx") as file:  # it reads a path, and no bytes
        file.write(content)
        file.flush()
        graph = tract.onnx().load(file.name)
    names = [graph.input_name(index) for index in range(graph.input_count())]
    for index, name in enumerate(names):
        value = feeds[name]
        graph.set_input_fact(index, ",".join([*map(str, value.shape), _FACTS[str(value.dtype)]]))
    for index in range(graph.output_count()):
        graph.set_output_fact(index, None)  # what the file says of sizes may be of other ones
    return names, graph.into_model().into_runnable()


def _array(value: Any, dtype: str | None) -> Array | None:
    """A tensor of tract's as numpy, integers in the dtype of ONNX; None where it hands it out in no type."""
    import tract

    try:
        found: Array = value.to_numpy()
    except (tract.TractError, ValueError):
        try:
            found = value.convert_to(tract.DatumType.I64).to_numpy()
        except tract.TractError:
            return None
    return found.astype(dtype) if dtype is not None and found.dtype.kind in "biu" else found


def _said(error: Exception) -> str:
    """What went wrong, without the stack that tract writes behind it."""
    return " ".join(str(error).partition("Stack backtrace")[0].split())[:500]


def _port(value: onnx.ValueInfoProto) -> Port:
    from onnx import helper

    tensor = value.type.tensor_type
    dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type).name if tensor.elem_type else "float32"
    if not tensor.HasField("shape"):
        return Port(value.name, dtype, None)
    extents: list[int | str | None] = []
    for dimension in tensor.shape.dim:
        fixed = dimension.dim_value if dimension.HasField("dim_value") and dimension.dim_value >= 0 else None
        extents.append(fixed if fixed is not None else dimension.dim_param or None)
    return Port(value.name, dtype, tuple(extents))


def _import_tract(where: str) -> Any:
    try:
        import tract
    except ImportError as error:
        raise MissingExtra("tract", extra="tract", where=where) from error
    return tract
