"""TFLite from what TensorFlow saves, by its own converter; runs in the environment `tensorflow`."""

import tempfile
from pathlib import Path

from saved_model_from_tensorflow import write_saved_model

from regraft.runtime.tensorflow_graph import import_tensorflow
from regraft.runtime.tensorflow_model import graph_of_file


def convert(model, out, options):
    """A flatbuffer of builtin operators in the precision of the source.

    Raises:
        ConverterError: an operator is none of TFLite's.
    """
    tf = import_tensorflow()
    graph = graph_of_file(Path(model), options["kind"])
    with tempfile.TemporaryDirectory() as folder:
        write_saved_model(graph, Path(folder) / "model")
        made = tf.lite.TFLiteConverter.from_saved_model(str(Path(folder) / "model")).convert()
    names = [[end.port.name for end in ends] for ends in (graph.inputs, graph.outputs)]
    (Path(out) / "model.tflite").write_bytes(with_names(made, *names))
    return {"model": "model.tflite", "versions": {"tensorflow": tf.__version__}}


def with_names(content, inputs, outputs):
    """The flatbuffer with its ends called and ordered as in the source; the converter names and sorts them anew."""
    import flatbuffers
    from tensorflow.lite.python import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(bytearray(content), 0)
    signature, graph = model.signatureDefs[0], model.subgraphs[0]
    for given, wanted, ends in (
        (signature.inputs, inputs, "inputs"),
        (signature.outputs, outputs, "outputs"),
    ):
        places = {one.name.decode(): one.tensorIndex for one in given}
        setattr(graph, ends, [places[name] for name in wanted if name in places])
        for name, place in places.items():
            graph.tensors[place].name = name.encode()
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
