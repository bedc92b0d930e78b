"""ExecuTorch: a `.pte` program as a `Model`, in a process of the environment `mobile`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from regraft.errors import Damaged, Unsupported
from regraft.package.formats import Port
from regraft.runtime.interface import Signature
from regraft.runtime.isolated import IsolatedModel
from regraft.runtime.isolated_worker import Recipe
from regraft.runtime.opaque_model import OpaqueModel, as_asked, said
from regraft.runtime.stated import read_signature
from regraft.runtime.torch_tensors import array_from_tensor, tensor_from_array

if TYPE_CHECKING:
    from regraft.package.package import Package
    from regraft.runtime.interface import Array, LoadOptions, Model
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

    def load(self, files: VerifiedFiles, path: str, options: LoadOptions) -> Model:
        """Hand the verified bytes to a process of the environment `mobile`.

        Raises:
            MissingEnvironment: it was not made yet.
        """
        arguments = {"threads": options.threads, "where": path}
        recipe = Recipe(f"{__name__}:model_of", files.read(path), arguments, _ENVIRONMENT)
        return as_asked(IsolatedModel(recipe, where=path), options.precision)


def model_of(content: bytes, *, threads: int | None = None, where: str = "") -> ExecuTorchModel:
    """Build the model, in the process that has ExecuTorch."""
    return ExecuTorchModel(content, threads=threads, where=where)


class ExecuTorchModel(OpaqueModel):
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
    made_from = "the exported program that it was made from: regraft convert --to torch-export"

    def __init__(self, content: bytes, *, threads: int | None = None, where: str = "") -> None:
        from executorch.extension.pybindings import portable_lib
        from executorch.runtime import Runtime

        if threads is not None:
            portable_lib._unsafe_reset_threadpool(threads)
        try:
            self._program: Any = Runtime.get().load_program(content)
        except RuntimeError as error:
            raise Damaged(f"ExecuTorch cannot read the program: {said(error)}", where=where) from error
        if _METHOD not in self._program.method_names:
            raise Unsupported(f"the program has no method {_METHOD!r}", where=where)
        try:
            self._method: Any = self._program.load_method(_METHOD)
            signature, precision = self._told(where)
        except RuntimeError as error:
            raise Unsupported(f"ExecuTorch refuses the program: {said(error)}", where=where) from error
        super().__init__(signature, precision, where=where)

    def _run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        tensors = [tensor_from_array(feeds[port.name], port.dtype).contiguous() for port in self._signature.inputs]
        try:
            found = self._method.execute(tensors)
        except RuntimeError as error:
            raise self._stopped("ExecuTorch", error, feeds) from error
        return self._named([array_from_tensor(tensor).copy() for tensor in found])

    def close(self) -> None:
        """Drop the program."""
        self._method = self._program = None

    def _told(self, where: str) -> tuple[Signature, str]:
        """What its maker wrote into it, else what the runtime knows."""
        if SIGNATURE in self._program.method_names:
            told = self._program.load_method(SIGNATURE).execute([])
            return read_signature(told[0] if told and isinstance(told[0], str | bytes) else "", where, is_fixed=True)
        meta = self._method.metadata
        inputs = tuple(_port("input", i, meta.input_tensor_meta(i)) for i in range(meta.num_inputs()))
        outputs = tuple(_port("output", i, meta.output_tensor_meta(i)) for i in range(meta.num_outputs()))
        precision = next((port.dtype for port in inputs if "float" in port.dtype), "float32")
        return Signature(inputs, outputs), precision


def _port(side: str, number: int, meta: Any) -> Port:
    return Port(f"{side}_{number}", _DTYPES.get(meta.dtype(), f"type_{meta.dtype()}"), tuple(meta.sizes()))
