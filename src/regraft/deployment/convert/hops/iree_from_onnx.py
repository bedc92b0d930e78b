"""A module of IREE from ONNX: native code for use without Python, by a compiler that runs as a program of its own."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from regraft.deployment.convert.foreign import run_by
from regraft.deployment.convert.hops.fixed_sizes import fixed_graph, freely_or_fixed, handed_over
from regraft.deployment.convert.interface import Hop, Source
from regraft.deployment.convert.obstacles import missing
from regraft.deployment.convert.proving import prove
from regraft.errors import Unsupported

if TYPE_CHECKING:
    from regraft.runtime.interface import Feeds, Signature

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
        """Compile a copy of the graph with its free sizes, or, where IREE cannot, with those of one sample.

        Raises:
            Unsupported: IREE cannot compile it; its message names the operator.
            Crashed: the compiler died, hung, or took too much memory.
        """
        from regraft.runtime.onnxruntime_model import OnnxRuntimeModel

        if not isinstance(source.loaded(), OnnxRuntimeModel):
            raise Unsupported("only ONNX graphs are compiled by IREE", where=source.where)
        return freely_or_fixed(source, functools.partial(_compiled, source))


def _compiled(source: Source, signature: Signature, fixed: Feeds) -> Hop:
    """One module, run at every size of the examples that it is for; without feeds its sizes are free."""
    from regraft.runtime.iree_model import REFLECTION, isolated_iree
    from regraft.runtime.stated import stated_signature

    model = source.loaded()
    options = {"signature": stated_signature(signature, model.effective_precision), "reflection": REFLECTION}
    python = Path(sys.executable)
    if fixed:
        with handed_over(fixed_graph(source, fixed), "model.onnx", source) as file:
            made = run_by(python, _SCRIPT, file, options)
    else:
        made = run_by(python, _SCRIPT, source, options)
    product = isolated_iree(made.files["model.vmfb"], where=source.where)
    try:
        cases = [fixed] if fixed else source.feeds
        prove(product, model, cases, {port.name: port.name for port in signature.inputs})
    finally:
        product.close()
    note = "compiled for this processor and this IREE; native code, which a scan cannot pass"
    return Hop(made.files, "iree", (note,), made.versions, precision=None, is_compiled=True, is_one_size=bool(fixed))
