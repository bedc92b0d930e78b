"""JAX: a function of named arrays as a `Model`, its taps the equations of its jaxpr."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from regraft.errors import RegraftError, Unsupported, UsageError
from regraft.package.formats import Port
from regraft.runtime.feeding import checked_feeds
from regraft.runtime.interface import Signature, Tap
from regraft.runtime.jax_graph import JaxGraph, import_jax, running

if TYPE_CHECKING:
    from regraft.runtime.interface import Array, Feeds, Reduce

_MAX_KEPT = 32
"""Shapes of feeds whose traced and compiled forms are kept."""


class JaxModel:
    """A pure function of JAX on the CPU.

    Args:
        function: feeds (name → array) to outputs: an array, or dicts and tuples of arrays. It is traced anew for
            each set of shapes.
        inputs: names, dtypes and symbolic shapes.
        precision: `float64` computes every equation in float64, whatever dtypes the function's code names;
            its constants stay the numbers that they were rounded to. None: as the function is.
        weights: name → array; the function takes them as its first argument then, and feeds as its second, so that
            its graph knows them by name. None: what weights there are lie hidden in the function.
        where: how errors name it.
    Raises:
        MissingExtra: jax is not installed.
    """

    runtime = "jax"

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        inputs: Sequence[Port],
        precision: str | None = None,
        weights: Mapping[str, Any] | None = None,
        where: str = "",
    ) -> None:
        import_jax(where)
        self.function = function
        self.weights = dict(weights or {})
        self.where = where
        self.allows_nan = False
        self._declared = tuple(inputs)
        self._is_wide = precision == "float64"
        self._outputs: tuple[Port, ...] = ()
        self._graphs: dict[tuple[object, ...], tuple[JaxGraph, list[str]]] = {}
        self._compiled: dict[tuple[object, ...], Any] = {}
        """Shared by copies with other weights, which are an argument of what is compiled, or in float64."""

    @property
    def signature(self) -> Signature:
        """Inputs as declared; outputs as the last call returned them."""
        return Signature(tuple(self._port(port) for port in self._declared), self._outputs)

    @property
    def effective_precision(self) -> str:
        """The floating-point dtype that most results of equations have; float32 before the first pass."""
        if self._is_wide:
            return "float64"
        counts: dict[str, int] = {}
        for graph, _ in self._graphs.values():
            for dtype, _ in graph.places.values():
                if "float" in dtype:
                    counts[dtype] = counts.get(dtype, 0) + 1
        return max(counts, key=lambda dtype: counts[dtype]) if counts else "float32"

    def graph(self, feeds: Feeds) -> JaxGraph:
        """The operators of the pass on feeds of these shapes."""
        return self._traced(self._checked(feeds))[0]

    def __call__(self, feeds: Feeds) -> dict[str, Array]:
        """One pass, compiled by XLA as a whole, which fuses operators."""
        import numpy as np

        checked = self._checked(feeds)
        graph, names = self._traced(checked)
        key = (self._is_wide, *_key(checked))
        with running(is_wide=self._is_wide), self._telling(checked):
            if key not in self._compiled:
                _make_room(self._compiled)
                self._compiled[key] = import_jax().jit(lambda weights, given: self._evaluated(graph, weights, given))
            results = self._compiled[key](self.weights, checked)
        outputs = {name: np.array(value) for name, value in zip(names, map(_plain, results), strict=True)}
        self._outputs = tuple(Port(name, str(value.dtype), (None,) * value.ndim) for name, value in outputs.items())
        return outputs

    def trace(self, feeds: Feeds, *, taps: Sequence[str] | None = None, reduce: Reduce | None = None) -> Iterator[Tap]:
        """The results of every equation, run one after the other; outputs are among them under the equations' names.

        A tensor is dropped once no later equation needs it. The first trace compiles every equation by itself.
        """
        checked = self._checked(feeds)
        graph, _ = self._traced(checked)
        wanted = None if taps is None else frozenset(taps)
        last = {name: i for i, node in enumerate(graph.nodes) for name in node.inputs}
        values: dict[str, Any] = dict(checked)
        order = 0
        for i, node in enumerate(graph.nodes):
            with running(is_wide=self._is_wide), self._telling(checked):
                results = graph.bind(node, values, is_wide=self._is_wide)
            for name, value in zip(node.outputs, results, strict=True):
                if not name:
                    continue
                if wanted is None or name in wanted:
                    yield _tap(node, name, order, _plain(value), reduce)
                order += 1
                if last.get(name, -1) > i:
                    values[name] = value
            for name in node.inputs:
                if last[name] == i:
                    values.pop(name, None)

    def segment(self, inputs: Sequence[str], outputs: Sequence[str]) -> JaxModel:
        """The equations between taps, of the shapes of the last pass.

        Raises:
            Unsupported: nothing was run yet, or the outputs also need tensors that are not among the inputs.
        """
        if not self._graphs:
            raise Unsupported("its graph is known after a first pass", where=self.where, hint="call or trace it first")
        graph, _ = list(self._graphs.values())[-1]
        graph.needed(inputs, outputs)
        ports = [Port(name, *graph.places[name]) for name in inputs]

        def part(given: dict[str, Any]) -> dict[str, Any]:
            return dict(zip(outputs, graph.evaluate(given, outputs), strict=True))

        return JaxModel(
            part, inputs=ports, precision="float64" if self._is_wide else None, where=f"{self.where} segment"
        )

    def cast(self, dtype: str) -> JaxModel:
        """The same equations in float64.

        Raises:
            Unsupported: for another dtype: what a lower one means is for the function's own code to say.
        """
        if dtype not in ("float64", self.effective_precision):
            raise Unsupported(f"a jaxpr is computed as it is, or in float64, not in {dtype}", where=self.where)
        return self._copy(self.weights, is_wide=dtype == "float64")

    def with_weights(self, weights: Mapping[str, Any]) -> JaxModel:
        """The same function with other values under some of the names of its weights; shapes and dtypes stay."""
        jnp = import_jax().numpy
        with running():
            changed = {name: jnp.asarray(value, self.weights[name].dtype) for name, value in weights.items()}
        return self._copy({**self.weights, **changed}, is_wide=self._is_wide)

    def _copy(self, weights: Mapping[str, Any], *, is_wide: bool) -> JaxModel:
        precision = "float64" if is_wide else None
        made = JaxModel(self.function, inputs=self._declared, precision=precision, weights=weights, where=self.where)
        made._compiled = self._compiled
        return made

    def close(self) -> None:
        """Drop what was compiled."""
        self._graphs.clear()
        self._compiled.clear()

    def _port(self, port: Port) -> Port:
        return Port(port.name, "float64" if self._is_wide and "float" in port.dtype else port.dtype, port.shape)

    def _checked(self, feeds: Feeds) -> dict[str, Array]:
        return checked_feeds(self.signature, feeds, where=self.where, allows_nan=self.allows_nan)

    def _traced(self, feeds: Mapping[str, Array]) -> tuple[JaxGraph, list[str]]:
        """The graph for these shapes, and the names of the outputs. It is traced in the declared dtypes."""
        key = _key(feeds)
        if key not in self._graphs:
            jax = import_jax()
            places = {p.name: jax.ShapeDtypeStruct(feeds[p.name].shape, p.dtype) for p in self._declared}
            weights = {name: jax.ShapeDtypeStruct(value.shape, value.dtype) for name, value in self.weights.items()}
            arguments = (weights, places) if weights else (places,)
            with running(), self._telling(feeds):
                closed, shape = jax.make_jaxpr(self.function, return_shape=True)(*arguments)
            names = [name for name, _ in named_leaves(shape)]
            _make_room(self._graphs)
            taken = [*sorted(weights), *sorted(places)]
            self._graphs[key] = (JaxGraph(closed, taken, weights=self.weights, where=self.where), names)
        return self._graphs[key]

    def _evaluated(self, graph: JaxGraph, weights: dict[str, Any], given: dict[str, Any]) -> list[Any]:
        return graph.evaluate({**weights, **given}, graph.outputs, is_wide=self._is_wide)

    def _telling(self, feeds: Mapping[str, Array]) -> _Telling:
        return _Telling(self.where, feeds)


class _Telling:
    """Turns what jax raises into one sentence."""

    def __init__(self, where: str, feeds: Mapping[str, Array]) -> None:
        self._where = where
        self._feeds = feeds

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, RegraftError):
            raise Unsupported(
                f"the function stopped: {type(error).__name__}: {str(error).strip()[:500]}",
                where=self._where,
                hint="feeds: " + ", ".join(f"{name} {value.shape}" for name, value in self._feeds.items()),
            ) from error


def jax_model(network: Any, examples: Mapping[str, Any], *, precision: str | None = None, where: str = "") -> JaxModel:
    """Wrap what a factory of the user's returned.

    Args:
        network: a function of a dict of arrays, or with a parameter for each input; or what can be called with the
            inputs in their order and is a pytree, whose arrays are its weights (a module of flax or equinox,
            `jax.tree_util.Partial(function, weights)`).
        examples: input name → array; axis 0 is the batch.
        precision: None or `float64`.
        where: how errors name the model.
    Raises:
        UsageError: no examples: a function says neither names nor shapes.
        MissingExtra: jax is not installed.
    """
    import numpy as np

    if not examples:
        raise UsageError(
            "the factory returned a function without example inputs", where=where, hint="return (function, {'x': x})"
        )
    with running():
        arrays = {str(name): import_jax().numpy.asarray(np.asarray(value)) for name, value in examples.items()}
    ports = [  # int64 has become int32, as jax does it
        Port(name, str(array.dtype), ("batch", *array.shape[1:]) if array.ndim else ())
        for name, array in arrays.items()
    ]
    weights, function = _weights_apart(network, list(examples))
    model = JaxModel(function, inputs=ports, weights=weights, where=where)
    model.graph({name: np.asarray(_plain(array)) for name, array in arrays.items()})
    if precision not in (None, "float32"):
        return model.cast(precision)
    return model


def named_leaves(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves by field name or position, in jax's order: `output_0`, `hidden.1`."""
    if isinstance(tree, Mapping):
        for key in sorted(tree):
            yield from named_leaves(tree[key], f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(tree, tuple | list):
        names = getattr(tree, "_fields", None) or [str(i) if prefix else f"output_{i}" for i in range(len(tree))]
        for name, value in zip(names, tree, strict=True):
            yield from named_leaves(value, f"{prefix}.{name}" if prefix else name)
    elif hasattr(tree, "shape"):
        yield prefix or "output_0", tree
    elif tree is not None:
        raise UsageError(f"an output of the type {type(tree).__name__}; wanted are arrays, dicts and tuples of them")


def _weights_apart(network: Any, names: Sequence[str]) -> tuple[dict[str, Any], Callable[..., Any]]:
    """The arrays of a pytree under their paths, and the network as a function of them and of feeds.

    A function has none that could be seen; it stays a function of feeds.
    """
    util = import_jax().tree_util
    found, structure = util.tree_flatten_with_path(network)
    is_partial = isinstance(network, util.Partial)  # of one argument: its place says nothing
    paths = [_path(keys).removeprefix("0.0." if is_partial else "") for keys, _ in found]
    leaves = [leaf for _, leaf in found]
    weights = {path: leaf for path, leaf in zip(paths, leaves, strict=True) if _is_weight(leaf)}
    if not weights:
        return {}, _by_name(network, names)

    def call(given: dict[str, Any], feeds: dict[str, Any]) -> Any:
        filled = [given.get(path, leaf) for path, leaf in zip(paths, leaves, strict=True)]
        return _by_name(util.tree_unflatten(structure, filled), names)(feeds)

    return weights, call


def _path(keys: Sequence[Any]) -> str:
    """`blocks.0.attention.kernel`; what flax wraps each array in (`value`) is left out."""
    parts = [str(getattr(key, "name", getattr(key, "key", getattr(key, "idx", key)))) for key in keys]
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "value" else parts)


def _is_weight(leaf: Any) -> bool:
    dtype = str(getattr(leaf, "dtype", ""))
    return hasattr(leaf, "shape") and "float" in dtype


def _by_name(network: Any, names: Sequence[str]) -> Callable[[dict[str, Any]], Any]:
    if not isinstance(network, types.FunctionType | types.MethodType):
        return lambda feeds: network(*(feeds[name] for name in names))
    parameters = inspect.signature(network).parameters
    if all(name in parameters for name in names):
        return lambda feeds: network(**feeds)
    return network


def _tap(node: Any, name: str, order: int, value: Any, reduce: Reduce | None) -> Tap:
    import numpy as np

    array: Array = np.array(value)
    kept = None if reduce is None else reduce(array)
    return Tap(
        name, node.operator, node.scope, order, value=array if reduce is None else None, kept=kept, inputs=node.inputs
    )


def _plain(value: Any) -> Any:
    """bfloat16, which numpy lacks, becomes float32 without loss; keys of random numbers become their words."""
    dtype = str(value.dtype)
    if dtype.startswith("key<"):
        return import_jax().random.key_data(value)
    return value.astype("float32") if dtype == "bfloat16" else value


def _key(feeds: Mapping[str, Array]) -> tuple[object, ...]:
    return tuple((name, value.shape) for name, value in sorted(feeds.items()))


def _make_room(kept: dict[tuple[object, ...], Any]) -> None:
    while len(kept) >= _MAX_KEPT:
        del kept[next(iter(kept))]
