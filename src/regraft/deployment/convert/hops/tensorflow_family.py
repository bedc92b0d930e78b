"""Converters between the forms of TensorFlow: one table, as they differ in what is read and what is written alone.

Each is a script in the environment `tensorflow`. The scripts read every form as one frozen graph
(`runtime/tensorflow_model.graph_of_file`), so that what they write does not depend on where it came from.
"""

from __future__ import annotations

from regraft.deployment.convert.foreign import run_script
from regraft.deployment.convert.interface import Hop, Source
from regraft.deployment.convert.obstacles import unmade

_ENVIRONMENT = "tensorflow"
_COST = 10


class TensorFlowConverter:
    """A converter that a script in the environment `tensorflow` is.

    Args:
        source, target: forms.
        script: name, as `run_script` takes it.
        runtime: that executes the result.
        does: a sentence for the reference, as other converters have it as the docstring of their class.
    """

    cost = _COST

    def __init__(self, source: str, target: str, script: str, runtime: str, does: str) -> None:
        self.source, self.target = source, target
        self.name = f"{target}_from_{source}".replace("-", "_")
        self.__doc__ = does
        self._script = script
        self._runtime = runtime

    def obstacle(self) -> str:
        """The environment must have been made."""
        return unmade(_ENVIRONMENT)

    def convert(self, source: Source) -> Hop:
        """Run the script on a copy of the file, whose format it is told.

        Raises:
            Unsupported: the library refuses; the message is its own, and names operators where it knows them.
            Crashed: it died, hung, or took too much memory.
        """
        kind = source.files.format_of(source.path) if source.files is not None else ""
        made = run_script(_ENVIRONMENT, self._script, source, {"kind": kind})
        return Hop(made.files, self._runtime, made.notes, made.versions)


_ONNX, _LITERT, _SAVED = "onnx_from_tensorflow", "litert_from_tensorflow", "saved_model_from_tensorflow"

FAMILY = (
    TensorFlowConverter(
        "saved-model", "onnx", _ONNX, "onnxruntime",
        "Converts the serving signature of SavedModels, and frozen graphs, by tf2onnx; free axes stay free.",
    ),
    TensorFlowConverter(
        "tfjs", "onnx", _ONNX, "onnxruntime",
        "Converts graph models and models of layers by tf2onnx, fusions of TensorFlow.js undone.",
    ),
    TensorFlowConverter(
        "keras", "onnx", _ONNX, "onnxruntime", "Converts whole models by tf2onnx; a file's code is not run."
    ),
    TensorFlowConverter(
        "litert", "onnx", "onnx_from_litert", "onnxruntime",
        "Converts flatbuffers by tf2onnx, quantised ones included.",
    ),
    TensorFlowConverter(
        "keras", "saved-model", _SAVED, "tensorflow", "Saves whole models as graphs; a file's code is not run."
    ),
    TensorFlowConverter(
        "tfjs", "saved-model", _SAVED, "tensorflow",
        "Saves graph models and models of layers, quantised weights as the numbers that they stand for.",
    ),
    TensorFlowConverter(
        "tfjs", "keras", "keras_from_tfjs", "keras",
        "Rebuilds models of layers as Keras HDF5, which Keras 2 and 3 load; graph models have none.",
    ),
    TensorFlowConverter(
        "saved-model", "litert", _LITERT, "litert",
        "Converts the serving signature by TensorFlow's own converter, with TFLite's builtin operators.",
    ),
    TensorFlowConverter(
        "keras", "litert", _LITERT, "litert",
        "Converts whole models by TensorFlow's own converter; a file's code is not run.",
    ),
    TensorFlowConverter(
        "tfjs", "litert", _LITERT, "litert",
        "Converts graph models and models of layers by TensorFlow's own converter, fusions of TensorFlow.js undone.",
    ),
)  # fmt: skip
"""Every one of them, in the order in which they are tried."""
