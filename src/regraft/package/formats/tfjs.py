"""TensorFlow.js models: `model.json` of layers and graph models, and bare weight manifests.

Source: tfjs-core's IO types and the tfjs converter's files. A 64 bit number is a string in this JSON.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from regraft.errors import Damaged
from regraft.package.formats.interface import Description, Loading, Port, Probe, Problem, Role, Tensor
from regraft.package.formats.keras import config_layers
from regraft.package.limits import MAX_TENSORS

_TF_DTYPES = {
    "DT_FLOAT": "float32", "DT_DOUBLE": "float64", "DT_INT32": "int32", "DT_UINT8": "uint8", "DT_INT16": "int16",
    "DT_INT8": "int8", "DT_STRING": "string", "DT_INT64": "int64", "DT_BOOL": "bool", "DT_HALF": "float16",
}  # fmt: skip
_TF_NUMBERS = dict(zip((1, 2, 3, 4, 5, 6, 7, 9, 10, 19), _TF_DTYPES.values(), strict=True))
_ITEM_BYTES = {"float32": 4, "int32": 4, "bool": 1, "complex64": 8, "uint8": 1, "uint16": 2, "float16": 2}
_FACTS = ("format", "generatedBy", "convertedBy")
_MAX_FACT_CHARS = 500


class TfjsModel:
    """Format `tfjs`: a topology with its weight manifest, or a manifest alone."""

    name = "tfjs"
    title = "TensorFlow.js model"
    role = Role.GRAPH
    loading = Loading.INERT
    suffixes = (".json",)

    def matches(self, probe: Probe) -> bool:
        """JSON with `modelTopology` or `weightsManifest`, or a list of weight groups."""
        found = probe.json
        if isinstance(found, dict):
            return "weightsManifest" in found or isinstance(found.get("modelTopology"), dict)
        return _is_manifest(found)

    def describe(self, probe: Probe) -> Description:
        """Weights with the dtype they have in the model; how they are quantised in the shards is metadata.

        Raises:
            Damaged: it is not such a JSON object.
        """
        found = probe.json
        whole = {"weightsManifest": found} if _is_manifest(found) else found
        if not isinstance(whole, dict):
            raise Damaged("not a TensorFlow.js model", where=probe.reader.where)
        problems: list[Problem] = []
        groups = whole.get("weightsManifest")
        entries = list(_entries(groups, problems))
        topology = whole.get("modelTopology")
        graph = topology if isinstance(topology, dict) else {}
        metadata = {key: whole[key][:_MAX_FACT_CHARS] for key in _FACTS if isinstance(whole.get(key), str)}
        metadata |= _stored(groups, entries)
        if isinstance(graph.get("keras_version"), str):
            metadata["keras_version"] = graph["keras_version"][:_MAX_FACT_CHARS]
        signature = _signature(whole)
        return Description(
            tensors=None if groups is None else tuple(tensor for tensor, _ in entries),
            operators=dict(_operators(graph)),
            opsets=_producer(graph),
            inputs=tuple(_ports(signature.get("inputs"))),
            outputs=tuple(_ports(signature.get("outputs"))),
            metadata=metadata,
            problems=tuple(problems),
        )


def _is_manifest(found: Any) -> bool:
    return (
        isinstance(found, list)
        and bool(found)
        and isinstance(found[0], dict)
        and isinstance(found[0].get("weights"), list)
        and isinstance(found[0].get("paths"), list)
    )


def _entries(groups: Any, problems: list[Problem]) -> Iterator[tuple[Tensor, str]]:
    """Each weight, and in which dtype the shards store it."""
    for group in groups if isinstance(groups, list) else []:
        weights = group.get("weights") if isinstance(group, dict) else None
        for entry in weights[:MAX_TENSORS] if isinstance(weights, list) else []:
            shape = _extents(entry.get("shape")) if isinstance(entry, dict) else None
            if shape is None or not isinstance(entry.get("name"), str) or not isinstance(entry.get("dtype"), str):
                problems.append(Problem("an entry of the weight manifest has no name, shape or dtype"))
                continue
            quantised = entry.get("quantization")
            stored = quantised.get("dtype") if isinstance(quantised, dict) else None
            stored = stored if isinstance(stored, str) else entry["dtype"]
            tensor = Tensor(entry["name"], entry["dtype"], shape)
            item = _ITEM_BYTES.get(stored)
            yield Tensor(tensor.name, tensor.dtype, shape, None if item is None else item * tensor.elements), stored


def _extents(shape: Any) -> tuple[int, ...] | None:
    if isinstance(shape, list) and all(type(extent) is int and extent >= 0 for extent in shape):
        return tuple(shape)
    return None


def _stored(groups: Any, entries: list[tuple[Tensor, str]]) -> dict[str, str]:
    """Shard names, and the dtypes of quantised weights."""
    facts = {}
    paths = [
        path
        for group in (groups if isinstance(groups, list) else [])
        if isinstance(group, dict) and isinstance(group.get("paths"), list)
        for path in group["paths"]
        if isinstance(path, str)
    ]
    if paths:
        facts["shards"] = ", ".join(paths)[:_MAX_FACT_CHARS]
    quantised = Counter(stored for tensor, stored in entries if stored != tensor.dtype)
    if quantised:
        facts["quantised_weights"] = ", ".join(f"{count} {dtype}" for dtype, count in sorted(quantised.items()))
    return facts


def _operators(graph: dict[str, Any]) -> Counter[str]:
    """Node operators of a graph model, its functions included; layer classes of a layers model."""
    bodies = [graph.get("node")]
    library = graph.get("library")
    functions = library.get("function") if isinstance(library, dict) else None
    named = functions if isinstance(functions, list) else []
    bodies += [function.get("nodeDef") for function in named if isinstance(function, dict)]
    counts: Counter[str] = Counter()
    for body in bodies:
        for node in body if isinstance(body, list) else []:
            if isinstance(node, dict) and isinstance(node.get("op"), str):
                counts[node["op"][:_MAX_FACT_CHARS]] += 1
    layers = list(config_layers(graph.get("model_config")))
    counts.update(str(layer["class_name"])[:_MAX_FACT_CHARS] for layer in layers[1:])
    return counts


def _producer(graph: dict[str, Any]) -> dict[str, int]:
    versions = graph.get("versions")
    producer = versions.get("producer") if isinstance(versions, dict) else None
    return {"tensorflow.graph_def": producer} if type(producer) is int and producer >= 0 else {}


def _signature(whole: dict[str, Any]) -> dict[str, Any]:
    """At the top of newer files, under `userDefinedMetadata` in older ones."""
    outer = whole.get("userDefinedMetadata")
    for holder in (whole, outer if isinstance(outer, dict) else {}):
        signature = holder.get("signature")
        if isinstance(signature, dict):
            return signature
    return {}


def _ports(named: Any) -> Iterator[Port]:
    for key, port in named.items() if isinstance(named, dict) else ():
        if isinstance(port, dict):
            number = port.get("dtype")
            dtype = _TF_DTYPES.get(number) if isinstance(number, str) else _TF_NUMBERS.get(_integer(number) or 0)
            yield Port(str(key)[:_MAX_FACT_CHARS], dtype or "unknown", _port_shape(port.get("tensorShape")))


def _port_shape(shape: Any) -> tuple[int | None, ...] | None:
    extents = shape.get("dim") if isinstance(shape, dict) else None
    if not isinstance(extents, list):
        return None
    sizes = (_integer(extent.get("size")) if isinstance(extent, dict) else None for extent in extents)
    return tuple(None if size is None or size < 0 else size for size in sizes)


def _integer(value: Any) -> int | None:
    if isinstance(value, str) and len(value) < 20 and value.lstrip("-").isascii() and value.lstrip("-").isdigit():
        return int(value) if value.count("-") <= 1 else None
    return value if type(value) is int else None
