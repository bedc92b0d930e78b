"""A model of MNN from ONNX, by MNN's own converter."""

from __future__ import annotations

import sys
from pathlib import Path

from regraft.deployment.convert.foreign import run_by
from regraft.deployment.convert.interface import Hop, Source
from regraft.deployment.convert.obstacles import missing
from regraft.deployment.convert.proving import prove
from regraft.errors import Unsupported

_SCRIPT = Path(__file__).parents[1] / "scripts" / "mnn_from_onnx.py"


class MnnFromOnnx:
    """Converts ONNX graphs by MNN's own converter; weights keep their precision."""

    name = "mnn_from_onnx"
    source = "onnx"
    target = "mnn"
    cost = 4

    def obstacle(self) -> str:
        """MNN must be installed."""
        return missing("MNN", extra="mnn")

    def convert(self, source: Source) -> Hop:
        """Convert a copy of the graph, and run the model at every size of the examples.

        Raises:
            Unsupported: MNN lacks an operator, which its message names, or what it made does not run.
            Crashed: the converter died, hung, or took too much memory.
        """
        from regraft.runtime.mnn_model import isolated_mnn
        from regraft.runtime.onnxruntime_model import OnnxRuntimeModel
        from regraft.runtime.stated import stated_signature

        model = source.loaded()
        if not isinstance(model, OnnxRuntimeModel):
            raise Unsupported("only ONNX graphs are converted to MNN", where=source.where)
        stated = stated_signature(model.signature, model.effective_precision)
        made = run_by(Path(sys.executable), _SCRIPT, source, {"signature": stated})
        product = isolated_mnn(made.files["model.mnn"], where=source.where)
        try:
            prove(product, model, source.feeds, {port.name: port.name for port in model.signature.inputs})
        finally:
            product.close()
        return Hop(made.files, "mnn", made.notes, made.versions)
