"""A library of TVM from ONNX, by its own frontend."""

import json
import sys

from tvm_library import first_words, written


def convert(model, out, options):
    """Import the graph with its free sizes, or with those that the options name, and compile it.

    Raises:
        ValueError: the frontend or the compiler refuses the graph; the message names operators.
    """
    sys.modules.setdefault("torch", None)  # TVM's bindings import it where they can: 2 s and 200 MB for nothing
    import onnx
    from tvm.relax.frontend.onnx import from_onnx

    proto = onnx.load(model)
    try:
        module = from_onnx(proto, shape_dict=json.loads(options["shapes"]))
    except Exception as error:
        raise ValueError(first_words(error)) from error
    made = written(module, out, options)
    return {**made, "versions": {**made["versions"], "onnx": onnx.__version__}}
