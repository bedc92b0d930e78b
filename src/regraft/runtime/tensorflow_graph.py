"""A TensorFlow network without variables: loaded, frozen and inlined, in a process that has TensorFlow.

Everything that TensorFlow saves (SavedModels, Keras files, graphs, TensorFlow.js models) becomes one `GraphDef` with
named ends: what a session runs, what converters take, and in which intermediate tensors have names.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from regraft.errors import Damaged, Unsupported
from regraft.package.formats import Port
from regraft.runtime.interface import Signature

_SERVING = "serving_default"
_SAID = 500


class End(msgspec.Struct, frozen=True):
    """An input or output: how it is called, and the tensor that it is (`node:0`)."""

    port: Port
    tensor: str


class FrozenGraph(msgspec.Struct, frozen=True):
    """A graph and its ends. `definition` is a `GraphDef` whose weights are constants."""

    definition: Any
    inputs: tuple[End, ...]
    outputs: tuple[End, ...]

    @property
    def signature(self) -> Signature:
        """Ends by the names that users give them."""
        return Signature(tuple(end.port for end in self.inputs), tuple(end.port for end in self.outputs))


def import_tensorflow() -> Any:
    """The module, on the CPU and quiet; Keras within it computes with TensorFlow whatever a `keras.json` says."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ["KERAS_HOME"] = tempfile.gettempdir()
    import tensorflow

    tensorflow.get_logger().setLevel("ERROR")
    return tensorflow


def graph_of_saved_model(folder: Path, where: str = "") -> FrozenGraph:
    """The serving signature of a SavedModel.

    The loader of version 1 is used: that of version 2 fails on models of TensorFlow 2.4 whose optimiser it does not
    know any more, and both give the same graph.

    Args:
        folder: with `saved_model.pb` and `variables/`.
        where: how errors name it.
    Raises:
        Damaged: TensorFlow cannot read it.
        Unsupported: it has no signature, or what is not a constant remains.
    """
    tf = import_tensorflow()
    v1 = tf.compat.v1
    with v1.Session(graph=tf.Graph()) as session:
        try:
            meta = v1.saved_model.load(session, _tags(folder), str(folder))
        except Exception as error:
            raise Damaged(f"TensorFlow cannot load it: {_brief(error)}", where=where) from error
        signature = _serving(meta.signature_def, where)
        inputs = {name: info.name for name, info in sorted(signature.inputs.items())}
        outputs = {name: info.name for name, info in sorted(signature.outputs.items())}
        definition = _constants_for_variables(session, outputs.values(), where)
    ends = [*inputs.values(), *outputs.values()]
    return with_ends(inlined(definition, ends), inputs, outputs, where)


def graph_of_keras(path: Path, where: str = "") -> FrozenGraph:
    """A Keras file, loaded by Keras 3 or, where that cannot, by the Keras of TensorFlow 2.

    Raises:
        Unsupported: neither can; the message is that of Keras 3.
    """
    return frozen_network(keras_network(path, where), where)


def frozen_network(network: Any, where: str = "") -> FrozenGraph:
    """A Keras network of either generation as a graph; its ends have the names that `KerasModel` gives them."""
    tf = import_tensorflow()
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    inputs = [tf.TensorSpec(tensor.shape, tensor.dtype, name=f"input_{i}") for i, tensor in enumerate(network.inputs)]
    many = len(inputs) > 1

    def call(*given: Any) -> Any:
        return network(list(given) if many else given[0], training=False)

    frozen = convert_variables_to_constants_v2(tf.function(call).get_concrete_function(*inputs))
    names = [plain_name(tensor.name) for tensor in network.inputs]
    answers = list(getattr(network, "output_names", ()))
    if len(answers) != len(frozen.outputs):
        answers = [plain_name(tensor.name) for tensor in frozen.outputs]
    return with_ends(
        frozen.graph.as_graph_def(),
        dict(zip(names, (tensor.name for tensor in frozen.inputs), strict=True)),
        dict(zip(answers, (tensor.name for tensor in frozen.outputs), strict=True)),
        where,
    )


def keras_network(path: Path, where: str = "") -> Any:
    """The network of a Keras file, without its optimiser; code in the file is refused.

    Raises:
        Unsupported: no Keras loads it.
    """
    tf = import_tensorflow()
    import tf_keras

    said = ""
    for keras in (tf.keras, tf_keras):
        try:
            return keras.models.load_model(path, compile=False, safe_mode=True)
        except Exception as error:  # noqa: BLE001  Keras raises what it likes; told below
            said = said or _brief(error)
    raise Unsupported(f"Keras does not rebuild it: {said}", where=where)


def graph_of_bytes(content: bytes, where: str = "") -> FrozenGraph:
    """A frozen graph: its placeholders are inputs, what nothing consumes are outputs.

    Raises:
        Damaged: the bytes are no graph.
        Unsupported: TensorFlow refuses it.
    """
    tf = import_tensorflow()
    from google.protobuf.message import DecodeError

    definition = tf.compat.v1.GraphDef()
    try:
        definition.ParseFromString(content)
    except DecodeError as error:
        raise Damaged(f"no GraphDef: {error}", where=where) from error
    inputs, outputs = loose_ends(definition)
    return with_ends(definition, inputs, outputs, where)


def loose_ends(definition: Any) -> tuple[dict[str, str], dict[str, str]]:
    """Placeholders, and nodes that nothing consumes: name → tensor."""
    consumed = {node_of(name) for node in definition.node for name in node.input}
    inputs = {node.name: f"{node.name}:0" for node in definition.node if node.op == "Placeholder"}
    silent = ("Placeholder", "Const", "NoOp", "Assert")
    ends = [one.name for one in definition.node if one.name not in consumed and one.op not in silent]
    return inputs, {name: f"{name}:0" for name in ends}


def with_ends(definition: Any, inputs: dict[str, str], outputs: dict[str, str], where: str = "") -> FrozenGraph:
    """A graph with named ends; their dtypes and shapes are those that TensorFlow infers.

    Args:
        definition: a `GraphDef`.
        inputs, outputs: name → tensor. Inputs that the graph does not have are left out.
        where: how errors name it.
    Raises:
        Unsupported: TensorFlow refuses the graph, or has no such output.
    """
    tf = import_tensorflow()
    nodes = {node.name for node in definition.node}
    inputs = {name: tensor for name, tensor in inputs.items() if node_of(tensor) in nodes}
    if not outputs:
        raise Unsupported("nothing says what it answers with: it has no outputs", where=where)
    graph = tf.Graph()
    try:
        with graph.as_default():
            tf.import_graph_def(definition, name="")
        ends = [tuple(_end(graph, name, tensor) for name, tensor in named.items()) for named in (inputs, outputs)]
    except (ValueError, KeyError, tf.errors.OpError) as error:
        raise Unsupported(f"TensorFlow refuses the graph: {_brief(error)}", where=where) from error
    return FrozenGraph(definition, *ends)


def inlined(definition: Any, ends: Iterable[str]) -> Any:
    """The graph with the bodies of its functions in their place, so that what they compute has names.

    Args:
        definition: a `GraphDef`.
        ends: tensors that must stay.
    """
    if not definition.library.function:
        return definition
    tf = import_tensorflow()
    from tensorflow.core.protobuf import config_pb2, meta_graph_pb2
    from tensorflow.python.grappler import tf_optimizer

    config = config_pb2.ConfigProto()
    config.graph_options.rewrite_options.optimizers[:] = ["function"]
    with tf.Graph().as_default():
        tf.import_graph_def(definition, name="")
        meta = tf.compat.v1.train.export_meta_graph(graph_def=definition)
    kept = meta_graph_pb2.CollectionDef()
    kept.node_list.value.extend(full(name) for name in ends)
    meta.collection_def["train_op"].CopyFrom(kept)
    return tf_optimizer.OptimizeGraph(config, meta)


def node_of(tensor: str) -> str:
    """Name of the node that makes a tensor, or that a control edge comes from."""
    return tensor.lstrip("^").partition(":")[0]


def full(tensor: str) -> str:
    """`node` as `node:0`."""
    return tensor if ":" in tensor else f"{tensor}:0"


def plain_name(tensor: str) -> str:
    """`input:0` as `input`."""
    return tensor.removesuffix(":0")


def _tags(folder: Path) -> list[str]:
    """Those of the meta graph for serving, else those of the first."""
    from tensorflow.python.tools.saved_model_utils import get_saved_model_tag_sets

    found: Sequence[Sequence[str]] = get_saved_model_tag_sets(str(folder))
    return list(next((tags for tags in found if list(tags) == ["serve"]), found[0]))


def _serving(signatures: Any, where: str) -> Any:
    if _SERVING in signatures:
        return signatures[_SERVING]
    named = sorted(key for key in signatures if not key.startswith("__"))
    if not named:
        raise Unsupported("the SavedModel has no signature, so nothing says what goes in and comes out", where=where)
    return signatures[named[0]]


def _constants_for_variables(session: Any, outputs: Iterable[str], where: str) -> Any:
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_from_session_graph

    names = sorted({node_of(name) for name in outputs})
    try:
        return convert_variables_to_constants_from_session_graph(session, session.graph_def, names)
    except Exception as error:
        raise Unsupported(f"its variables cannot be made constants: {_brief(error)}", where=where) from error


def _end(graph: Any, name: str, tensor: str) -> End:
    found = graph.get_tensor_by_name(full(tensor))
    shape = None if found.shape.rank is None else tuple(found.shape.as_list())
    return End(Port(name, dtype_name(found.dtype), shape), full(tensor))


def dtype_name(dtype: Any) -> str:
    """TensorFlow's dtype by the name that signatures use."""
    name: str = dtype.base_dtype.name
    return {"half": "float16", "float": "float32", "double": "float64"}.get(name, name)


def const_nodes(definition: Any) -> Iterator[Any]:
    """Every constant, those of functions included."""
    yield from (node for node in definition.node if node.op == "Const")
    for function in definition.library.function:
        yield from (node for node in function.node_def if node.op == "Const")


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:_SAID]}"
