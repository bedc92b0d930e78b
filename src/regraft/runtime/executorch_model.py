"""ExecuTorch: a `.pte` program as a `Model`, in a process of the environment `mobile`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from regraft.errors import Damaged, Unsupported
from regraft.package.formats import Port
from regraft.runtime.feeding import checked_feeds
from regraft.runtime.interface import Signature, Tap
from regraft.runtime.isolated import IsolatedModel
from regraft.runtime.isolated_worker import Recipe
from regraft.runtime.stated import read_signature
from regraft.runtime.torch_tensors import array_from_tensor, tensor_from_array

if TYPE_CHECKING:
    from regraft.package.package import Package
    from regraft.runtime.interface import Array, Feeds, LoadOptions, Reduce
    from regraft.runtime.verified import VerifiedFiles

SIGNATURE = "regraft_signature"
"""Method of a program that returns its ports and its precision as JSON: the format has no names for them."""
_METHOD = "forward"
_ENVIRONMENT = "mobile"
_DTYPES = {
    0: "uint8", 1: "int8", 2: "int16", 3: "int32", 4: "int64", 5: "float16", 6: "float32", 7: "float64", 11: "bool",
    15: "bfloat16",
}  # fmt: skip
"""ScalarType, as executorch/schema/scalar_type.fbs numbers them."""


class ExecuTorchRuntime:
    """Loads ExecuTorch programs."""

    name = "executorch"

    def can_load(self, package: Package, path: str, options: LoadOptions) -> bool:
        """A flatbuffer with ExecuTorch's identifier."""
        _, recognised = package.probe(path)
        return options.factory is None and recognised is not None and recognised.name == "executorch"

    def load(self, files: VerifiedFiles, path: str, options: LoadOptions) -> IsolatedModel:
        """Hand the verified bytes to a process of the environment `mobile`.

        Raises:
            MissingEnvironment: it was not made yet.
        """
        arguments = {"threads": options.threads, "where": path}
        model = IsolatedModel(Recipe(f"{__name__}:model_of", files.read(path), arguments, _ENVIRONMENT), where=path)
        if options.precision not in (None, model.effective_precision):
            model.close()
            raise Unsupported(
                f"it was lowered for {model.effective_precision} and cannot be told {options.precision}", where=path
            )
        return model


def model_of(content: bytes, *, threads: int | None = None, where: str = "") -> ExecuTorchModel:
    """Build the model, in the process that has ExecuTorch."""
    return ExecuTorchModel(content, threads=threads, where=where)


class ExecuTorchModel:
    """A program on the CPU, in this very process.

    Args:
        content: the flatbuffer.
        threads: of XNNPACK; None for its default.
        where: how errors name it.
    Raises:
        Damaged: the runtime cannot read it, or what it says of its own signature is none.
        Unsupported: it has no method `forward`, or needs a delegate or a kernel that this build lacks.
    """

    runtime = "executorch"

    def __init__(self, content: bytes, *, threads: int | None = None, where: str = "") -> None:
        from executorch.extension.pybindings import portable_lib
        from executorch.runtime import Runtime

        self.where = where
        self.allows_nan = False
        if threads is not None:
            portable_lib._unsafe_reset_threadpool(threads)
        try:
            self._program: Any = Runtime.get().load_program(content)
        except RuntimeError as error:
            raise Damaged(f"ExecuTorch cannot read the program: {_said(error)}", where=where) from error
        if _METHOD not in self._program.method_names:
            raise Unsupported(f"the program has no method {_METHOD!r}", where=where)
        try:
            self._method: Any = self._program.load_method(_METHOD)
            self._signature, self._precision = self._told()
        except RuntimeError as error:
            raise Unsupported(f"ExecuTorch refuses the program: {_said(error)}", where=where) from error

    @property
    def signature(self) -> Signature:
        """Names as the converter wrote them into the program; of a stranger's program `input_0` and on."""
        return self._signature

    @property
    def effective_precision(self) -> str:
        """The dtype that the weights had when it was made; of a stranger's program that of its floating inputs."""
        return self._precision

    def __call__(self, feeds: Feeds) -> dict[str, Array]:
        """One pass."""
        checked = checked_feeds(self._signature, feeds, where=self.where, allows_nan=self.allows_nan)
        tensors = [tensor_from_array(checked[port.name], port.dtype).contiguous() for port in self._signature.inputs]
        try:
            found = self._method.execute(tensors)
        except RuntimeError as error:
            shapes = ", ".join(f"{name} {value.shape}" for name, value in feeds.items())
            raise Unsupported(
                f"ExecuTorch stopped: {_said(error)}", where=self.where, hint=f"feeds: {shapes}"
            ) from error
        names = [port.name for port in self._signature.outputs]
        if len(found) != len(names):
            raise Damaged(f"it says that it has {len(names)} outputs, and has {len(found)}", where=self.where)
        return {name: array_from_tensor(tensor).copy() for name, tensor in zip(names, found, strict=True)}

    def trace(self, feeds: Feeds, *, taps: Sequence[str] | None = None, reduce: Reduce | None = None) -> Iterator[Tap]:
        """Not offered: the published runtime is built without its event tracer.

        Raises:
            Unsupported: always.
        """
        raise self._no()

    def segment(self, inputs: Sequence[str], outputs: Sequence[str]) -> ExecuTorchModel:
        """Not offered.

        Raises:
            Unsupported: always.
        """
        raise self._no()

    def cast(self, dtype: str) -> ExecuTorchModel:
        """Not offered.

        Raises:
            Unsupported: always.
        """
        raise self._no()

    def close(self) -> None:
        """Drop the program."""
        self._method = self._program = None

    def _no(self) -> Unsupported:
        return Unsupported(
            "ExecuTorch shows no operators of a program",
            where=self.where,
            hint="look at the exported program that it was made from: regraft convert --to torch-export",
        )

    def _told(self) -> tuple[Signature, str]:
        """What its maker wrote into it, else what the runtime knows."""
        if SIGNATURE in self._program.method_names:
            told = self._program.load_method(SIGNATURE).execute([])
            return read_signature(
                told[0] if told and isinstance(told[0], str | bytes) else "", self.where, is_fixed=True
            )
        meta = self._method.metadata
        inputs = tuple(_port("input", i, meta.input_tensor_meta(i)) for i in range(meta.num_inputs()))
        outputs = tuple(_port("output", i, meta.output_tensor_meta(i)) for i in range(meta.num_outputs()))
        precision = next((port.dtype for port in inputs if "float" in port.dtype), "float32")
        return Signature(inputs, outputs), precision


def _port(side: str, number: int, meta: Any) -> Port:
    return Port(f"{side}_{number}", _DTYPES.get(meta.dtype(), f"type_{meta.dtype()}"), tuple(meta.sizes()))


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
