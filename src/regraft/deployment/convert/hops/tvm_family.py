"""Libraries of Apache TVM, from ONNX and from exported programs: one compiler behind two frontends.

Each is a script in a process of its own: what TVM is made of may crash, hang, or take a machine's memory.
"""

from __future__ import annotations

import functools
import shutil
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from regraft.deployment.convert.foreign import Made, run_by
from regraft.deployment.convert.hops.fixed_sizes import fixed_graph, freely_or_fixed, handed_over
from regraft.deployment.convert.hops.onnx_rewriting import graph_model
from regraft.deployment.convert.interface import Hop, Source
from regraft.deployment.convert.obstacles import missing
from regraft.deployment.convert.proving import prove
from regraft.errors import Unsupported

if TYPE_CHECKING:
    from regraft.runtime.interface import Feeds, Model, Signature

_SCRIPTS = Path(__file__).parents[1] / "scripts"
_COMPILERS = ("g++", "gcc", "clang++", "clang", "c++", "cc")
"""What TVM looks for to link with; its script does not get the user's CXX. Source: tvm/support/cc.py, get_cc."""
_LACKING = "NotImplementedError"
"""What a script raises for operators that TVM has not: other sizes do not bring them."""


class TvmConverter:
    """A converter that compiles by TVM.

    Args:
        source: form.
        script: name of a file of `convert/scripts`.
        does: a sentence for the reference, as other converters have it as the docstring of their class.
    """

    target = "tvm"
    cost = 4

    def __init__(self, source: str, script: str, does: str) -> None:
        self.source = source
        self.name = f"tvm_from_{source.replace('-', '_')}"
        self.__doc__ = does
        self._script = _SCRIPTS / f"{script}.py"

    def obstacle(self) -> str:
        """TVM must be installed, what its frontend reads, and a compiler that links."""
        library = ("onnx", "onnx") if self.source == "onnx" else ("torch", "torch")
        if absent := missing("tvm", extra="tvm") or missing(library[0], extra=library[1]):
            return absent
        is_there = any(map(shutil.which, _COMPILERS))
        return "" if is_there else f"none of {', '.join(_COMPILERS)} is installed: apt-get install g++"

    def convert(self, source: Source) -> Hop:
        """Compile with the free sizes of the source, or, where TVM cannot, with those of one sample.

        Raises:
            Unsupported: TVM cannot compile it; its message names operators.
            Crashed: the compiler died, hung, or took too much memory.
        """
        model = source.loaded()
        if self.source == "onnx":
            graph_model(source)
        else:
            _require_program(model, source.where)
        return freely_or_fixed(source, functools.partial(self._compiled, source), lacking=_LACKING)

    def _compiled(self, source: Source, signature: Signature, fixed: Feeds) -> Hop:
        """One library, run at every size of the examples that it is for.

        Args:
            source: what is compiled.
            signature: that the library is to state.
            fixed: feeds whose sizes it is compiled for; empty for free ones.
        """
        from regraft.runtime.stated import stated_signature
        from regraft.runtime.tvm_model import isolated_tvm

        model = source.loaded()
        made = self._made(source, stated_signature(signature, model.effective_precision), fixed)
        product = isolated_tvm(made.files["model.so"], where=source.where)
        try:
            cases = [fixed] if fixed else source.feeds
            prove(product, model, cases, {port.name: port.name for port in signature.inputs})
        finally:
            product.close()
        note = "compiled for this processor and this TVM, not tuned; native code, which a scan cannot pass"
        is_last_resort = bool(fixed) and self.source != "onnx"  # torch's frontend follows sizes that ONNX's does not
        return Hop(
            made.files, "tvm", (note,), made.versions, precision=None, is_compiled=True, is_one_size=is_last_resort
        )

    def _made(self, source: Source, stated: str, fixed: Feeds) -> Made:
        python, options = Path(sys.executable), {"signature": stated}
        if self.source == "onnx" and not fixed:
            return run_by(python, self._script, source, options)
        name, content = ("model.onnx", fixed_graph) if self.source == "onnx" else ("model.pt2", _program)
        with handed_over(content(source, fixed), name, source) as file:
            return run_by(python, self._script, file, options)


def _require_program(model: Model, where: str) -> None:
    from regraft.runtime.torch_export import TorchExportModel

    if not isinstance(model, TorchExportModel):
        raise Unsupported(f"a {type(model).__name__} is no exported program", where=where)


def _program(source: Source, fixed: Feeds) -> bytes:
    """The program as a file, its sizes free, or those of the feeds; it returns its tensors in a sequence.

    A structure of a library's own, as of transformers, could be read only where that library was imported.
    """
    from regraft.runtime.torch_export import TorchExportModel, exported
    from regraft.runtime.torch_program import plain_module, program_bytes

    model = source.loaded()
    assert isinstance(model, TorchExportModel)
    inputs = model.signature.inputs
    plain = TorchExportModel(plain_module(model), inputs=inputs, where=model.where)
    names = {str(extent) for port in inputs for extent in port.shape or () if not isinstance(extent, int)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return program_bytes(exported(plain, fixed or source.feeds[0], fixed=sorted(names) if fixed else ()))


FAMILY = (
    TvmConverter("onnx", "tvm_from_onnx", "Compiles ONNX graphs by TVM for the processor at hand, untuned."),
    TvmConverter(
        "torch-export", "tvm_from_program", "Compiles exported programs by TVM for the processor at hand, untuned."
    ),
)
"""Both of them."""
