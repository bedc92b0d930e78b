"""A library of TVM from ONNX, by its own frontend."""

import contextlib
import io
import re
import sys

from tvm_library import refusal, written

_AT = re.compile(r"Error converting operator (\w+)")


def convert(model, out, options):
    """Import the graph with the sizes that it has, free or fixed, and compile it.

    Raises:
        NotImplementedError: the frontend lacks operators, which it names.
        ValueError: the frontend or the compiler refuses the graph; the message names the operator where it is known.
    """
    sys.modules.setdefault("torch", None)  # TVM's bindings import it where they can: 2 s and 200 MB for nothing
    import onnx
    from tvm.relax.frontend.onnx import from_onnx

    printed = io.StringIO()  # where the frontend names the operator that it stops at
    try:
        with contextlib.redirect_stdout(printed):
            module = from_onnx(onnx.load(model))
    except Exception as error:
        at = _AT.search(printed.getvalue())
        raise refusal(error, at.group(1) if at else "") from error
    made = written(module, out, options)
    return {**made, "versions": {**made["versions"], "onnx": onnx.__version__}}
