"""ONNX from functions of JAX and networks of Keras that compute in it, by jax2onnx, which follows the jaxpr."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from regraft.deployment.convert.hops.named_sizes import rename_sizes
from regraft.deployment.convert.hops.pooled_axes import drop_idle_axes
from regraft.deployment.convert.interface import Hop, Source
from regraft.deployment.convert.obstacles import missing
from regraft.deployment.convert.proving import prove_graph
from regraft.errors import MissingExtra, Unsupported

if TYPE_CHECKING:
    import onnx

    from regraft.package.formats import Port
    from regraft.runtime.interface import Feeds, Model
    from regraft.runtime.jax_model import JaxModel

_OPSET = 21
"""The newest that every runtime here reads; jax2onnx would write 23."""
_MAX_BYTES = (1 << 31) - 1
_SYMBOL = "free"


class OnnxFromJax:
    """Follows a function of JAX, a module of flax nnx or equinox; sizes with a name stay free where it allows that."""

    name = "onnx_from_jax"
    source = "jax"
    target = "onnx"
    cost = 3

    def obstacle(self) -> str:
        """JAX, jax2onnx and onnx must be installed."""
        return missing("jax", extra="jax") or missing("jax2onnx", "onnx", extra="jax-onnx")

    def convert(self, source: Source) -> Hop:
        """Export with every named size free, and run the graph at every size of the examples.

        A function that jax2onnx cannot follow so is exported at the sizes of the first example, with a note.

        Raises:
            Unsupported: jax2onnx has no ONNX for a primitive, or what it made does not run.
            MissingExtra: jax2onnx is not installed.
        """
        from regraft.runtime.jax_model import JaxModel

        model = source.loaded()
        if not isinstance(model, JaxModel):
            raise Unsupported("only functions of JAX are converted by this", where=source.where)
        return _hop(model, model, source.feeds, ("jax", "jax2onnx", "onnx"))


class OnnxFromKerasInJax:
    """Follows a network of Keras through JAX: one in memory, or a file where TensorFlow's way is not there or fails."""

    name = "onnx_from_keras_in_jax"
    source = "keras"
    target = "onnx"
    cost = 11

    def obstacle(self) -> str:
        """Keras, JAX, jax2onnx and onnx must be installed."""
        return missing("keras", extra="keras") or OnnxFromJax().obstacle()

    def convert(self, source: Source) -> Hop:
        """As `OnnxFromJax.convert`; inputs and outputs keep the names of their layers.

        Raises:
            As there.
        """
        from regraft.runtime.keras_model import KerasModel

        model = source.loaded()
        if not isinstance(model, KerasModel):
            raise Unsupported("only networks of Keras are converted by this", where=source.where)
        return _hop(model, model.whole, source.feeds, ("keras", "jax", "jax2onnx", "onnx"))


def _hop(model: Model, function: JaxModel, feeds: Sequence[Feeds], libraries: Sequence[str]) -> Hop:
    """Export what computes a model, under the model's own names, and run it at every size of the examples."""
    outputs = list(model(feeds[0]))
    notes = [f"opset {_OPSET}"]
    ports = function.signature.inputs
    try:
        proto = _exported_free(function, ports, outputs)
    except Unsupported as error:
        proto = _exported(function, [feeds[0][port.name].shape for port in ports], outputs)
        notes.append(f"sizes are fixed, because with free ones {error.what}")
    drop_idle_axes(proto)
    if proto.ByteSize() > _MAX_BYTES:
        raise Unsupported(f"the graph has {proto.ByteSize()} bytes; 2 GiB is the most", where=model.where)
    content = proto.SerializeToString()
    prove_graph(content, model, feeds)
    versions = {name: version(name) for name in libraries}
    return Hop({"model.onnx": content}, "onnxruntime", tuple(notes), versions)


def _exported_free(function: JaxModel, ports: Sequence[Port], outputs: Sequence[str]) -> onnx.ModelProto:
    """The graph with every size free that has a name or none.

    First axes without a name are told apart; a function that needs them alike, as one that adds its inputs does, has
    one name for them all.
    """
    apart, together = (_names(ports, alike=alike) for alike in (False, True))
    try:
        return _exported_under(function, apart, outputs)
    except Unsupported:
        if together == apart:
            raise
    return _exported_under(function, together, outputs)


def _exported_under(
    function: JaxModel, names: Sequence[tuple[int | str, ...]], outputs: Sequence[str]
) -> onnx.ModelProto:
    shapes, labels = _shapes(names)
    proto = _exported(function, shapes, outputs)
    rename_sizes(proto, labels)
    return proto


def _names(ports: Sequence[Port], *, alike: bool) -> list[tuple[int | str, ...]]:
    """Shapes of the inputs, with a name for every free size."""
    taken = {extent for port in ports for extent in port.shape or () if isinstance(extent, str)}
    unnamed = sum((port.shape or (0,))[0] is None for port in ports)
    is_batch = alike or (unnamed == 1 and "batch" not in taken)

    def name(port: Port, axis: int, extent: int | str | None) -> int | str:
        if extent is not None:
            return extent
        made = "batch" if axis == 0 and is_batch else f"{port.name}_{axis}"
        while made in taken and not (axis == 0 and alike):
            made += "_"
        return made

    return [tuple(name(port, axis, extent) for axis, extent in enumerate(port.shape or ())) for port in ports]


def _shapes(names: Sequence[tuple[int | str, ...]]) -> tuple[list[tuple[Any, ...]], dict[str, str]]:
    """Shapes with symbols of JAX, which are numbered, as a name may be any text; and number → name."""
    import jax

    words = sorted({extent for shape in names for extent in shape if isinstance(extent, str)})
    labels = {f"{_SYMBOL}{number}": word for number, word in enumerate(words)}
    made = jax.export.symbolic_shape(", ".join(labels)) if words else ()
    symbols: dict[int | str, Any] = dict(zip(words, made, strict=True))
    return [tuple(symbols.get(extent, extent) for extent in shape) for shape in names], labels


def _exported(model: JaxModel, shapes: Sequence[tuple[Any, ...]], outputs: Sequence[str]) -> onnx.ModelProto:
    """The graph under the names that the model's inputs and outputs have."""
    try:
        import jax2onnx
    except ImportError as error:
        raise MissingExtra("jax2onnx", extra="jax-onnx", where=model.where) from error
    import jax

    from regraft.runtime.jax_graph import running

    ports = model.signature.inputs
    places = [jax.ShapeDtypeStruct(shape, port.dtype) for port, shape in zip(ports, shapes, strict=True)]
    try:
        with _quiet(), running():
            proto: onnx.ModelProto = jax2onnx.to_onnx(
                _positional(model),
                places,
                opset=_OPSET,
                input_names=[port.name for port in ports],
                output_names=list(outputs),
            )
    except Exception as error:  # jax2onnx and jax raise what they like
        said = " ".join(str(error).split())[:500]
        raise Unsupported(f"jax2onnx cannot export it: {type(error).__name__}: {said}", where=model.where) from error
    return proto


def _positional(model: JaxModel) -> Callable[..., list[Any]]:
    """The function as jax2onnx calls it: arrays in, a list of arrays out, the weights inside of it."""
    from regraft.runtime.jax_model import named_leaves

    names = [port.name for port in model.signature.inputs]

    def call(*arrays: Any) -> list[Any]:
        feeds = dict(zip(names, arrays, strict=True))
        found = model.function(model.weights, feeds) if model.weights else model.function(feeds)
        return [leaf for _, leaf in named_leaves(found)]

    return call


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Neither jax2onnx nor what it writes graphs with speaks on stdout or stderr."""
    loggers = [logging.getLogger(name) for name in ("jax2onnx", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
