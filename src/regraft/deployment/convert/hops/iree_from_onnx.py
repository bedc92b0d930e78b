"""A module of IREE from ONNX: native code for use without Python, by a compiler that runs as a program of its own."""

from __future__ import annotations

import sys
from pathlib import Path

from regraft.deployment.convert.foreign import run_by
from regraft.deployment.convert.interface import Hop, Source
from regraft.deployment.convert.obstacles import missing
from regraft.deployment.convert.proving import prove
from regraft.errors import Unsupported

_SCRIPT = Path(__file__).parents[1] / "scripts" / "iree_from_onnx.py"


class IreeFromOnnx:
    """Compiles ONNX graphs for the processor at hand."""

    name = "iree_from_onnx"
    source = "onnx"
    target = "iree"
    cost = 4

    def obstacle(self) -> str:
        """IREE's compiler and runtime must be installed, and onnx."""
        return missing("iree", extra="iree") or missing("onnx", extra="onnx")

    def convert(self, source: Source) -> Hop:
        """Compile a copy of the graph, and run the module at every size of the examples.

        Raises:
            Unsupported: IREE cannot compile it; its message names the operator.
            Crashed: the compiler died, hung, or took too much memory.
        """
        from regraft.runtime.iree_model import REFLECTION, isolated_iree
        from regraft.runtime.onnxruntime_model import OnnxRuntimeModel
        from regraft.runtime.stated import stated_signature

        model = source.loaded()
        if not isinstance(model, OnnxRuntimeModel):
            raise Unsupported("only ONNX graphs are compiled by IREE", where=source.where)
        stated = stated_signature(model.signature, model.effective_precision)
        options = {"signature": stated, "reflection": REFLECTION}
        made = run_by(Path(sys.executable), _SCRIPT, source, options)
        product = isolated_iree(made.files["model.vmfb"], where=source.where)
        try:
            prove(product, model, source.feeds, {port.name: port.name for port in model.signature.inputs})
        finally:
            product.close()
        note = "compiled for this processor and this IREE; native code, which a scan cannot pass"
        return Hop(made.files, "iree", (note,), made.versions, precision=None, is_compiled=True)
