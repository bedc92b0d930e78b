"""A SavedModel from Keras files and TensorFlow.js models; runs in the environment `tensorflow`."""

from pathlib import Path

from regraft.runtime.tensorflow_graph import import_tensorflow
from regraft.runtime.tensorflow_model import graph_of_file


def convert(model, out, options):
    """One meta graph for serving, with the weights as constants in it and the names of the source's signature."""
    tf = import_tensorflow()
    write_saved_model(graph_of_file(Path(model), options["kind"]), Path(out) / "model")
    (Path(out) / "model" / "saved_model.pb").rename(Path(out) / "saved_model.pb")
    return {"model": "saved_model.pb", "versions": {"tensorflow": tf.__version__}}


def write_saved_model(graph, folder):
    """A folder with `saved_model.pb`; there are no variables to write."""
    tf = import_tensorflow()
    v1 = tf.compat.v1
    with v1.Session(graph=tf.Graph()) as session:
        tf.import_graph_def(graph.definition, name="")
        inputs, outputs = (
            {end.port.name: session.graph.get_tensor_by_name(end.tensor) for end in ends}
            for ends in (graph.inputs, graph.outputs)
        )
        builder = v1.saved_model.Builder(str(folder))
        signature = v1.saved_model.predict_signature_def(inputs, outputs)
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature})
        builder.save()
