"""MNN: a `.mnn` file as a `Model`, in a process of its own, as what is wrong in it reaches C++."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.errors import BadFeeds, Damaged, MissingExtra, Unsupported
from regraft.package.formats.interface import Probe
from regraft.package.formats.mnn import Mnn, layouts_of, note_of
from regraft.package.reader import BytesReader
from regraft.runtime.interface import Signature
from regraft.runtime.isolated import IsolatedModel
from regraft.runtime.isolated_worker import Recipe
from regraft.runtime.opaque_model import OpaqueModel
from regraft.runtime.stated import read_signature

if TYPE_CHECKING:
    from regraft.package.package import Package
    from regraft.runtime.interface import Array, LoadOptions
    from regraft.runtime.verified import VerifiedFiles

_EIGHT_BITS = frozenset({"ConvInt8", "DepthwiseConvInt8", "EltwiseInt8", "DynamicQuant"})
_DTYPES = {"float32": "float", "int32": "int", "int64": "int", "bool": "int", "uint8": "uint8"}
"""Dtype of a port → MNN's word for what it is fed as; it has no integers of 64 bits and no truth values."""


class MnnRuntime:
    """Loads models of MNN."""

    name = "mnn"

    def can_load(self, package: Package, path: str, options: LoadOptions) -> bool:
        """A `.mnn`."""
        _, recognised = package.probe(path)
        return options.factory is None and recognised is not None and recognised.name == "mnn"

    def load(self, files: VerifiedFiles, path: str, options: LoadOptions) -> IsolatedModel:
        """Hand the verified bytes to a process of its own."""
        return isolated_mnn(files.read(path), threads=options.threads, precision=options.precision, where=path)


def isolated_mnn(
    content: bytes, *, threads: int | None = None, precision: str | None = None, where: str = ""
) -> IsolatedModel:
    """A model of MNN in a process of its own.

    Args:
        content, threads, precision, where: as of `MnnModel`.
    Raises:
        As `MnnModel`; Crashed: the process died.
    """
    arguments = {"threads": threads, "precision": precision, "where": where}
    return IsolatedModel(Recipe("regraft.runtime.mnn_model:MnnModel", content, arguments), where=where)


class MnnModel(OpaqueModel):
    """A model of MNN on the CPU, in this very process, at MNN's high precision.

    Args:
        content: the file.
        threads: None for one, as MNN has it.
        precision: `float32`, or None. MNN's other modes are wishes, which it follows or not as the processor is: what
            it then computes in it does not tell.
        where: how errors name it.
    Raises:
        MissingExtra: MNN is not installed.
        Damaged: it is no model of MNN, or MNN cannot open it.
        Unsupported: another precision.
    """

    runtime = "mnn"
    made_from = "the graph that it was converted from"

    def __init__(
        self, content: bytes, *, threads: int | None = None, precision: str | None = None, where: str = ""
    ) -> None:
        try:
            import MNN
        except ImportError as error:
            raise MissingExtra("MNN", extra="mnn", where=where) from error
        probe = Probe(BytesReader(content, where=where), where)
        if not Mnn().matches(probe):
            raise Damaged("it is no model of MNN", where=where)
        description = Mnn().describe(probe)
        computed = "int8" if _EIGHT_BITS & description.operators.keys() else "float32"
        if precision not in (None, computed):
            raise Unsupported(f"it computes in {computed}; MNN cannot be told {precision} for sure", where=where)
        note = note_of(probe)
        is_ours = note.startswith('{"inputs"')
        signature = read_signature(note, where)[0] if is_ours else Signature(description.inputs, description.outputs)
        super().__init__(signature, computed, where=where)
        self._layouts = layouts_of(probe)
        self._expr: Any = MNN.expr
        self._module: Any = self._opened(content, threads or 1)

    def _run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        import numpy as np

        if self._module is None:
            raise Unsupported("the model is closed", where=self.where)
        dtypes = {port.name: port.dtype for port in self._signature.inputs}
        found = self._module.forward([self._fed(name, value, dtypes[name]) for name, value in feeds.items()])
        ports = self._signature.outputs
        if len(found) != len(ports):
            sizes = ", ".join(f"{name} {value.shape}" for name, value in feeds.items())
            raise Unsupported("MNN stopped, and returned nothing", where=self.where, hint=f"feeds: {sizes}")
        outputs = {}
        for port, value in zip(ports, found, strict=True):
            array = np.array(self._plain(value).read())
            outputs[port.name] = array if port.dtype == "unknown" else array.astype(port.dtype)
        return outputs

    def close(self) -> None:
        """Let go of the module."""
        self._module = None

    def _opened(self, content: bytes, threads: int) -> Any:
        import MNN

        inputs = [port.name for port in self._signature.inputs]
        outputs = [port.name for port in self._signature.outputs]
        mode = self._expr.PrecisionMode.High
        with tempfile.TemporaryDirectory(prefix="regraft-") as folder:  # it reads a path, and no bytes
            path = Path(folder) / "model.mnn"
            path.write_bytes(content)
            try:
                return MNN.nn.load_module_from_file(str(path), inputs, outputs, precision_mode=mode, thread_num=threads)
            except (SystemError, RuntimeError, ValueError) as error:
                raise Damaged("MNN cannot open it", where=self.where) from error

    def _fed(self, name: str, value: Array, dtype: str) -> Any:
        """An input as MNN wants it: as its graph says where the channels are, and packed where it wants that.

        Raises:
            Unsupported: MNN has no such dtype.
            BadFeeds: an integer needs more than 32 bits.
        """
        import numpy as np

        if dtype not in _DTYPES:
            raise Unsupported(f"input {name!r} is {dtype}, which MNN does not take", where=self.where)
        if dtype == "int64":
            limits = np.iinfo(np.int32)
            if value.size and (value.min() < limits.min or value.max() > limits.max):
                what = f"input {name!r} holds integers of more than 32 bits, which MNN does not have"
                raise BadFeeds(what, where=self.where)
        if _DTYPES[dtype] == "int":
            value = value.astype(np.int32)
        kind = getattr(self._expr, _DTYPES[dtype])
        layout = self._layouts.get(name, "NCHW")
        plain = self._expr.NHWC if layout == "NHWC" else self._expr.NCHW
        fed = self._expr.const(np.ascontiguousarray(value), list(value.shape), plain, kind)
        return self._expr.convert(fed, self._expr.NC4HW4) if layout == "NC4HW4" else fed

    def _plain(self, value: Any) -> Any:
        """A tensor without MNN's packing of four channels."""
        return self._expr.convert(value, self._expr.NCHW) if value.data_format == self._expr.NC4HW4 else value
