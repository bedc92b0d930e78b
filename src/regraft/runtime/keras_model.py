"""Keras: a saved model on the JAX backend as a `Model`, its layers as taps. Code in the file is never run."""

from __future__ import annotations

import contextlib
import functools
import os
import posixpath
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.errors import Damaged, MissingExtra, Unsupported
from regraft.package.formats import Port
from regraft.package.formats.keras import config_objects, model_config
from regraft.runtime.interface import Signature, Tap
from regraft.runtime.jax_model import JaxModel

if TYPE_CHECKING:
    from regraft.package.package import Package
    from regraft.runtime.interface import Array, Feeds, LoadOptions, Reduce
    from regraft.runtime.jax_graph import JaxGraph
    from regraft.runtime.verified import VerifiedFiles

_FORMATS = {"keras-h5": ".h5", "keras-v3": ".keras"}
_LAMBDAS = frozenset({"Lambda", "__lambda__"})


class KerasRuntime:
    """Loads whole models in HDF5 or Keras 3's zip that a scan permits. Layers of code are refused even then."""

    name = "keras"

    def can_load(self, package: Package, path: str, options: LoadOptions) -> bool:
        """A file with an architecture; weights alone are none."""
        probe, recognised = package.probe(path)
        if options.factory is not None or recognised is None or recognised.name not in _FORMATS:
            return False
        return model_config(probe) is not None

    def load(self, files: VerifiedFiles, path: str, options: LoadOptions) -> KerasModel:
        """Let Keras rebuild the network from the permitted bytes, in safe mode and without compiling it."""
        if options.threads is not None:
            raise Unsupported(
                "JAX cannot be told a number of threads once it is imported", where=path, hint="leave --threads out"
            )
        content = files.read(path)
        probe, _ = files.package.probe(path)
        layers = [one for one in config_objects(model_config(probe)) if one["class_name"] in _LAMBDAS]
        if layers:
            raise Unsupported(
                "a Lambda layer carries code, and a file's code is not run",
                where=path,
                hint="rebuild the network in a factory of yours and load the weights alone",
            )
        network = _network(content, _FORMATS[files.format_of(path)], path)
        return KerasModel(network, precision=options.precision, where=path)


class KerasModel:
    """A `keras.Model` in inference mode, on the CPU.

    Args:
        network: functional, sequential, or one that was called once.
        precision: `float64` computes everything in float64; None or what the network has leaves it.
        where: how errors name it.
    Raises:
        Unsupported: another precision.
    """

    runtime = "keras"

    def __init__(self, network: Any, *, precision: str | None = None, where: str = "") -> None:
        self.network = network
        self.where = where
        self._is_wide = precision == "float64"
        self._whole = _jax_model(network, list(network.inputs), precision, where)
        if precision not in (None, "float64", self.effective_precision):
            raise Unsupported(f"the network computes in {self.effective_precision}, not {precision}", where=where)

    @property
    def whole(self) -> JaxModel:
        """The network as one function of JAX; its outputs stand in the order of this model's."""
        return self._whole

    @property
    def allows_nan(self) -> bool:
        """As `Model.allows_nan`."""
        return self._whole.allows_nan

    @allows_nan.setter
    def allows_nan(self, value: bool) -> None:
        self._whole.allows_nan = value

    @property
    def signature(self) -> Signature:
        """Inputs and outputs by the names of their layers."""
        outputs = [
            Port(name, self._dtype(tensor), tuple(tensor.shape))
            for name, tensor in zip(self._output_names, self.network.outputs, strict=True)
        ]
        return Signature(self._whole.signature.inputs, tuple(outputs))

    @property
    def effective_precision(self) -> str:
        """The dtype that the first of its layers with a policy computes in, or float64."""
        return "float64" if self._is_wide else str(self.network.dtype_policy.compute_dtype)

    def graph(self, feeds: Feeds) -> JaxGraph:
        """The operators that the layers consist of; see `JaxModel.graph`."""
        return self._whole.graph(feeds)

    def __call__(self, feeds: Feeds) -> dict[str, Array]:
        """One pass, compiled as a whole."""
        return dict(zip(self._output_names, self._whole(feeds).values(), strict=True))

    def trace(self, feeds: Feeds, *, taps: Sequence[str] | None = None, reduce: Reduce | None = None) -> Iterator[Tap]:
        """The output of every layer, in one compiled pass that returns those that are asked for.

        A layer that is called more than once gives one tap a call: `name`, `name:1`, …. A model inside of the model
        is one layer.
        """
        wanted = None if taps is None else frozenset(taps)
        asked = [(i, one) for i, one in enumerate(self._layers) if wanted is None or one.name in wanted]
        if not asked:
            return
        names = frozenset(one.name for _, one in asked)
        if names not in self._tracers:
            self._tracers[names] = _jax_model(
                self._part(list(self.network.inputs), [one.tensor for _, one in asked]),
                list(self.network.inputs),
                "float64" if self._is_wide else None,
                self.where,
            )
        self._tracers[names].allows_nan = self.allows_nan
        for (order, one), value in zip(asked, self._tracers[names](feeds).values(), strict=True):
            kept = None if reduce is None else reduce(value)
            plain = value if reduce is None else None
            yield Tap(one.name, one.kind, one.name, order, value=plain, kept=kept, inputs=one.inputs)

    def segment(self, inputs: Sequence[str], outputs: Sequence[str]) -> KerasModel:
        """The layers between taps.

        Raises:
            Unsupported: there is no such tap, or the outputs also need others than the inputs.
        """
        tensors = {one.name: one.tensor for one in self._layers} | {t.name: t for t in self.network.inputs}
        missing = [name for name in (*inputs, *outputs) if name not in tensors]
        if missing:
            raise Unsupported(f"there is no layer {missing[0]!r}", where=self.where)
        part = self._part([tensors[name] for name in inputs], [tensors[name] for name in outputs])
        model = KerasModel(part, precision="float64" if self._is_wide else None, where=f"{self.where} segment")
        model._names = (tuple(inputs), tuple(outputs))
        model._whole = _jax_model(part, list(part.inputs), "float64" if self._is_wide else None, model.where, inputs)
        return model

    @property
    def weights(self) -> dict[str, Any]:
        """Variables by their paths in the network."""
        return self._whole.weights

    def with_weights(self, weights: Mapping[str, Any]) -> KerasModel:
        """The network with other values in some of its variables, which are set in the network itself, too."""
        for name, variable in _variables(self.network).items():
            if name in weights:
                variable.assign(weights[name])
        made = KerasModel(self.network, precision="float64" if self._is_wide else None, where=self.where)
        if self._names is None:
            made._whole = self._whole.with_weights(weights)  # shares what is compiled
        return made

    def cast(self, dtype: str) -> KerasModel:
        """The same network in float64."""
        made = KerasModel(self.network, precision=dtype, where=self.where)
        if dtype == "float64" and self._names is None:
            made._whole = self._whole.cast(dtype)  # shares what is compiled
        return made

    def close(self) -> None:
        """Drop what was compiled."""
        self._whole.close()
        self._tracers.clear()

    _names: tuple[tuple[str, ...], tuple[str, ...]] | None = None

    @functools.cached_property
    def _tracers(self) -> dict[frozenset[str], JaxModel]:
        return {}

    @property
    def _output_names(self) -> Sequence[str]:
        if self._names is not None:
            return self._names[1]
        functional = getattr(self.network, "_functional", None) or self.network  # Keras 3 leaves a Sequential without
        found: Sequence[str] = functional.output_names
        return found

    def _dtype(self, tensor: Any) -> str:
        return "float64" if self._is_wide and "float" in tensor.dtype else str(tensor.dtype)

    def _part(self, inputs: list[Any], outputs: list[Any]) -> Any:
        keras = import_keras(self.where)
        try:
            return keras.Model(inputs, outputs)
        except ValueError as error:
            raise Unsupported(f"no network leads there: {str(error)[:300]}", where=self.where) from error

    @functools.cached_property
    def _layers(self) -> list[_Layer]:
        """Every call of a layer, in an order in which they can be run."""
        functional = getattr(self.network, "_functional", self.network)
        depths = getattr(functional, "_nodes_by_depth", None)
        if depths is None:
            raise Unsupported("only functional and sequential networks show their layers", where=self.where)
        names = {id(tensor): tensor.name for tensor in self.network.inputs}
        counts: dict[str, int] = {}
        found: list[_Layer] = []
        for depth in sorted(depths, reverse=True):
            for node in depths[depth]:
                if node.is_input:
                    continue
                plain = node.operation.name
                count = counts[plain] = counts.get(plain, -1) + 1
                call = f"{plain}:{count}" if count else plain
                consumed = tuple(names.get(id(tensor), "") for tensor in node.input_tensors)
                for i, tensor in enumerate(node.outputs):
                    name = f"{call}.{i}" if len(node.outputs) > 1 else call
                    names[id(tensor)] = name
                    found.append(_Layer(name, type(node.operation).__name__, tensor, consumed))
        return found


class _Layer(msgspec.Struct, frozen=True):
    """One output of one call of a layer."""

    name: str
    kind: str
    tensor: Any
    inputs: tuple[str, ...]


def import_keras(where: str = "") -> Any:
    """The keras module on the JAX backend, with its own defaults whatever a `keras.json` of the user's says.

    Raises:
        MissingExtra: keras or jax is not installed.
        Unsupported: this process has imported it with another backend.
    """
    if "keras" not in sys.modules:
        with tempfile.TemporaryDirectory() as home, _environment(KERAS_BACKEND="jax", KERAS_HOME=home):
            try:
                import jax  # noqa: F401
                import keras
            except ImportError as error:
                raise MissingExtra("keras", extra="keras", where=where) from error
    import keras

    if keras.backend.backend() != "jax":
        raise Unsupported(
            f"keras was imported on the backend {keras.backend.backend()}", where=where, hint="export KERAS_BACKEND=jax"
        )
    return keras


def _network(content: bytes, suffix: str, path: str) -> Any:
    keras = import_keras(path)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"model{suffix}"
        file.write_bytes(content)
        try:
            network = keras.saving.load_model(file, compile=False, safe_mode=True)
        except OSError as error:
            raise Damaged(f"Keras cannot read it: {_brief(error, folder)}", where=path) from error
        except Exception as error:  # Keras raises what it likes
            raise Unsupported(f"Keras does not rebuild it: {_brief(error, folder)}", where=path) from error
    if not getattr(network, "inputs", None):
        raise Unsupported(
            f"the {type(network).__name__} {posixpath.basename(path)} does not say its inputs", where=path
        )
    return network


def _jax_model(
    network: Any, inputs: Sequence[Any], precision: str | None, where: str, names: Sequence[str] | None = None
) -> JaxModel:
    """The network as a function of JAX; its outputs in a tuple, in the network's order."""
    named = list(names or [tensor.name for tensor in inputs])
    ports = [
        Port(name, str(tensor.dtype), tuple("batch" if i == 0 and e is None else e for i, e in enumerate(tensor.shape)))
        for name, tensor in zip(named, inputs, strict=True)
    ]
    weights = {name: variable.value for name, variable in _variables(network).items()}
    return JaxModel(_function(network, named), inputs=ports, precision=precision, weights=weights, where=where)


def _variables(network: Any) -> dict[str, Any]:
    """Variables by their paths; a path that several have is told apart by a number."""
    found: dict[str, Any] = {}
    for variable in (*network.trainable_variables, *network.non_trainable_variables):
        path, count = variable.path, 0
        while path in found:
            count += 1
            path = f"{variable.path}:{count}"
        found[path] = variable
    return found


def _function(network: Any, names: Sequence[str]) -> Callable[..., Any]:
    order = list(_variables(network))
    count = len(network.trainable_variables)

    def call(*arguments: dict[str, Any]) -> Any:
        *weights, feeds = arguments  # a network without variables has no first argument
        values = [weights[0][name] for name in order] if weights else []
        trainable, others = values[:count], values[count:]
        given = [feeds[name] for name in names]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of a list in place of one input
            outputs, _ = network.stateless_call(
                trainable, others, given if len(given) > 1 else given[0], training=False
            )
        return tuple(outputs) if isinstance(outputs, list | tuple) else outputs

    return call


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _brief(error: Exception, folder: str) -> str:
    lines = [line.strip() for line in str(error).replace(folder, "").splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines)[:400]}"
