"""torch: a TorchScript program. It is run by torch's own interpreter, which has no place to tap."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from regraft.errors import Damaged, Unsupported
from regraft.package.formats import Port
from regraft.runtime.feeding import checked_feeds
from regraft.runtime.interface import Signature, Tap
from regraft.runtime.torch_script_inputs import cast_inputs, integer_inputs
from regraft.runtime.torch_tensors import (
    array_from_tensor,
    cast_port,
    import_torch,
    input_from_array,
    named_tensors,
    precision_of,
    running_with,
    torch_dtype,
)

if TYPE_CHECKING:
    import torch

    from regraft.package.package import Package
    from regraft.runtime.interface import Array, Feeds, LoadOptions, Reduce
    from regraft.runtime.verified import VerifiedFiles

_SCALARS = {"int": "int64", "float": "float64", "bool": "bool"}


class TorchScriptRuntime:
    """Loads TorchScript archives; they are programs, so a permit is needed."""

    name = "torch"

    def can_load(self, package: Package, path: str, options: LoadOptions) -> bool:
        """A TorchScript archive."""
        _, recognised = package.probe(path)
        return options.factory is None and recognised is not None and recognised.name == "torchscript"

    def load(self, files: VerifiedFiles, path: str, options: LoadOptions) -> TorchScriptModel:
        """Load the program."""
        torch = import_torch(path)
        content = files.read(path)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # torch advises whoever saves; we only read
                module = torch.jit.load(io.BytesIO(content), map_location="cpu")
        except (RuntimeError, ValueError, OSError) as error:
            raise Damaged(f"torch cannot load the program: {str(error).strip()[:300]}", where=path) from error
        if options.precision is not None:
            module = module.to(torch_dtype(options.precision))
        return TorchScriptModel(module, threads=options.threads, where=path)


class TorchScriptModel:
    """A TorchScript module, called by position. A module with state (`reset_states`) starts every pass anew.

    Args:
        module: the program.
        inputs: names, dtypes and symbolic shapes of its arguments; None for what the program says of itself.
        threads: intra-op threads during a pass; None for torch's own number.
        where: how errors name it.
    """

    runtime = "torch"

    def __init__(
        self,
        module: torch.jit.ScriptModule,
        *,
        inputs: Sequence[Port] | None = None,
        threads: int | None = None,
        where: str = "",
    ) -> None:
        self.module = module.eval()
        self.where = where
        self.allows_nan = False
        self.threads = threads
        self._inputs = None if inputs is None else tuple(inputs)
        forward: Any = module.forward
        self._arguments = [argument for argument in forward.schema.arguments if argument.name != "self"]
        graph = forward.inlined_graph if hasattr(forward, "inlined_graph") else forward.graph
        self._integers, self._cast = integer_inputs(graph), cast_inputs(graph)
        self._outputs: tuple[Port, ...] = ()

    @property
    def signature(self) -> Signature:
        """Names as the program has them. It does not say the shapes; its operators tell integers from other tensors."""
        if self._inputs is not None:
            return Signature(self._inputs, self._outputs)
        ports = []
        for argument in self._arguments:
            if argument.has_default_value():
                continue
            kind = str(argument.type)
            scalar = _SCALARS.get(kind)
            tensor = "int64" if argument.name in self._integers else self.effective_precision
            ports.append(Port(argument.name, scalar or tensor, () if scalar else None))
        return Signature(tuple(ports), self._outputs)

    @property
    def effective_precision(self) -> str:
        """The dtype of the parameters, `mixed` when they differ."""
        return precision_of(iter(self.module.parameters()))

    def __call__(self, feeds: Feeds) -> dict[str, Array]:
        """One pass from the program's initial state."""
        arguments = list(self.arguments(feeds).values())
        with running_with(self.threads):
            try:
                result = self.started(arguments)
            except Exception as error:  # a program raises what it likes
                lines = [line.strip() for line in str(error).splitlines() if line.strip()]
                raise Unsupported(
                    f"the program stopped: {lines[-1][:300] if lines else type(error).__name__}", where=self.where
                ) from error
        outputs = {name: array_from_tensor(tensor) for name, tensor in named_tensors(result)}
        self._outputs = tuple(Port(name, str(value.dtype), (None,) * value.ndim) for name, value in outputs.items())
        return outputs

    def arguments(self, feeds: Feeds) -> dict[str, Any]:
        """What a pass is given, in order: tensors, and lone numbers as Python has them.

        What the program casts itself may have any type of numbers, unless the types were stated.

        Raises:
            BadFeeds: they are not what the program takes.
        """
        signature = self.signature
        taken = tuple(self.as_given(port, feeds.get(port.name)) for port in signature.inputs)
        signature = Signature(taken, signature.outputs)
        checked = checked_feeds(signature, feeds, where=self.where, allows_nan=self.allows_nan)
        return {port.name: self._argument(port, checked[port.name]) for port in signature.inputs}

    def as_given(self, port: Port, value: Array | None) -> Port:
        """The input with the dtype of a value, where the program casts it itself and nobody stated another."""
        dtype = getattr(value, "dtype", None)
        is_cast = self._inputs is None and port.name in self._cast and port.shape is None
        is_free = is_cast and dtype is not None and dtype.kind in "fiub"
        return Port(port.name, str(dtype), None) if is_free else port

    def started(self, arguments: Sequence[Any]) -> Any:
        """What the program returns when it starts anew; it raises what it likes."""
        if hasattr(self.module, "reset_states"):
            self.module.reset_states()
        return self.module(*arguments)

    def trace(self, feeds: Feeds, *, taps: Sequence[str] | None = None, reduce: Reduce | None = None) -> Iterator[Tap]:
        """Not for TorchScript: its interpreter calls no hooks.

        Raises:
            Unsupported: always.
        """
        raise self._no("its interpreter calls no hooks between operators")

    def segment(self, inputs: Sequence[str], outputs: Sequence[str]) -> TorchScriptModel:
        """Not for TorchScript.

        Raises:
            Unsupported: always.
        """
        raise self._no("a program with control flow and state has no taps to be cut at")

    def cast(self, dtype: str) -> TorchScriptModel:
        """A copy whose parameters and buffers are in `dtype`; constants of the program stay as they are."""
        import copy

        module: Any = copy.deepcopy(self.module).to(torch_dtype(dtype))  # its own copy() fails on nested modules
        inputs = None if self._inputs is None else [cast_port(port, dtype) for port in self._inputs]
        return TorchScriptModel(module, inputs=inputs, threads=self.threads, where=self.where)

    def with_module(self, module: torch.jit.ScriptModule) -> TorchScriptModel:
        """The same with another module, as a copy of it with other weights is."""
        return TorchScriptModel(module, inputs=self._inputs, threads=self.threads, where=self.where)

    def close(self) -> None:
        """Nothing to free beyond the module itself."""

    def _argument(self, port: Port, value: Array) -> Any:
        return value.item() if port.shape == () else input_from_array(value, cast_port(port, port.dtype).dtype)

    def _no(self, reason: str) -> Unsupported:
        return Unsupported(
            f"TorchScript cannot be traced: {reason}", where=self.where, hint="trace its ONNX version, if there is one"
        )
