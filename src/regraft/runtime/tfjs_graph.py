"""TensorFlow.js models as TensorFlow graphs: operators that only tfjs knows are written as those that they fuse.

Source: tfjs-converter (`operation_executor`, `fused_conv2d`): its graphs are GraphDefs in JSON whose constants lie in a
weight manifest, and in which BiasAdd and activations are fused into what they follow.
"""

from __future__ import annotations

import base64
import json
import posixpath
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.errors import Damaged, Unsupported
from regraft.package.formats.tfjs_weights import weights_of
from regraft.runtime.tensorflow_graph import FrozenGraph, frozen_network, import_tensorflow, loose_ends, with_ends

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Weights = Mapping[str, NDArray[np.generic]]

_FUSED = {
    "_FusedConv2D": "Conv2D", "FusedDepthwiseConv2dNative": "DepthwiseConv2dNative", "_FusedMatMul": "MatMul",
}  # fmt: skip
_ACTIVATIONS = ("Relu", "Relu6", "Elu", "Sigmoid", "Tanh", "LeakyRelu", "Prelu")
_OF_THE_FUSION = ("fused_ops", "num_args", "epsilon", "leakyrelu_alpha", "num_host_args", "TArgs", "host_args")
_STATELESS_ENOUGH = (
    "Random", "HashTable", "LookupTable", "TensorArray", "TensorList", "Multinomial", "StatelessRandom", "Assert",
)  # fmt: skip


def graph_of_tfjs(path: Path, where: str = "") -> FrozenGraph:
    """A graph or layers model of TensorFlow.js.

    Args:
        path: `model.json`, with its shards beside it.
        where: how errors name it.
    Raises:
        Damaged: JSON, graph or weights are not sound.
        Unsupported: an operator is unknown, or could do more than compute.
    """
    whole = json.loads(path.read_bytes())
    weights = weights_of(whole.get("weightsManifest"), lambda name: (path.parent / name).read_bytes())
    topology = whole.get("modelTopology") or {}
    if "node" not in topology:
        return frozen_network(_network_of_layers(topology, weights, where), where)
    definition = _definition(topology, weights, where)
    inputs, outputs = _signature(whole)
    placeholders, ends = loose_ends(definition)
    if not set(placeholders.values()) <= set(inputs.values()):
        inputs = placeholders  # some files sign for names that their graph does not have
    return with_ends(definition, inputs, outputs or ends, where)


def keras_network_of_tfjs(path: Path, where: str = "") -> Any:
    """A model of layers as a network of TensorFlow 2's Keras.

    Args:
        path, where: as for `graph_of_tfjs`.
    Raises:
        Damaged: weights are missing, or of another shape.
        Unsupported: it is a graph model, or a layer carries code.
    """
    whole = json.loads(path.read_bytes())
    topology = whole.get("modelTopology") or {}
    if "node" in topology:
        raise Unsupported(
            "a graph model has operators and no layers, of which Keras consists; it becomes a SavedModel"
            " (--to saved-model), ONNX or TFLite",
            where=where,
        )
    weights = weights_of(whole.get("weightsManifest"), lambda name: (path.parent / name).read_bytes())
    return _network_of_layers(topology, weights, where)


def _definition(topology: Mapping[str, Any], weights: Weights, where: str) -> Any:
    """The GraphDef: constants filled in, fusions undone, every operator one that can only compute."""
    tf = import_tensorflow()
    from google.protobuf import json_format

    try:
        read = json_format.ParseDict(_with_texts(topology), tf.compat.v1.GraphDef(), ignore_unknown_fields=True)
    except json_format.ParseError as error:
        raise Damaged(f"the topology is no graph: {str(error)[:300]}", where=where) from error
    plain = tf.compat.v1.GraphDef()
    plain.CopyFrom(read)
    del plain.node[:]
    for node in read.node:
        node.device = ""
        if node.op == "Const" and node.name in weights:
            node.attr["value"].tensor.CopyFrom(_constant(weights[node.name], node.attr["dtype"].type))
        if node.op in _FUSED:
            _unfuse(plain, node, where)
        elif node.op == "Prelu":  # tfjs's own operator, which says no dtype
            node.attr["T"].type = node.attr["T"].type or tf.float32.as_datatype_enum
            _add_prelu(plain, node.name, node.input[0], node.input[1], node.attr["T"])
        else:
            plain.node.append(node)
    for node in (*plain.node, *(one for function in plain.library.function for one in function.node_def)):
        _require_computing(node, where)
    return plain


def _constant(value: NDArray[np.generic], dtype: int) -> Any:
    """A weight in the dtype of its constant: tfjs stores 64 bit integers in 32 bits."""
    tf = import_tensorflow()
    wanted = tf.dtypes.as_dtype(dtype).as_numpy_dtype
    return tf.make_tensor_proto(value if value.dtype == object else value.astype(wanted))


def _with_texts(value: Any, key: str = "") -> Any:
    """Old converters wrote byte strings as lists of numbers; protocol buffers in JSON have them in base64."""
    if isinstance(value, list):
        return [_with_texts(one) for one in value]
    if not isinstance(value, dict):
        return value
    texts = value.get("s")
    if not isinstance(texts, list):
        return {name: _with_texts(one, name) for name, one in value.items()}
    return {**value, "s": [_base64(one) for one in texts] if key == "list" else _base64(texts)}


def _base64(value: Any) -> Any:
    is_bytes = isinstance(value, list) and all(type(one) is int and 0 <= one < 256 for one in value)
    return base64.b64encode(bytes(value)).decode() if is_bytes else value


def _unfuse(graph: Any, node: Any, where: str) -> None:
    """The operator, its bias and its activation, one after the other; the last one has the name of the fusion."""
    fused = [one.decode() for one in node.attr["fused_ops"].list.s]
    if any(one != "BiasAdd" and one not in _ACTIVATIONS for one in fused):
        raise Unsupported(f"the fusion of {' and '.join(fused)} into {node.op} is not known", where=where)
    operands = list(node.input[2 : 2 + node.attr["num_args"].i])
    names = [f"{node.name}/{one.lower()}" for one in (_FUSED[node.op], *fused)]
    names[-1] = node.name
    first = graph.node.add(name=names[0], op=_FUSED[node.op], input=node.input[:2])
    for key, value in node.attr.items():
        if key not in _OF_THE_FUSION:
            first.attr[key].CopyFrom(value)
    for name, before, one in zip(names[1:], names, fused, strict=False):
        if one == "Prelu":
            _add_prelu(graph, name, before, operands.pop(0), node.attr["T"])
            continue
        added = graph.node.add(name=name, op=one, input=[before])
        added.attr["T"].CopyFrom(node.attr["T"])
        if one == "BiasAdd":
            added.input.append(operands.pop(0))
            if node.op != "_FusedMatMul" and node.attr["data_format"].s:
                added.attr["data_format"].CopyFrom(node.attr["data_format"])
        elif one == "LeakyRelu":
            added.attr["alpha"].f = node.attr["leakyrelu_alpha"].f


def _add_prelu(graph: Any, name: str, given: str, slope: str, dtype: Any) -> None:
    """x ↦ max(x, 0) − slope · max(−x, 0), which is what tfjs's Prelu computes."""
    parts = (
        (f"{name}/above", "Relu", (given,)),
        (f"{name}/negated", "Neg", (given,)),
        (f"{name}/below", "Relu", (f"{name}/negated",)),
        (f"{name}/scaled", "Mul", (slope, f"{name}/below")),
        (name, "Sub", (f"{name}/above", f"{name}/scaled")),
    )
    for part, operator, inputs in parts:
        graph.node.add(name=part, op=operator, input=inputs).attr["T"].CopyFrom(dtype)


def _require_computing(node: Any, where: str) -> None:
    """In a browser the file can only compute; TensorFlow also has operators that open files or call back.

    Those either have state or take texts: names of files, addresses.

    Raises:
        Unsupported: TensorFlow does not know the operator, or it could do more than compute.
    """
    from tensorflow.python.framework import op_def_registry

    known = op_def_registry.get(node.op)
    if known is None:
        raise Unsupported(f"TensorFlow has no operator {node.op} (node {node.name})", where=where)
    import_tensorflow()
    from tensorflow.core.framework import types_pb2

    texts = [one.name for one in (*known.input_arg, *known.output_arg) if one.type == types_pb2.DT_STRING]
    has_state = (
        known.is_stateful and not any(word in node.op for word in _STATELESS_ENOUGH) and node.op != "Placeholder"
    )
    if (texts and not any(word in node.op for word in _STATELESS_ENOUGH)) or has_state or node.op.startswith("PyFunc"):
        raise Unsupported(f"the operator {node.op} (node {node.name}) could do more than compute", where=where)


def _signature(whole: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """At the top of newer files, under `userDefinedMetadata` in older ones: name → tensor."""
    outer = whole.get("userDefinedMetadata")
    for holder in (whole, outer if isinstance(outer, dict) else {}):
        signature = holder.get("signature")
        if isinstance(signature, dict):
            return _tensors(signature.get("inputs")), _tensors(signature.get("outputs"))
    return {}, {}


def _tensors(named: Any) -> dict[str, str]:
    pairs = named.items() if isinstance(named, dict) else ()
    return {str(key): str(info["name"]) for key, info in pairs if isinstance(info, dict) and info.get("name")}


def _network_of_layers(topology: Mapping[str, Any], weights: Weights, where: str) -> Any:
    """A model of layers: the Keras of TensorFlow 2 rebuilds it from its configuration, and takes weights by name."""
    import_tensorflow()
    import tf_keras

    config = topology.get("model_config", topology)
    _require_layers(config, where)
    try:
        network = tf_keras.models.model_from_json(json.dumps(config))
    except Exception as error:
        said = " ".join(str(error).split())[:300]
        raise Unsupported(f"Keras does not rebuild the layers: {said}", where=where) from error
    _set_weights(network, weights, where)
    return network


def _require_layers(config: Any, where: str) -> None:
    """Layers by their class alone: Keras would run a Lambda's code, and import whatever a `module` names.

    Raises:
        Unsupported: the configuration has one of them.
    """
    waiting = [config]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            if "Lambda" in str(found.get("class_name")) or {"module", "registered_name"} & found.keys():
                raise Unsupported("a layer carries or names code, and a file's code is not run", where=where)
            waiting += found.values()
        elif isinstance(found, list):
            waiting += found


def _set_weights(network: Any, weights: Weights, where: str) -> None:
    """By name. Files from before TensorFlow 2.2 call a recurrent layer's weights without the name of its cell."""
    missing = []
    for variable in network.weights:
        name = variable.name.removesuffix(":0")
        outer, _, last = name.rpartition("/")
        value = weights.get(name, weights.get(posixpath.join(posixpath.dirname(outer), last)))
        if value is None or tuple(value.shape) != tuple(variable.shape):
            missing.append(name)
        else:
            variable.assign(value)
    if missing:
        raise Damaged(f"{len(missing)} weights are missing or of another shape: {missing[0]}", where=where)
