"""Rules about operators that no runtime has by itself: another library must bring the native code behind them."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from importlib.resources import files

from regraft.package.formats import Description
from regraft.package.formats.ncnn_layers import LAYERS
from regraft.package.package import Package
from regraft.record.evidence import Finding, Severity
from regraft.trust.scan.descriptions import description_of
from regraft.trust.scan.interface import Rule, Site

OF_TENSORFLOW = Rule(
    "RGS-OPR-001",
    Severity.UNKNOWN,
    "An operator that TensorFlow does not have",
    "The graph runs only once another library has registered the operator, whose code is not here.",
    "Find the library that brings the operator, then pass --allow NAME.",
    cwe=829,
)
OF_OPENVINO = Rule(
    "RGS-OPR-002",
    Severity.UNKNOWN,
    "Operators of an OpenVINO extension",
    "The graph runs only with a library that registers the operator; what its code does cannot be told from here.",
    "Find the extension, judge it, then pass --allow NAME.",
    cwe=829,
)
OF_COREML = Rule(
    "RGS-OPR-003",
    Severity.UNKNOWN,
    "A custom layer or model of Core ML",
    "The app that loads it must implement a class of that name; what it does cannot be told here.",
    "Find the implementation, then pass --allow NAME.",
    cwe=829,
)

PADDLE_FILES = Rule(
    "RGS-OPR-004",
    Severity.HIGH,
    "A Paddle operator that reads or writes files",
    "load, save and read_file open paths that the program chooses, with your rights, when it runs.",
    "Do not run this model. Report it to where you got it from.",
    cwe=73,
)
PADDLE_CALLS = Rule(
    "RGS-OPR-005",
    Severity.UNKNOWN,
    "A Paddle operator that calls into Python or another library",
    "py_func calls a function of the process that runs the program; what it does cannot be told from here.",
    "Find the function, then pass --allow NAME.",
    cwe=829,
)
COREML_OUT = Rule(
    "RGS-OPR-006",
    Severity.HIGH,
    "A Core ML package that names a model outside of it",
    "The manifest's path is absolute or climbs: whoever opens the package reads a file of yours.",
    "Do not open this package. Report it to where you got it from.",
    cwe=22,
)
OF_PHONES = Rule(
    "RGS-OPR-007",
    Severity.UNKNOWN,
    "A layer that ncnn or MNN does not have",
    "The app that loads it must bring the layer's native code; what that does cannot be told from here.",
    "Find the implementation, then pass --allow NAME.",
    cwe=829,
)

_PADDLE_FILES = frozenset({"load", "load_combine", "save", "save_combine", "read_file", "read", "create_custom_reader"})
_PADDLE_CALLS = frozenset({"py_func", "py_layer", "pylayer", "custom_engine"})
_GRAPHS = frozenset({"tf-saved-model", "tf-meta-graph", "tf-graph", "tfjs"})
_ALSO_TENSORFLOW = frozenset(
    "XlaCallModule XlaLaunch XlaLaunchV2 TPUReplicate TPUPartitionedCall TPUReplicatedInput TPUReplicatedOutput "
    "TPUPartitionedInput TPUPartitionedOutput TPUReplicateMetadata TPUCompilationResult "
    "FusedDepthwiseConv2dNative Prelu".split()
)
"""Kernels of TensorFlow and TensorFlow.js that have no public name."""
_OPENVINO_SETS = ("opset", "experimental", "extension", "ie_internal_opset", "type_relaxed_opset", "gpu_opset", "util")
_COREML_CUSTOM = frozenset({"custom", "customModel"})


class ForeignOperatorsFamily:
    """Judges graphs by the sets that their operators come from."""

    name = "foreign_operators"
    judges: frozenset[str] = frozenset()
    rules: Sequence[Rule] = (
        OF_TENSORFLOW,
        OF_OPENVINO,
        OF_COREML,
        PADDLE_FILES,
        PADDLE_CALLS,
        COREML_OUT,
        OF_PHONES,
    )

    def examine(self, site: Site) -> Iterator[Finding]:
        """Findings about one graph."""
        kind = site.format.name if site.format is not None else ""
        if kind not in _GRAPHS and not kind.startswith(("openvino", "coreml", "paddle", "ncnn", "mnn")):
            return
        description = description_of(site)
        if isinstance(description, Description):
            yield from _judge(kind, description, site)

    def examine_package(self, package: Package, sites: Sequence[Site]) -> Iterator[Finding]:
        """Nothing: graphs are judged one by one."""
        return iter(())


def _judge(kind: str, description: Description, site: Site) -> Iterator[Finding]:
    if kind in _GRAPHS:
        known = keras_layers() if kind == "tfjs" and _is_of_layers(site) else tensorflow_operators()
        for name in sorted(description.operators):
            if name not in known and not name.startswith("_") and name not in _ALSO_TENSORFLOW:
                yield OF_TENSORFLOW.finding(f"needs the operator {name[:100]}", site.where(), name=name[:100])
    elif kind.startswith("openvino"):
        for name in sorted(description.opsets):
            if not name.startswith(_OPENVINO_SETS):
                yield OF_OPENVINO.finding(f"needs the operators of {name[:100]}", site.where(), name=name[:100])
    elif kind.startswith("paddle"):
        for name in sorted(description.operators):
            operator = name.rpartition(".")[2]
            if operator in _PADDLE_FILES:
                yield PADDLE_FILES.finding(f"calls {operator}", site.where(), name=operator)
            elif operator in _PADDLE_CALLS:
                yield PADDLE_CALLS.finding(f"calls {operator}", site.where(), name=operator)
    elif kind.startswith(("ncnn", "mnn")):
        for name in sorted(_lacking(kind, description)):
            yield OF_PHONES.finding(f"needs the layer {name[:100]}", site.where(), name=name[:100])
    elif kind == "coreml-manifest":
        if any(problem.kind == "path-escape" for problem in description.problems):
            path = description.metadata.get("root_model", "nothing")
            yield COREML_OUT.finding(f"the manifest names {path[:200]!r}", site.where())
    else:
        for name in sorted(_COREML_CUSTOM & description.operators.keys()):
            yield OF_COREML.finding(f"has {description.operators[name]} custom layers", site.where(), name=name)


def _lacking(kind: str, description: Description) -> set[str]:
    """Layers of others: to ncnn all that it does not have, to MNN what the file says is a plug-in or something else."""
    if kind.startswith("ncnn"):
        return set(description.operators) - set(LAYERS)
    return {name for name in description.operators if name.startswith(("Plugin", "Extra", "operator "))}


def _is_of_layers(site: Site) -> bool:
    """Is a model of TensorFlow.js an architecture of Keras rather than a graph?"""
    whole = site.probe.json
    topology = whole.get("modelTopology") if isinstance(whole, dict) else None
    return isinstance(topology, dict) and "model_config" in topology and not {"node", "library"} & topology.keys()


@functools.cache
def keras_layers() -> frozenset[str]:
    """Layers of Keras that only compute; what others do is judged by the Keras rules where they know it."""
    text = files("regraft.trust.scan").joinpath("keras_layers.txt").read_text()
    return frozenset(line for line in text.splitlines() if not line.startswith("#"))


@functools.cache
def tensorflow_operators() -> frozenset[str]:
    """What TensorFlow registers by itself; generated by tools/make_tensorflow_operators.py."""
    text = files("regraft.trust.scan").joinpath("tensorflow_operators.txt").read_text()
    return frozenset(line for line in text.splitlines() if not line.startswith("#"))
