"""MNN: a `.mnn` file as a `Model`, in a process of its own, as what is wrong in it reaches C++."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.errors import BadFeeds, Damaged, MissingExtra, Unsupported
from regraft.package.formats import Description, Port
from regraft.package.formats.interface import Probe
from regraft.package.formats.mnn import Mnn, note_of
from regraft.package.reader import BytesReader
from regraft.runtime.feeding import checked_feeds
from regraft.runtime.interface import Signature, Tap
from regraft.runtime.isolated import IsolatedModel
from regraft.runtime.isolated_worker import Recipe
from regraft.runtime.stated import read_signature

if TYPE_CHECKING:
    from regraft.package.package import Package
    from regraft.runtime.interface import Array, Feeds, LoadOptions, Reduce
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


class MnnModel:
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
        Unsupported: another precision, or weights that lie in another file.
    """

    runtime = "mnn"

    def __init__(
        self, content: bytes, *, threads: int | None = None, precision: str | None = None, where: str = ""
    ) -> None:
        try:
            import MNN
        except ImportError as error:
            raise MissingExtra("MNN", extra="mnn", where=where) from error
        self.where = where
        self.allows_nan = False
        probe = Probe(BytesReader(content, where=where), where)
        if not Mnn().matches(probe):
            raise Damaged("it is no model of MNN", where=where)
        description = Mnn().describe(probe)
        self._precision = "int8" if _EIGHT_BITS & description.operators.keys() else "float32"
        if precision not in (None, self._precision):
            raise Unsupported(f"it computes in {self._precision}; MNN cannot be told {precision} for sure", where=where)
        note = note_of(probe)
        self._signature = read_signature(note, where)[0] if note.startswith("{") else _guessed(description)
        self._expr: Any = MNN.expr
        self._module: Any = self._opened(content, threads or 1)

    @property
    def signature(self) -> Signature:
        """As its converter noted it in the file; of a stranger's file what the graph says."""
        return self._signature

    @property
    def effective_precision(self) -> str:
        """`float32`, whatever its weights are stored as; `int8` where operators compute with 8-bit numbers."""
        return self._precision

    def __call__(self, feeds: Feeds) -> dict[str, Array]:
        """One pass."""
        import numpy as np

        if self._module is None:
            raise Unsupported("the model is closed", where=self.where)
        checked = checked_feeds(self._signature, feeds, where=self.where, allows_nan=self.allows_nan)
        dtypes = {port.name: port.dtype for port in self._signature.inputs}
        sizes = ", ".join(f"{name} {value.shape}" for name, value in feeds.items())
        found = self._module.forward([self._fed(name, value, dtypes[name]) for name, value in checked.items()])
        ports = self._signature.outputs
        if len(found) != len(ports):
            raise Unsupported("MNN stopped: it returned nothing", where=self.where, hint=f"feeds: {sizes}")
        outputs = {}
        for port, value in zip(ports, found, strict=True):
            array = np.array(self._plain(value).read())
            outputs[port.name] = array if port.dtype == "unknown" else array.astype(port.dtype)
        return outputs

    def trace(self, feeds: Feeds, *, taps: Sequence[str] | None = None, reduce: Reduce | None = None) -> Iterator[Tap]:
        """Not offered.

        Raises:
            Unsupported: always.
        """
        raise self._no("operators of MNN are not looked at one by one")

    def segment(self, inputs: Sequence[str], outputs: Sequence[str]) -> MnnModel:
        """Not offered.

        Raises:
            Unsupported: always.
        """
        raise self._no("graphs of MNN are not cut")

    def cast(self, dtype: str) -> MnnModel:
        """Not offered: MNN has no kernels of more than float32.

        Raises:
            Unsupported: always.
        """
        raise self._no(f"MNN does not run whole graphs in {dtype}")

    def close(self) -> None:
        """Let go of the module."""
        self._module = None

    def _no(self, what: str) -> Unsupported:
        hint = "verify it against the model that it was converted from: regraft verify REFERENCE CANDIDATE"
        return Unsupported(what, where=self.where, hint=hint)

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
        """An input as MNN wants it: in the layout of frameworks that put channels first.

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
                raise BadFeeds(f"input {name!r} holds integers of more than 32 bits, which MNN does not have")
        if _DTYPES[dtype] == "int":
            value = value.astype(np.int32)
        kind = getattr(self._expr, _DTYPES[dtype])
        return self._expr.const(np.ascontiguousarray(value), list(value.shape), self._expr.NCHW, kind)

    def _plain(self, value: Any) -> Any:
        """A tensor without MNN's packing of four channels."""
        return self._expr.convert(value, self._expr.NCHW) if value.data_format == self._expr.NC4HW4 else value


def _guessed(description: Description) -> Signature:
    """What the graph says, of a model whose converter noted nothing of ours; a size that it fixes may be an example."""
    inputs = tuple(Port(port.name, port.dtype, None) for port in description.inputs)
    return Signature(inputs, description.outputs)
