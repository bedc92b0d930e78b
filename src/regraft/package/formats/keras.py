"""Keras models: HDF5 with a model config or layer weights, and the version 3 zip (`.keras`).

Source: the Keras 2 and 3 savers, as files show them. Config objects are
`{"class_name": …, "config": …, "module": …, "registered_name": …}`, nested.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeAlias

from regraft.errors import Damaged, MissingExtra, Unsupported
from regraft.package.formats.hdf5 import Hdf5Tree, external_metadata, read_hdf5, tensors_of, tree_or_none, value_text
from regraft.package.formats.interface import Description, Loading, Port, Probe, Problem, Role, Tensor
from regraft.package.limits import MAX_TEXT_BYTES

if TYPE_CHECKING:
    JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"

_LAYER_KEYS = ("layer", "layers", "forward_layer", "backward_layer", "cell", "cells")
_ROOT_FACTS = ("keras_version", "backend", "training_config")
_ZIP_CONFIG, _ZIP_METADATA, _ZIP_WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
_MAX_FACT_CHARS = 2000
_MAX_OBJECTS = 1_000_000


class KerasHdf5:
    """Format `keras-h5`: a whole model or layer weights in HDF5."""

    name = "keras-h5"
    title = "Keras HDF5"
    role = Role.WEIGHTS
    loading = Loading.CODE
    suffixes = (".h5", ".hdf5", ".keras")

    def matches(self, probe: Probe) -> bool:
        """HDF5 whose root says so, or that has the groups of a Keras 3 weights file."""
        tree = tree_or_none(probe)
        if tree is None:
            return False
        root = tree.nodes[""].attributes
        if root.keys() & {"model_config", "layer_names", "keras_version"}:
            return True
        paths = tree.nodes.keys()
        return ("layers" in paths or "_layer_checkpoint_dependencies" in paths) and any(
            "/vars" in path for path in paths
        )

    def describe(self, probe: Probe) -> Description:
        """Weights, layers by class, inputs and Keras version. Optimizer state is not counted as parameters."""
        tree = tree_or_none(probe) or read_hdf5(probe.reader)
        root = tree.nodes[""].attributes
        metadata = {key: value_text(root[key]) for key in _ROOT_FACTS if root.get(key) is not None}
        problems = list(tree.problems)
        config = model_config(probe)
        if config is None and "model_config" in root:
            problems.append(Problem("the model_config attribute is not a JSON object", kind="config-unreadable"))
        names = root.get("layer_names")
        if isinstance(names, tuple):
            metadata["layers"] = str(len(names))
        return _described(tree, config, metadata | external_metadata(tree), problems)


class KerasZip:
    """Format `keras-v3`: the zip of metadata.json, config.json and model.weights.h5."""

    name = "keras-v3"
    title = "Keras v3 archive"
    role = Role.WEIGHTS
    loading = Loading.CODE
    suffixes = (".keras",)

    def matches(self, probe: Probe) -> bool:
        """A zip with config.json and metadata.json, and weights or a Keras version."""
        if probe.zip is None or not {_ZIP_CONFIG, _ZIP_METADATA} <= probe.zip.by_name.keys():
            return False
        return _ZIP_WEIGHTS in probe.zip.by_name or "keras_version" in _zip_json(probe, _ZIP_METADATA)

    def describe(self, probe: Probe) -> Description:
        """Layers and inputs from config.json, tensors from the weights inside.

        Raises:
            Damaged: it is not a readable zip.
        """
        archive = probe.zip
        if archive is None:
            raise Damaged("not a readable zip archive", where=probe.reader.where)
        problems = list(archive.problems)
        facts = _zip_json(probe, _ZIP_METADATA)
        metadata = {key: _fact(value) for key, value in facts.items() if isinstance(value, str | int | float)}
        config = model_config(probe)
        if config is None:
            problems.append(Problem("config.json is not a JSON object", member=_ZIP_CONFIG, kind="config-unreadable"))
        tree = None
        if _ZIP_WEIGHTS in archive.by_name:
            try:
                tree = read_hdf5(archive.open(archive.by_name[_ZIP_WEIGHTS]))
                problems += tree.problems
                metadata |= external_metadata(tree)
            except (Damaged, Unsupported, MissingExtra) as damage:
                problems.append(Problem(f"the weights cannot be read: {damage.what}", member=_ZIP_WEIGHTS))
        return _described(tree, config, metadata, problems)


def model_config(probe: Probe) -> dict[str, JSON] | None:
    """The architecture as Keras would rebuild it: `model_config` of an HDF5 file, config.json of a zip.

    Returns:
        The parsed object; None when there is none, it is larger than 16 MiB or not a JSON object.
    """
    if probe.zip is not None:
        return _zip_json(probe, _ZIP_CONFIG) or None
    tree = tree_or_none(probe)
    text = None if tree is None else tree.attribute("model_config")
    return _object(text) if isinstance(text, str) else None


def training_config(probe: Probe) -> dict[str, JSON] | None:
    """Optimizer, losses and metrics of a model in HDF5, which are built with it; None where there are none."""
    tree = None if probe.zip is not None else tree_or_none(probe)
    text = None if tree is None else tree.attribute("training_config")
    return _object(text) if isinstance(text, str) else None


def config_objects(config: JSON) -> Iterator[dict[str, JSON]]:
    """Every serialised object (a dict with `class_name`) of a config, at any depth, outermost first."""
    pending: list[JSON] = [config]
    for _ in range(_MAX_OBJECTS):
        if not pending:
            return
        item = pending.pop()
        if isinstance(item, dict):
            if isinstance(item.get("class_name"), str):
                yield item
            pending.extend(reversed(list(item.values())))
        elif isinstance(item, list):
            pending.extend(reversed(item))


def config_layers(config: JSON) -> Iterator[dict[str, JSON]]:
    """The layers of a config, those inside nested models and wrappers included."""
    pending: list[JSON] = [config]
    for _ in range(_MAX_OBJECTS):
        if not pending:
            return
        item = pending.pop()
        if isinstance(item, list):
            pending.extend(reversed(item))
        elif isinstance(item, dict) and isinstance(item.get("class_name"), str):
            inner = item.get("config")
            if isinstance(inner, dict):
                pending.extend(inner[key] for key in reversed(_LAYER_KEYS) if key in inner)
            elif isinstance(inner, list):  # a Sequential of Keras 1 and early 2
                pending.append(inner)
            yield item


def _described(
    tree: Hdf5Tree | None, config: dict[str, JSON] | None, metadata: dict[str, str], problems: list[Problem]
) -> Description:
    tensors = None if tree is None else tensors_of(tree)
    operators: Counter[str] = Counter()
    inputs: tuple[Port, ...] = ()
    if config is not None:
        layers = list(config_layers(config))
        metadata["model_class"] = _fact(config.get("class_name"))
        operators.update(str(layer["class_name"])[:200] for layer in layers[1:])
        inputs = tuple(_inputs(layers))
        metadata |= _code_facts(config)
    return Description(
        tensors=tensors,
        parameters=None if tensors is None else _parameters(tensors),
        operators=dict(operators),
        inputs=inputs,
        outputs=() if config is None else tuple(_outputs(config)),
        metadata=metadata,
        problems=tuple(problems),
    )


def _parameters(tensors: tuple[Tensor, ...]) -> int | None:
    """Scalars outside of the optimizer's state; None when that is all of them."""
    trained = [tensor for tensor in tensors if not tensor.name.startswith(("optimizer_weights/", "optimizer/"))]
    return None if len(trained) == len(tensors) else sum(tensor.elements for tensor in trained)


def _code_facts(config: JSON) -> dict[str, str]:
    """Names of the objects that make loading execute more than Keras' own layers."""
    lambdas, registered, modules = [], [], []
    for item in config_objects(config):
        inner = item.get("config")
        name = _fact(inner.get("name") if isinstance(inner, dict) else None) or _fact(item["class_name"])
        if item["class_name"] in ("Lambda", "__lambda__"):
            lambdas.append(name)
        module, label = item.get("module"), item.get("registered_name")
        if isinstance(module, str) and module.split(".")[0] not in ("keras", "builtins", "tensorflow", "keras_core"):
            modules.append(f"{module}.{item['class_name']}")
        if ">" in str(item["class_name"]) or (isinstance(label, str) and ">" in label):
            registered.append(_fact(label) or _fact(item["class_name"]))
    found = {"lambda": lambdas, "registered_objects": registered, "foreign_modules": modules}
    return {key: ", ".join(dict.fromkeys(names))[:_MAX_FACT_CHARS] for key, names in found.items() if names}


def _inputs(layers: list[dict[str, JSON]]) -> Iterator[Port]:
    """Ports of the input layers; of a model without any, the first layer that states its input shape."""
    stated = []
    for layer in layers:
        inner = layer.get("config")
        if not isinstance(inner, dict):
            continue
        for key in ("batch_input_shape", "batch_shape", "build_input_shape"):
            if isinstance(inner.get(key), list):
                stated.append((layer["class_name"], inner, inner[key]))
                break
    chosen = [item for item in stated if item[0] == "InputLayer"] or stated[:1]
    for _, inner, shape in chosen:
        dtype = inner.get("dtype")
        yield Port(_fact(inner.get("name")), dtype if isinstance(dtype, str) else "float32", _shape(shape))


def _shape(shape: JSON) -> tuple[int | str | None, ...] | None:
    if not isinstance(shape, list):
        return None
    return tuple(extent if isinstance(extent, int) and not isinstance(extent, bool) else None for extent in shape)


def _outputs(config: dict[str, JSON]) -> Iterator[Port]:
    inner = config.get("config")
    named = inner.get("output_layers") if isinstance(inner, dict) else None
    if not isinstance(named, list):
        return
    for item in [named] if named and isinstance(named[0], str) else named:
        if isinstance(item, list) and item and isinstance(item[0], str):
            yield Port(_fact(item[0]), "unknown")


def _zip_json(probe: Probe, name: str) -> dict[str, JSON]:
    """A JSON object of the zip; empty when it is missing, too large or something else."""
    archive = probe.zip
    if archive is None or name not in archive.by_name:
        return {}
    try:
        raw = archive.read(name, limit=MAX_TEXT_BYTES)
    except (Damaged, Unsupported, MissingExtra):
        return {}
    return _object(raw.decode("utf-8", "replace")) or {}


def _object(text: str) -> dict[str, JSON] | None:
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None


def _fact(value: object) -> str:
    """A scalar as bounded text; empty for anything else."""
    return str(value)[:_MAX_FACT_CHARS] if isinstance(value, str | int | float) else ""
