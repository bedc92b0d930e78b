"""ONNX from TFLite, by tf2onnx; runs in the environment `tensorflow`."""

import tempfile
from pathlib import Path

from onnx_ends import refuse_foreign
from tflite_dense import with_dense_weights

from regraft.runtime.tensorflow_graph import import_tensorflow

OPSET = 18


def convert(model, out, options):
    """One graph with the names of the flatbuffer's tensors; what is quantised there is so here.

    Raises:
        ValueError: operators have no counterpart.
    """
    del options
    tf = import_tensorflow()
    import onnx
    import tf2onnx

    content = Path(model).read_bytes()
    dense = with_dense_weights(content)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "model.tflite"
        place.write_bytes(dense)
        proto, _ = tf2onnx.convert.from_tflite(str(place), opset=OPSET)
    refuse_foreign(proto)
    onnx.save(proto, str(Path(out) / "model.onnx"))
    versions = {"tensorflow": tf.__version__, "tf2onnx": tf2onnx.__version__, "onnx": onnx.__version__}
    notes = [f"opset {OPSET}", *(["sparse weights were written out"] if dense is not content else [])]
    return {"model": "model.onnx", "notes": notes, "versions": versions}
