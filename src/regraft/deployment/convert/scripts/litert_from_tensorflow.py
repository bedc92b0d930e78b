"""TFLite from what TensorFlow saves, by its own converter; runs in the environment `tensorflow`."""

import tempfile
from pathlib import Path

from litert_ends import with_names
from saved_model_from_tensorflow import write_saved_model

from regraft.runtime.tensorflow_graph import import_tensorflow
from regraft.runtime.tensorflow_model import graph_of_file


def convert(model, out, options):
    """A flatbuffer of builtin operators in the precision of the source.

    Raises:
        ConverterError: an operator is none of TFLite's.
    """
    tf = import_tensorflow()
    from tensorflow.lite.python import schema_py_generated as schema

    graph = graph_of_file(Path(model), options["kind"])
    with tempfile.TemporaryDirectory() as folder:
        write_saved_model(graph, Path(folder) / "model")
        made = tf.lite.TFLiteConverter.from_saved_model(str(Path(folder) / "model")).convert()
    names = [[end.port.name for end in ends] for ends in (graph.inputs, graph.outputs)]
    (Path(out) / "model.tflite").write_bytes(with_names(made, schema, *names))
    return {"model": "model.tflite", "versions": {"tensorflow": tf.__version__}}
