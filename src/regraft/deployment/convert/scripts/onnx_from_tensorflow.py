"""ONNX from what TensorFlow saves, by tf2onnx; runs in the environment `tensorflow`."""

from pathlib import Path

from onnx_ends import name_batch, refuse_foreign

from regraft.runtime.tensorflow_graph import import_tensorflow
from regraft.runtime.tensorflow_model import graph_of_file

OPSET = 18


def convert(model, out, options):
    """One graph with the names of the signature.

    Raises:
        ValueError: operators have no counterpart.
    """
    tf = import_tensorflow()
    import onnx
    import tf2onnx

    graph = graph_of_file(Path(model), options["kind"])
    proto, _ = tf2onnx.convert.from_graph_def(
        graph.definition,
        opset=OPSET,
        input_names=[end.tensor for end in graph.inputs],
        output_names=[end.tensor for end in graph.outputs],
        tensors_to_rename={end.tensor: end.port.name for end in (*graph.inputs, *graph.outputs)},
    )
    refuse_foreign(proto)
    name_batch(proto, {end.port.name for end in graph.inputs if end.port.shape and end.port.shape[0] is None})
    onnx.save(proto, str(Path(out) / "model.onnx"))
    versions = {"tensorflow": tf.__version__, "tf2onnx": tf2onnx.__version__, "onnx": onnx.__version__}
    return {"model": "model.onnx", "notes": [f"opset {OPSET}"], "versions": versions}
