"""TensorFlow: SavedModels, TensorFlow.js models, graphs and Keras files as a `Model`, in an environment of its own."""

from __future__ import annotations

import io
import posixpath
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.errors import Damaged, Unsupported
from regraft.package.formats import Port
from regraft.package.formats.tfjs_weights import shards
from regraft.runtime.feeding import checked_feeds
from regraft.runtime.interface import Signature, Tap
from regraft.runtime.isolated import IsolatedModel
from regraft.runtime.isolated_worker import Recipe

if TYPE_CHECKING:
    from regraft.package.package import Package
    from regraft.runtime.interface import Array, Feeds, LoadOptions, Reduce
    from regraft.runtime.tensorflow_graph import FrozenGraph
    from regraft.runtime.verified import VerifiedFiles

_FORMATS = {"tf-saved-model", "tfjs", "tf-graph", "keras-h5", "keras-v3"}
_ENVIRONMENT = "tensorflow"
_SILENT = frozenset({"Placeholder", "PlaceholderWithDefault", "Const", "NoOp"})
_VARIABLES = "variables/"


class TensorFlowRuntime:
    """Loads what TensorFlow and TensorFlow.js save. Keras files come here where the runtime is named."""

    name = "tensorflow"

    def can_load(self, package: Package, path: str, options: LoadOptions) -> bool:
        """A SavedModel, a tfjs model with its topology, a frozen graph, or a Keras file with an architecture."""
        from regraft.package.formats.keras import model_config

        probe, recognised = package.probe(path)
        if options.factory is not None or recognised is None or recognised.name not in _FORMATS:
            return False
        if recognised.name == "tfjs":
            return isinstance(probe.json, dict) and isinstance(probe.json.get("modelTopology"), dict)
        return not recognised.name.startswith("keras") or model_config(probe) is not None

    def load(self, files: VerifiedFiles, path: str, options: LoadOptions) -> IsolatedModel:
        """Hand the verified bytes of the model and of its weights to a process of the environment `tensorflow`.

        Raises:
            MissingEnvironment: it was not made yet.
        """
        kind = files.format_of(path)
        arguments = {"kind": kind, "path": path, "threads": options.threads, "precision": options.precision}
        recipe = Recipe(f"{__name__}:model_of", _packed(files, path, kind), arguments, _ENVIRONMENT)
        return IsolatedModel(recipe, where=path)


class TensorFlowModel:
    """A frozen graph on the CPU, in this very process.

    Args:
        graph: with its ends.
        threads: within an operator; None for TensorFlow's choice.
        where: how errors name it.
    """

    runtime = "tensorflow"

    def __init__(self, graph: FrozenGraph, *, threads: int | None = None, where: str = "") -> None:
        from regraft.runtime.tensorflow_graph import import_tensorflow

        self.where = where
        self.allows_nan = False
        self._graph = graph
        self._threads = threads
        self._tf = import_tensorflow()
        self._imported = self._tf.Graph()
        with self._imported.as_default():
            self._tf.import_graph_def(graph.definition, name="")
        self._session = self._tf.compat.v1.Session(graph=self._imported, config=_configuration(self._tf, threads))

    @property
    def signature(self) -> Signature:
        """Inputs and outputs by the names of the signature that the file has; a first axis of any size is `batch`."""
        return Signature(
            tuple(_with_batch(end.port) for end in self._graph.inputs), tuple(end.port for end in self._graph.outputs)
        )

    @property
    def effective_precision(self) -> str:
        """The commonest floating dtype of the tensors that depend on the inputs."""
        from regraft.runtime.tensorflow_graph import dtype_name

        found = Counter(dtype_name(tensor.dtype) for tensor in self._computed() if tensor.dtype.is_floating)
        return found.most_common(1)[0][0] if found else "float32"

    def __call__(self, feeds: Feeds) -> dict[str, Array]:
        """One pass."""
        return self._run({end.port.name: end.tensor for end in self._graph.outputs}, feeds)

    def trace(self, feeds: Feeds, *, taps: Sequence[str] | None = None, reduce: Reduce | None = None) -> Iterator[Tap]:
        """Every tensor that depends on the inputs, in an order in which they can be computed; all exist at once.

        What lies within a loop or a branch has no single value, and is left out.
        """
        from regraft.runtime.tensorflow_graph import plain_name

        wanted = None if taps is None else frozenset(taps)
        found = {plain_name(tensor.name): tensor for tensor in self._computed() if not _is_opaque(tensor)}
        asked = {name: tensor for name, tensor in found.items() if wanted is None or name in wanted}
        values = self._run({name: tensor.name for name, tensor in asked.items()}, feeds)
        for order, (name, tensor) in enumerate(asked.items()):
            kept = None if reduce is None else reduce(values[name])
            consumed = tuple(plain_name(one.name) for one in tensor.op.inputs)
            scope = posixpath.dirname(tensor.op.name)
            plain = values[name] if reduce is None else None
            yield Tap(name, tensor.op.type, scope, order, value=plain, kept=kept, inputs=consumed)

    def segment(self, inputs: Sequence[str], outputs: Sequence[str]) -> TensorFlowModel:
        """The part of the graph between tensors.

        Raises:
            Unsupported: there is no such tensor, or the outputs also need inputs of the whole graph.
        """
        from regraft.runtime.tensorflow_graph import End, dtype_name

        begin, end = [self._tensor(name) for name in inputs], [self._tensor(name) for name in outputs]
        self._require_between(begin, end)
        ends = [
            tuple(End(Port(name, dtype_name(one.dtype), None), one.name) for name, one in zip(*pair, strict=True))
            for pair in ((inputs, begin), (outputs, end))
        ]
        part = msgspec.structs.replace(self._graph, inputs=ends[0], outputs=ends[1])
        return TensorFlowModel(part, threads=self._threads, where=f"{self.where} segment")

    def cast(self, dtype: str) -> TensorFlowModel:
        """The same graph in float64.

        Raises:
            Unsupported: another precision, or an operator that has no float64.
        """
        from regraft.runtime.tensorflow_editing import in_float64

        if dtype == self.effective_precision:
            return self
        if dtype != "float64":
            raise Unsupported(f"TensorFlow graphs are not cast to {dtype}", where=self.where)
        return TensorFlowModel(in_float64(self._graph, self.where), threads=self._threads, where=self.where)

    def float_weights(self) -> Iterator[Array]:
        """Weights in float32 that have at least one axis."""
        from regraft.runtime.tensorflow_graph import const_nodes

        for node in const_nodes(self._graph.definition):
            tensor = node.attr["value"].tensor
            if tensor.dtype == self._tf.float32.as_datatype_enum and tensor.tensor_shape.dim:
                yield self._tf.make_ndarray(tensor)

    def with_moved_weights(self, seed: int, unit: float) -> TensorFlowModel:
        """A copy whose weights are neighbouring numbers, for noise floors."""
        from regraft.runtime.tensorflow_editing import with_moved_weights

        return TensorFlowModel(with_moved_weights(self._graph, seed, unit), threads=self._threads, where=self.where)

    def close(self) -> None:
        """Free the session."""
        self._session.close()

    def _run(self, wanted: dict[str, str], feeds: Feeds) -> dict[str, Array]:
        checked = checked_feeds(self.signature, feeds, where=self.where, allows_nan=self.allows_nan)
        given = {end.tensor: checked[end.port.name] for end in self._graph.inputs}
        try:
            found: dict[str, Array] = self._session.run(wanted, given)
        except (self._tf.errors.OpError, ValueError, RuntimeError) as error:
            shapes = ", ".join(f"{name} {value.shape}" for name, value in feeds.items())
            said = " ".join(str(error).split())[:500]
            raise Unsupported(f"TensorFlow stopped: {said}", where=self.where, hint=f"feeds: {shapes}") from error
        import numpy as np

        return {name: np.asarray(value) for name, value in found.items()}

    def _computed(self) -> Iterator[Any]:
        """Tensors that depend on an input and are outside of loops and branches."""
        reached = {end.tensor for end in self._graph.inputs}
        depths: dict[str, int] = {}
        for operation in _in_order(self._imported.get_operations()):
            names = [tensor.name for tensor in operation.inputs]
            depth = max((depths.get(name, 0) for name in names), default=0) + _step(operation)
            is_result = operation.type == "Exit"  # what it depends on also comes around the loop
            is_reached = is_result or (operation.type not in _SILENT and not reached.isdisjoint(names))
            for tensor in operation.outputs:
                depths[tensor.name] = depth
                if is_reached and tensor.name not in reached:
                    reached.add(tensor.name)
                    if depth <= 0:
                        yield tensor

    def _tensor(self, name: str) -> Any:
        from regraft.runtime.tensorflow_graph import full

        try:
            return self._imported.get_tensor_by_name(full(name))
        except (KeyError, ValueError):
            raise Unsupported(f"there is no such tensor: {name!r}", where=self.where) from None

    def _require_between(self, begin: Sequence[Any], end: Sequence[Any]) -> None:
        known = {tensor.name for tensor in begin}
        waiting = [tensor for tensor in end if tensor.name not in known]
        while waiting:
            operation = waiting.pop().op
            if operation.type == "Placeholder":
                raise Unsupported(
                    f"the outputs also need {operation.name}, an input of the whole graph", where=self.where
                )
            for tensor in operation.inputs:
                if tensor.name not in known:
                    known.add(tensor.name)
                    waiting.append(tensor)


def model_of(
    content: bytes, *, kind: str, path: str, threads: int | None = None, precision: str | None = None
) -> TensorFlowModel:
    """Build the model from its packed files, in the process that has TensorFlow.

    Args:
        content: as `_packed` makes it.
        kind: name of the format.
        path: of the model file, for errors.
        threads: within an operator.
        precision: `float64`, or that of the graph.
    Raises:
        Damaged, Unsupported: as loading it.
    """
    with tempfile.TemporaryDirectory(prefix="regraft-") as name:
        graph = graph_of_file(_unpacked(content, Path(name)), kind, path)
    model = TensorFlowModel(graph, threads=threads, where=path)
    if precision in (None, model.effective_precision):
        return model
    if precision != "float64":
        raise Unsupported(f"the graph computes in {model.effective_precision}, not {precision}", where=path)
    return model.cast(precision)


def graph_of_file(place: Path, kind: str, where: str = "") -> FrozenGraph:
    """What any of the formats holds, as a graph; its weights lie beside it.

    Args:
        place: the model file; of a SavedModel, `saved_model.pb`.
        kind: name of the format.
        where: how errors name it.
    Raises:
        Damaged, Unsupported: as loading it.
    """
    from regraft.runtime import tensorflow_graph, tfjs_graph

    if kind == "tf-saved-model":
        return tensorflow_graph.graph_of_saved_model(place.parent, where)
    if kind == "tfjs":
        return tfjs_graph.graph_of_tfjs(place, where)
    if kind == "tf-graph":
        return tensorflow_graph.graph_of_bytes(place.read_bytes(), where)
    return tensorflow_graph.graph_of_keras(place, where)


_SUFFIXES = {"keras-h5": "model.h5", "keras-v3": "model.keras", "tf-saved-model": "saved_model.pb"}


def _packed(files: VerifiedFiles, path: str, kind: str) -> bytes:
    """The model file first, then what belongs to it, as one uncompressed zip."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(_SUFFIXES.get(kind, "model.json"), files.read(path))
        for name in _belonging(files, path, kind):
            found = files.beside(path, name)
            if found is None:
                hint = f"name the folder that has both: FOLDER#{posixpath.basename(path)}"
                raise Damaged(f"the weights {name} are missing", where=path, hint=hint)
            archive.writestr(name, files.read_opaque(found))
    return packed.getvalue()


def _belonging(files: VerifiedFiles, path: str, kind: str) -> list[str]:
    """Names relative to the model file."""
    if kind == "tfjs":
        probe, _ = files.package.probe(path)
        whole: Any = probe.json
        return list(shards(whole.get("weightsManifest")))
    if kind != "tf-saved-model":
        return []
    root = posixpath.dirname(path)
    places = [posixpath.relpath(one, root or ".") for one in files.paths() if not root or one.startswith(f"{root}/")]
    return [one for one in places if one.startswith((_VARIABLES, "assets/"))]


def _unpacked(content: bytes, folder: Path) -> Path:
    """Write the files; returns the place of the model file."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for name in archive.namelist():
            place = folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(archive.read(name))
        return folder / archive.namelist()[0]


def _configuration(tf: Any, threads: int | None) -> Any:
    """Grappler's remapper is off: it fuses operators, and in TensorFlow 2.19 it crashes on some sound graphs."""
    options = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=threads or 0)
    options.graph_options.rewrite_options.remapping = options.graph_options.rewrite_options.OFF
    return options


def _in_order(operations: Sequence[Any]) -> Iterator[Any]:
    """Each operation after those that it consumes, save for the edges that lead back to the head of a loop."""
    seen: set[str] = set()
    for last in operations:
        waiting = [(last, iter(last.inputs))]
        while waiting:
            operation, givers = waiting[-1]
            giver = next((one.op for one in givers if one.op.name not in seen and one.op.type != "NextIteration"), None)
            if giver is not None:
                waiting.append((giver, iter(giver.inputs)))
                continue
            waiting.pop()
            if operation.name not in seen:
                seen.add(operation.name)
                yield operation


def _step(operation: Any) -> int:
    """How much deeper in loops and branches of TensorFlow 1 the results of an operator are than its inputs."""
    kind = operation.type.removeprefix("Ref")
    givers = {tensor.op.type for tensor in operation.inputs}
    if kind in ("Enter", "Exit"):
        return 1 if kind == "Enter" else -1
    if kind == "Switch":
        return 0 if "LoopCond" in givers else 1
    return -1 if kind == "Merge" and not any("NextIteration" in one for one in givers) else 0


def _with_batch(port: Port) -> Port:
    shape = port.shape
    return Port(port.name, port.dtype, ("batch", *shape[1:])) if shape and shape[0] is None else port


def _is_opaque(tensor: Any) -> bool:
    """Neither numbers nor booleans: handles, lists of tensors, texts."""
    dtype = tensor.dtype.base_dtype
    return not (dtype.is_floating or dtype.is_integer or dtype.is_bool)
