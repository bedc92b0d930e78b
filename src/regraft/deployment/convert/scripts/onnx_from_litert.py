"""ONNX from TFLite, by tf2onnx; runs in the environment `tensorflow`."""

from pathlib import Path

from onnx_ends import refuse_foreign

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

    proto, _ = tf2onnx.convert.from_tflite(model, opset=OPSET)
    refuse_foreign(proto)
    onnx.save(proto, str(Path(out) / "model.onnx"))
    versions = {"tensorflow": tf.__version__, "tf2onnx": tf2onnx.__version__, "onnx": onnx.__version__}
    return {"model": "model.onnx", "notes": [f"opset {OPSET}"], "versions": versions}
