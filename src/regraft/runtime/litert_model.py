"""LiteRT: a TFLite flatbuffer as a `Model`, in a process of its own, because hostile files crash the interpreter."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from regraft.errors import MissingExtra, Unsupported
from regraft.package.formats import Port
from regraft.runtime.feeding import checked_feeds
from regraft.runtime.interface import Signature, Tap
from regraft.runtime.isolated import IsolatedModel
from regraft.runtime.isolated_worker import Recipe
from regraft.runtime.litert_cut import cut_flatbuffer, operators_between
from regraft.runtime.litert_weights import float_weights, with_moved_weights

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from regraft.package.package import Package
    from regraft.runtime.interface import Array, Feeds, LoadOptions, Reduce
    from regraft.runtime.verified import VerifiedFiles

_NOT_COMPUTING = frozenset({"DEQUANTIZE", "QUANTIZE", "DELEGATE"})


class LiteRtRuntime:
    """Loads TFLite files."""

    name = "litert"

    def can_load(self, package: Package, path: str, options: LoadOptions) -> bool:
        """A flatbuffer with TFLite's identifier."""
        _, recognised = package.probe(path)
        return options.factory is None and recognised is not None and recognised.name == "tflite"

    def load(self, files: VerifiedFiles, path: str, options: LoadOptions) -> IsolatedModel:
        """Hand the verified bytes to a process of its own."""
        arguments = {"threads": options.threads, "where": path}
        model = IsolatedModel(
            Recipe("regraft.runtime.litert_model:LiteRtModel", files.read(path), arguments), where=path
        )
        if options.precision not in (None, model.effective_precision):
            model.close()
            raise Unsupported(
                f"the flatbuffer computes in {model.effective_precision}; LiteRT cannot be told {options.precision}",
                where=path,
            )
        return model


class LiteRtModel:
    """A TFLite model on the CPU, in this very process.

    Args:
        content: the flatbuffer.
        threads: of the interpreter; None for its default.
        is_part: it was cut out of a graph: its ends are taps, so they have any size, and quantised ones are real
            numbers; it runs on the builtin kernels, as traces do.
        where: how errors name it.
    Raises:
        MissingExtra: LiteRT is not installed.
        Unsupported: the interpreter refuses the model; the message is its own. It may also crash.
    """

    runtime = "litert"

    def __init__(self, content: bytes, *, threads: int | None = None, is_part: bool = False, where: str = "") -> None:
        self.where = where
        self.allows_nan = False
        self._content = content
        self._threads = threads
        self._is_part = is_part
        self._caller = self._interpreter(is_traced=is_part)

    @functools.cached_property
    def signature(self) -> Signature:
        """Inputs and outputs by the names of their tensors, as `regraft inspect` lists them."""
        port = _end if self._is_part else _port
        return Signature(
            tuple(port(detail) for detail in self._caller.get_input_details()),
            tuple(port(detail) for detail in self._caller.get_output_details()),
        )

    @functools.cached_property
    def effective_precision(self) -> str:
        """`int8` where an operator takes quantised tensors, weights alone included; else the commonest float dtype."""
        details = {detail["index"]: detail for detail in self._tracer.get_tensor_details()}
        seen: dict[str, int] = {}
        for operator in self._operators:
            for index in operator["inputs"]:
                detail = details.get(int(index))
                if detail is None or operator["op_name"] in _NOT_COMPUTING:
                    continue
                if _is_quantised(detail):
                    return "int8"
                name = _dtype(detail)
                if "float" in name:
                    seen[name] = seen.get(name, 0) + 1
        return max(seen, key=lambda name: seen[name]) if seen else "float32"

    def __call__(self, feeds: Feeds) -> dict[str, Array]:
        """One pass with LiteRT's default kernels, on its XNNPACK delegate where that takes the graph.

        Quantised inputs and outputs are the integers that the model takes and returns.
        """
        self._run(self._caller, feeds)
        outputs = {}
        for port, detail in zip(self.signature.outputs, self._caller.get_output_details(), strict=True):
            value = self._caller.get_tensor(detail["index"])
            is_real = self._is_part and _is_quantised(detail)
            outputs[port.name] = _real_numbers(value, detail) if is_real else value
        return outputs

    def trace(self, feeds: Feeds, *, taps: Sequence[str] | None = None, reduce: Reduce | None = None) -> Iterator[Tap]:
        """Every operator's outputs in order of execution; quantised ones as the real numbers that they stand for.

        The delegate is off, because it fuses operators: the taps come from the builtin kernels, which sum in another
        order (basic-pitch differs by 1e-5 from a call, a call by 1e-6 from onnxruntime). All of them exist in the
        interpreter at once.
        """
        self._run(self._tracer, feeds)
        wanted = None if taps is None else frozenset(taps)
        details = {detail["index"]: detail for detail in self._tracer.get_tensor_details()}
        names = _unique_names(details)
        order = 0
        for operator in self._operators:
            for index in map(int, operator["outputs"]):
                name = names.get(index)
                if name is not None and (wanted is None or name in wanted):
                    value = self._value(details[index])
                    if value is not None:
                        consumed = tuple(names.get(int(i), "") for i in operator["inputs"])
                        kept = None if reduce is None else reduce(value)
                        plain = value if reduce is None else None
                        yield Tap(name, operator["op_name"], "", order, value=plain, kept=kept, inputs=consumed)
                order += 1

    def segment(self, inputs: Sequence[str], outputs: Sequence[str]) -> LiteRtModel:
        """The operators between taps, as a flatbuffer of its own; on the kernels of a trace.

        Raises:
            Unsupported: there is no such tap, or the outputs also need inputs of the whole graph.
        """
        names = _unique_names({detail["index"]: detail for detail in self._tracer.get_tensor_details()})
        indices = {name: index for index, name in names.items()}
        missing = [name for name in (*inputs, *outputs) if name not in indices]
        if missing:
            raise Unsupported(f"there is no such tensor: {missing[0]!r}", where=self.where)
        begin, end = [indices[name] for name in inputs], [indices[name] for name in outputs]
        fed = {detail["index"] for detail in self._tracer.get_input_details()} - set(begin)
        kept = operators_between(self._operators, begin, end, fed=sorted(fed))
        content = cut_flatbuffer(self._content, kept, begin, end)
        return LiteRtModel(content, threads=self._threads, is_part=True, where=f"{self.where} segment")

    def cast(self, dtype: str) -> LiteRtModel:
        """Not offered: LiteRT has no float64 kernels for most operators.

        Raises:
            Unsupported: always.
        """
        raise Unsupported(
            f"LiteRT does not run whole graphs in {dtype}",
            where=self.where,
            hint="verify against the model it was converted from: regraft verify REFERENCE CANDIDATE",
        )

    def float_weights(self) -> Iterator[Array]:
        """Weights of floating-point numbers, in float32."""
        yield from float_weights(self._content)

    def with_moved_weights(self, seed: int, unit: float) -> LiteRtModel:
        """A copy whose floating-point weights are neighbouring numbers, for noise floors."""
        moved = with_moved_weights(self._content, seed, unit)
        return LiteRtModel(moved, threads=self._threads, is_part=self._is_part, where=self.where)

    def close(self) -> None:
        """Drop the interpreters."""
        self._caller = None
        self.__dict__.pop("_tracer", None)

    @functools.cached_property
    def _tracer(self) -> Any:
        return self._interpreter(is_traced=True)

    @functools.cached_property
    def _operators(self) -> list[dict[str, Any]]:
        """The public interface of the interpreter has no list of operators; this one is there since TF 2.5."""
        found: list[dict[str, Any]] = self._tracer._get_ops_details()
        return found

    def _interpreter(self, *, is_traced: bool = False) -> Any:
        try:
            from ai_edge_litert.interpreter import Interpreter, OpResolverType
        except ImportError as error:
            raise MissingExtra("ai-edge-litert", extra="litert", where=self.where) from error
        resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES if is_traced else OpResolverType.AUTO
        try:
            made = Interpreter(
                model_content=self._content,
                num_threads=self._threads,
                experimental_preserve_all_tensors=is_traced,
                experimental_op_resolver_type=resolver,
            )
            if not self._is_part and all(-1 not in one["shape_signature"] for one in made.get_input_details()):
                made.allocate_tensors()  # what has free sizes may not allocate before they are known
        except (ValueError, RuntimeError) as error:
            raise Unsupported(f"LiteRT refuses the model: {str(error).strip()[:500]}", where=self.where) from error
        return made

    def _run(self, interpreter: Any, feeds: Feeds) -> None:
        if interpreter is None:
            raise Unsupported("the model is closed", where=self.where)
        checked = checked_feeds(self.signature, feeds, where=self.where, allows_nan=self.allows_nan)
        try:
            for port, detail in zip(self.signature.inputs, interpreter.get_input_details(), strict=True):
                shape = checked[port.name].shape
                if -1 in detail["shape_signature"] or (self._is_part and tuple(detail["shape"]) != shape):
                    interpreter.resize_tensor_input(detail["index"], shape, strict=not self._is_part)
            interpreter.allocate_tensors()
            interpreter.reset_all_variables()  # a pass starts from the same state every time
            for port, detail in zip(self.signature.inputs, interpreter.get_input_details(), strict=True):
                value = checked[port.name]
                is_real = self._is_part and _is_quantised(detail)
                interpreter.set_tensor(detail["index"], _quantised(value, detail) if is_real else value)
            interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise Unsupported(
                f"LiteRT stopped: {str(error).strip()[:500]}",
                where=self.where,
                hint="feeds: " + ", ".join(f"{name} {value.shape}" for name, value in feeds.items()),
            ) from error

    def _value(self, detail: dict[str, Any]) -> Array | None:
        """A tensor after a pass; None where the interpreter has kept nothing (a branch that was not taken)."""
        try:
            value: Array = self._tracer.get_tensor(detail["index"])
        except ValueError:
            return None
        return _real_numbers(value, detail) if _is_quantised(detail) else value


def _real_numbers(value: Array, detail: dict[str, Any]) -> NDArray[np.float32]:
    """scale × (q − zero point), along the quantised axis where there are several scales."""
    import numpy as np

    parameters = detail["quantization_parameters"]
    scales, zeros = parameters["scales"], parameters["zero_points"]
    shape = [1] * value.ndim
    if len(scales) > 1:
        shape[parameters["quantized_dimension"]] = len(scales)
    real = (value.astype(np.float64) - zeros.reshape(shape)) * scales.reshape(shape)
    return np.asarray(real, dtype=np.float32).reshape(value.shape)


def _quantised(value: Array, detail: dict[str, Any]) -> Array:
    """What `_real_numbers` would make the value of, rounded to the nearest and kept within the dtype."""
    import numpy as np

    parameters = detail["quantization_parameters"]
    dtype = np.dtype(detail["dtype"])
    limits = np.iinfo(dtype)
    exact = value.astype(np.float64) / parameters["scales"][0] + parameters["zero_points"][0]
    numbers: Array = np.clip(np.rint(exact), limits.min, limits.max).astype(dtype)
    return numbers


def _is_quantised(detail: dict[str, Any]) -> bool:
    return len(detail["quantization_parameters"]["scales"]) > 0 and "int" in _dtype(detail)


def _dtype(detail: dict[str, Any]) -> str:
    name: str = getattr(detail["dtype"], "__name__", str(detail["dtype"]))
    return {"bool_": "bool", "bytes_": "string", "object_": "string"}.get(name, name)


def _port(detail: dict[str, Any]) -> Port:
    shape = tuple(None if extent < 0 else int(extent) for extent in detail["shape_signature"])
    return Port(detail["name"] or f"tensor_{detail['index']}", _dtype(detail), shape)


def _end(detail: dict[str, Any]) -> Port:
    """An end of a part: a tensor of any size, as its tap has it."""
    dtype = "float32" if _is_quantised(detail) else _dtype(detail)
    return Port(detail["name"] or f"tensor_{detail['index']}", dtype, None)


def _unique_names(details: dict[int, dict[str, Any]]) -> dict[int, str]:
    """Index → name; one that several tensors have gets the index behind it, from the second on."""
    names: dict[int, str] = {}
    seen: set[str] = set()
    for index, detail in details.items():
        name = detail["name"] or f"tensor_{index}"
        names[index] = name if name not in seen else f"{name}@{index}"
        seen.add(name)
    return names
