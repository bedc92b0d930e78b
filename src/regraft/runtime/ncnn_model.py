"""ncnn: a graph and its weights as a `Model`, in a process of its own, as what is wrong in them reaches C++."""

from __future__ import annotations

import posixpath
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.errors import BadFeeds, Damaged, MissingExtra, NotFound, Unsupported
from regraft.package.formats import Port
from regraft.package.formats.ncnn import Layer, ends, input_shape, text_layers
from regraft.package.formats.ncnn_layers import LAYERS
from regraft.package.limits import MAX_TEXT_BYTES
from regraft.runtime.feeding import checked_feeds
from regraft.runtime.interface import Signature, Tap
from regraft.runtime.isolated import IsolatedModel
from regraft.runtime.isolated_worker import Recipe
from regraft.runtime.stated import read_signature

if TYPE_CHECKING:
    from regraft.package.package import Package
    from regraft.runtime.interface import Array, Feeds, LoadOptions, Reduce
    from regraft.runtime.verified import VerifiedFiles

_HALVES = ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic")
_BRAIN = ("use_bf16_packed", "use_bf16_storage")
_NO_BATCH = 233
"""ncnn's number for an axis that there is not."""
_SCALES = {"Convolution": 8, "ConvolutionDepthWise": 8, "InnerProduct": 8, "Embed": 18, "Gemm": 18,
           "LSTM": 8, "GRU": 8, "RNN": 8, "MultiHeadAttention": 18}  # fmt: skip
"""Layer → key of its parameter that is not 0 where its weights are 8-bit numbers."""
_RESHAPING = frozenset({"Split", "Reshape", "Squeeze", "ExpandDims", "Flatten", "Permute", "Noop"})
_INTEGERS = frozenset({"int64", "int32"})
TAKEN = _INTEGERS | {"float32"}
"""Dtypes of inputs; all are fed as 32-bit numbers."""


class Ends(msgspec.Struct, frozen=True):
    """Blobs behind the ports of the signature, in its order, and the axis of each that is the batch.

    Attributes:
        blobs: of the inputs and of the outputs.
        batch_axes: as `blobs`; None where there is no batch.
    """

    blobs: tuple[list[str], list[str]]
    batch_axes: tuple[list[int | None], list[int | None]]


class NcnnRuntime:
    """Loads graphs of ncnn with the weights beside them."""

    name = "ncnn"

    def can_load(self, package: Package, path: str, options: LoadOptions) -> bool:
        """A `.param` as text."""
        _, recognised = package.probe(path)
        return options.factory is None and recognised is not None and recognised.name == "ncnn-param"

    def load(self, files: VerifiedFiles, path: str, options: LoadOptions) -> IsolatedModel:
        """Hand the verified bytes of graph, weights and signature to a process of its own.

        Raises:
            NotFound: there is no file with the weights.
        """
        stem = posixpath.basename(path).removesuffix(".param")
        weights, stated = files.beside(path, f"{stem}.bin"), files.beside(path, f"{stem}.json")
        if weights is None:
            raise NotFound(f"no {stem}.bin lies beside it, which has its weights", where=path)
        return isolated_ncnn(
            files.text(path, limit=MAX_TEXT_BYTES),
            files.read_opaque(weights),
            stated="" if stated is None else files.text(stated, limit=MAX_TEXT_BYTES),
            threads=options.threads,
            precision=options.precision,
            where=path,
        )


def isolated_ncnn(
    graph: str, weights: bytes, *, stated: str = "", threads: int | None = None, precision: str | None = None,
    where: str = "",
) -> IsolatedModel:  # fmt: skip
    """A graph of ncnn as a model in a process of its own.

    Args:
        graph, weights, stated, threads, precision, where: as of `NcnnModel`.
    Raises:
        As `NcnnModel`; Crashed: the process died.
    """
    arguments = {"graph": graph, "stated": stated, "threads": threads, "precision": precision, "where": where}
    return IsolatedModel(Recipe("regraft.runtime.ncnn_model:NcnnModel", weights, arguments), where=where)


class NcnnModel:
    """A graph of ncnn on the CPU, in this very process.

    Args:
        content: the weights, `.bin`.
        graph: the layers, `.param` as text.
        stated: JSON with what its converter knew: names, dtypes and sizes of the ports, and where the batch is. Empty
            for a stranger's graph: its blobs are the ports then, of 32-bit floating-point numbers without a batch.
        threads: None for as many as ncnn takes.
        precision: `float32`, `float16` or `bfloat16`; None for ncnn's default, which lets it lower to float16.
        where: how errors name it.
    Raises:
        MissingExtra: ncnn is not installed.
        Damaged: ncnn cannot read the graph or the weights.
        Unsupported: layers that ncnn does not have, or a precision in which it does not compute the graph.
    """

    runtime = "ncnn"

    def __init__(
        self, content: bytes, *, graph: str, stated: str = "", threads: int | None = None, precision: str | None = None,
        where: str = "",
    ) -> None:  # fmt: skip
        try:
            import ncnn
        except ImportError as error:
            raise MissingExtra("ncnn", extra="ncnn", where=where) from error
        self.where = where
        self.allows_nan = False
        self._layers, _ = text_layers(graph, where)
        _require_known(self._layers, where)
        self._signature, self._ends = _read_stated(stated, where) if stated else _guessed(self._layers)
        _require_ends(self._ends, self._layers, where)
        self._precision = _effective(self._layers, precision, where)
        self._ncnn: Any = ncnn
        self._net: Any = ncnn.Net()
        for names, lowers in ((_HALVES, precision in (None, "float16")), (_BRAIN, precision == "bfloat16")):
            for name in names:
                setattr(self._net.opt, name, lowers)
        if threads is not None:
            self._net.opt.num_threads = threads
        self._load(graph, content)

    @property
    def signature(self) -> Signature:
        """As its converter wrote it down; of a stranger's graph its blobs."""
        return self._signature

    @property
    def effective_precision(self) -> str:
        """What it may lower to: `float16` by default; `int8` where weights are 8-bit numbers."""
        return self._precision

    def __call__(self, feeds: Feeds) -> dict[str, Array]:
        """One pass."""
        extractor = self._fed(feeds)
        ports, (_, blobs), (_, axes) = self._signature.outputs, self._ends.blobs, self._ends.batch_axes
        found = {}
        for port, blob, axis in zip(ports, blobs, axes, strict=True):
            value = self._value(extractor, blob, axis, port.dtype)
            if port.shape is not None and value.size == _size(port.shape):
                value = value.reshape([int(extent or 0) for extent in port.shape])
            found[port.name] = value
        return found

    def trace(self, feeds: Feeds, *, taps: Sequence[str] | None = None, reduce: Reduce | None = None) -> Iterator[Tap]:
        """Every blob in the graph's order, with the batch in front where the inputs have it there.

        ncnn fuses nothing when it runs, so that the tensors are those of a plain pass; all of them exist at once.
        """
        axis = 0 if set(self._ends.batch_axes[0]) == {0} else None
        wanted = None if taps is None else frozenset(taps)
        extractor = self._fed(feeds, keeps_all=True)
        for order, layer in enumerate(self._layers):
            for blob in layer.outputs if layer.type not in ("Input", "Split") else ():
                if wanted is not None and blob not in wanted:
                    continue
                value = self._value(extractor, blob, axis, "float32")
                kept = None if reduce is None else reduce(value)
                plain = value if reduce is None else None
                yield Tap(blob, layer.type, layer.name, order, value=plain, kept=kept, inputs=layer.inputs)

    def segment(self, inputs: Sequence[str], outputs: Sequence[str]) -> NcnnModel:
        """Not offered.

        Raises:
            Unsupported: always.
        """
        raise self._no("graphs of ncnn are not cut")

    def cast(self, dtype: str) -> NcnnModel:
        """Not offered: ncnn has no other kernels than of float32 and below.

        Raises:
            Unsupported: always.
        """
        raise self._no(f"ncnn does not run whole graphs in {dtype}")

    def close(self) -> None:
        """Let go of the network."""
        self._net = None

    def _no(self, what: str) -> Unsupported:
        hint = "verify it against the model that it was converted from: regraft verify REFERENCE CANDIDATE"
        return Unsupported(what, where=self.where, hint=hint)

    def _load(self, graph: str, weights: bytes) -> None:
        with tempfile.TemporaryDirectory(prefix="regraft-") as folder:  # from memory it takes text, and tells no errors
            param, stored = Path(folder) / "model.param", Path(folder) / "model.bin"
            param.write_text(graph)
            stored.write_bytes(weights)
            if self._net.load_param(str(param)):
                raise Damaged("ncnn cannot read the graph", where=self.where)
            if self._net.load_model(str(stored)):
                raise Damaged("ncnn cannot read the weights: they are not those of the graph", where=self.where)

    def _fed(self, feeds: Feeds, *, keeps_all: bool = False) -> Any:
        """An extractor that has its inputs."""
        if self._net is None:
            raise Unsupported("the model is closed", where=self.where)
        checked = checked_feeds(self._signature, feeds, where=self.where, allows_nan=self.allows_nan)
        extractor = self._net.create_extractor()
        extractor.set_light_mode(not keeps_all)
        (blobs, _), (axes, _) = self._ends.blobs, self._ends.batch_axes
        for (name, value), blob, axis in zip(checked.items(), blobs, axes, strict=True):
            batch = _NO_BATCH if axis is None else axis
            numbers = _as_32_bits(name, value, self.where, is_index=takes_indices(self._layers, blob))
            mat = self._ncnn.Mat(numbers, batch_index=batch)
            if extractor.input(blob, mat.clone()):
                raise Unsupported(f"ncnn does not take {name} {value.shape}", where=self.where)
        return extractor

    def _value(self, extractor: Any, blob: str, axis: int | None, dtype: str) -> Array:
        import numpy as np

        code, mat = extractor.extract(blob)
        if code or mat.empty():
            raise Unsupported(f"ncnn stopped on the way to {blob!r} (its code is {code})", where=self.where)
        letter = "i" if dtype in _INTEGERS else "f"
        value: Array = mat.numpy(letter, batch_index=_NO_BATCH if axis is None else axis)
        return np.array(value, dtype=dtype)


def stated_ends(text: str, ends_of: Ends) -> str:
    """What a signature as JSON becomes with the ends of a graph of ncnn."""
    return msgspec.json.encode({**msgspec.json.decode(text), **msgspec.to_builtins(ends_of)}).decode()


def _read_stated(text: str, where: str) -> tuple[Signature, Ends]:
    signature, _ = read_signature(text, where)
    try:
        found = msgspec.json.decode(text, type=Ends)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Damaged(f"what it says of its blobs cannot be read: {str(error)[:200]}", where=where) from None
    sides = [*zip((signature.inputs, signature.outputs), found.blobs, found.batch_axes, strict=True)]
    if any(not len(ports) == len(blobs) == len(axes) for ports, blobs, axes in sides):
        raise Damaged("it says of more or fewer ports which blobs they are than it has", where=where)
    ends = ((port, axis) for ports, _, axes in sides for port, axis in zip(ports, axes, strict=True))
    for port, axis in ends:
        if axis is not None and not 0 <= axis < len(port.shape or ()):
            raise Damaged(
                f"it says that the batch of {port.name[:100]!r} is axis {axis}, which it has not", where=where
            )
    if odd := [port.dtype for port in signature.inputs if port.dtype not in TAKEN]:
        raise Damaged(f"it says that an input is {odd[0]}, which ncnn does not take", where=where)
    return signature, found


def _guessed(layers: list[Layer]) -> tuple[Signature, Ends]:
    """Blobs as ports, of a graph whose converter wrote nothing down."""
    inputs, outputs = ends(layers)
    shapes = {layer.outputs[0]: input_shape(layer) for layer in layers if layer.type == "Input" and layer.outputs}
    signature = Signature(
        tuple(Port(name, "float32", shapes.get(name)) for name in inputs),
        tuple(Port(name, "float32") for name in outputs),
    )
    return signature, Ends((inputs, outputs), ([None] * len(inputs), [None] * len(outputs)))


def _require_known(layers: list[Layer], where: str) -> None:
    foreign = sorted({layer.type for layer in layers} - set(LAYERS))
    if foreign:
        raise Unsupported(f"ncnn has no layer {', '.join(foreign)[:400]}", where=where)


def _require_ends(found: Ends, layers: list[Layer], where: str) -> None:
    made = {blob for layer in layers for blob in layer.outputs}
    for blob in (*found.blobs[0], *found.blobs[1]):
        if blob not in made:
            raise Damaged(f"there is no blob {blob[:100]!r} in the graph", where=where)


def _effective(layers: list[Layer], precision: str | None, where: str) -> str:
    if any(layer.numbers.get(_SCALES.get(layer.type, -1)) for layer in layers):
        if precision not in (None, "int8"):
            raise Unsupported(f"its weights are 8-bit numbers: it cannot be told {precision}", where=where)
        return "int8"
    if precision not in (None, "float32", "float16", "bfloat16"):
        raise Unsupported(f"ncnn does not compute in {precision}", where=where, hint="float32, float16 or bfloat16")
    return precision or "float16"


def takes_indices(layers: list[Layer], blob: str) -> bool:
    """Does an `Embed` take this blob, whatever shape it is brought to before?

    ncnn's tensors have no type, and PNNX leaves out casts: integers that anything else takes are meant as numbers.
    """
    reached = {blob}
    for layer in layers:  # in the order in which they are computed
        if not reached.isdisjoint(layer.inputs):
            if layer.type == "Embed":
                return True
            if layer.type in _RESHAPING:
                reached.update(layer.outputs)
    return False


def _as_32_bits(name: str, value: Array, where: str, *, is_index: bool) -> Array:
    """ncnn's tensors are of 32-bit numbers: integers where they are indices, else floating-point ones.

    Raises:
        BadFeeds: an integer needs more bits.
    """
    import numpy as np

    if value.dtype.kind == "i":
        limit = (1 << 31) - 1 if is_index else 1 << 24
        if value.size and max(-int(value.min()), int(value.max())) > limit:
            raise BadFeeds(f"input {name!r} holds integers beyond {limit}, which ncnn does not keep", where=where)
        value = value.astype(np.int32 if is_index else np.float32)
    return np.ascontiguousarray(value)


def _size(shape: tuple[int | str | None, ...]) -> int:
    count = 1
    for extent in shape:
        count *= extent if isinstance(extent, int) else 0
    return count
