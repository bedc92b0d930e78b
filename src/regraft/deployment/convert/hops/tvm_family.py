"""Libraries of Apache TVM, from ONNX and from exported programs: one compiler behind two frontends.

Each is a script in a process of its own: what TVM is made of may crash, hang, or take a machine's memory.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from regraft.compare.recall import recalled
from regraft.deployment.convert.foreign import Made, run_by
from regraft.deployment.convert.hops.mobile_family import one_sample
from regraft.deployment.convert.hops.onnx_rewriting import graph_model, optimised
from regraft.deployment.convert.interface import Hop, Source
from regraft.deployment.convert.obstacles import missing
from regraft.deployment.convert.proving import prove
from regraft.errors import BadFeeds, Crashed, RegraftError, Unsupported
from regraft.package.formats import Port
from regraft.package.package import open_package
from regraft.runtime.interface import Signature
from regraft.runtime.verified import VerifiedFiles

if TYPE_CHECKING:
    from regraft.runtime.interface import Array, Feeds, Model

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
        ports = model.signature.inputs
        try:
            return self._compiled(source, _signature(model, source.feeds), {})
        except (Unsupported, Crashed) as error:
            if _LACKING in error.what or not _has_free_size(ports):
                raise
            refused = error
        feeds = one_sample(source.feeds, ports, given=source.given)
        try:
            hop = self._compiled(source, _signature(model, [feeds], is_fixed=True), feeds)
        except RegraftError as error:
            raise Unsupported(f"{refused.what}; with fixed sizes: {error.what}", where=source.where) from error
        shapes = ", ".join(f"{name} {value.shape}" for name, value in feeds.items())
        note = f"the sizes are fixed: {shapes}; with free ones: {refused.what}"
        is_last_resort = self.source != "onnx"  # the frontend for torch follows sizes that the one for ONNX does not
        return msgspec.structs.replace(hop, notes=(note, *hop.notes), is_one_size=is_last_resort)

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
        return Hop(made.files, "tvm", (note,), made.versions, precision=None, is_compiled=True)

    def _made(self, source: Source, stated: str, fixed: Feeds) -> Made:
        python, options = Path(sys.executable), {"signature": stated}
        if self.source == "onnx" and not fixed:
            return run_by(python, self._script, source, options)
        name, content = ("model.onnx", _folded) if self.source == "onnx" else ("model.pt2", _program)
        with tempfile.TemporaryDirectory(prefix="regraft-") as folder:
            (Path(folder) / name).write_bytes(content(source, fixed))
            with open_package(folder) as package:
                handed_over = Source(None, (), VerifiedFiles(package), name, source.where)
                return run_by(python, self._script, handed_over, options)


def _has_free_size(ports: Sequence[Port]) -> bool:
    return any(port.shape is None or not all(isinstance(extent, int) for extent in port.shape) for port in ports)


def _require_program(model: Model, where: str) -> None:
    from regraft.runtime.torch_export import TorchExportModel

    if not isinstance(model, TorchExportModel):
        raise Unsupported(f"a {type(model).__name__} is no exported program", where=where)


def _folded(source: Source, fixed: Feeds) -> bytes:
    """The graph for the sizes of these feeds, and what is constant then as constants.

    TVM's frontend cannot follow a reshape whose target is computed from a shape.
    """
    import onnx

    model = graph_model(source)
    proto = onnx.ModelProto.FromString(model.content)
    for value in proto.graph.input:
        if value.name in fixed:
            extents = value.type.tensor_type.shape.dim
            del extents[:]  # a graph may not even say how many there are
            for size in fixed[value.name].shape:
                extents.add().dim_value = size
    content: bytes = optimised(proto.SerializeToString(), "basic", source.where).SerializeToString()
    return content


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


def _signature(model: Model, cases: Sequence[Feeds], *, is_fixed: bool = False) -> Signature:
    """What a library is to state: the ports of the source, outputs from a run where it does not say them.

    Args:
        model: the source; programs do not say what they return.
        cases: examples of several sizes; an extent that differs between them has no number.
        is_fixed: it is for the sizes of the first of them.
    """
    inputs = model.signature.inputs
    if model.signature.outputs and not is_fixed:
        return model.signature
    if is_fixed:
        inputs = tuple(msgspec.structs.replace(port, shape=cases[0][port.name].shape) for port in inputs)
    returned = list(_returned(model, cases))
    if not returned:
        raise Unsupported("it takes none of the examples any more", where=model.where)
    outputs = []
    for name, value in returned[0].items():
        extents = zip(*(one[name].shape for one in returned), strict=False)
        shape = tuple(sizes[0] if len(set(sizes)) == 1 else None for sizes in extents)
        outputs.append(Port(name, str(value.dtype), shape if value.ndim else ()))
    return Signature(inputs, tuple(outputs), model.signature.ranges)


def _returned(model: Model, cases: Sequence[Feeds]) -> Iterator[Mapping[str, Array]]:
    """Outputs at the sizes that it takes: a hop before this one may have fixed some."""
    for feeds in cases:
        with contextlib.suppress(BadFeeds, Unsupported):
            yield recalled(model, feeds)


FAMILY = (
    TvmConverter("onnx", "tvm_from_onnx", "Compiles ONNX graphs by TVM for the processor at hand, untuned."),
    TvmConverter(
        "torch-export", "tvm_from_program", "Compiles exported programs by TVM for the processor at hand, untuned."
    ),
)
"""Both of them."""
