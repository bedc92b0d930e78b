"""torch on an NVIDIA GPU: whatever the runtime `torch` loads, moved there."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.errors import Unsupported
from regraft.runtime.torch_module import TorchModel
from regraft.runtime.torch_tensors import cast_port, import_torch, torch_dtype

if TYPE_CHECKING:
    from regraft.package.package import Package
    from regraft.runtime.interface import Feeds, LoadOptions
    from regraft.runtime.verified import VerifiedFiles

TENSOR_FLOAT = "tensorfloat32"


class TorchCudaRuntime:
    """Loads eager networks as the runtime `torch` does, and moves them to the current GPU."""

    name = "torch-cuda"

    def can_load(self, package: Package, path: str, options: LoadOptions) -> bool:
        """Weights of an architecture of transformers, or of one that a factory builds."""
        return any(member.can_load(package, path, options) for member in _eager())

    def load(self, files: VerifiedFiles, path: str, options: LoadOptions) -> TorchCudaModel:
        """As the runtime `torch`, then on the GPU."""
        on_cpu = msgspec.structs.replace(options, precision=None)
        member = next(one for one in _eager() if one.can_load(files.package, path, on_cpu))
        model = member.load(files, path, on_cpu)
        if not isinstance(model, TorchModel):
            raise Unsupported(f"a model of {model.runtime} is not moved to a GPU", where=path)
        return TorchCudaModel(model, precision=options.precision)


class TorchCudaModel(TorchModel):
    """A copy of an eager model on the current GPU.

    Args:
        model: on the processor; it is left as it is.
        precision: `float32` forbids TensorFloat-32, `tensorfloat32` allows it for convolutions and products of
            matrices, `bfloat16` and `float16` convert the network; None leaves it to torch's settings, by which
            convolutions of float32 are made in TensorFloat-32.
    Raises:
        Unsupported: there is no GPU that torch can use, or no such precision.
    """

    runtime = "torch-cuda"

    def __init__(self, model: TorchModel, *, precision: str | None = None) -> None:
        torch = import_torch(model.where)
        if not torch.cuda.is_available():
            raise Unsupported(
                "torch sees no CUDA device",
                where=model.where,
                hint="leave --runtime torch-cuda out, or: regraft doctor",
            )
        dtype = None if precision in (None, TENSOR_FLOAT) else precision
        module = copy.deepcopy(model.module).to("cuda")
        own = model.signature
        super().__init__(
            module if dtype is None else module.to(torch_dtype(dtype)),
            inputs=own.inputs if dtype is None else [cast_port(port, dtype) for port in own.inputs],
            ranges=own.ranges,
            where=model.where,
        )
        self._source = model
        self._tensor_float = None if precision is None else precision == TENSOR_FLOAT

    @property
    def effective_precision(self) -> str:
        """The dtype of the parameters; `tensorfloat32` where float32 may be multiplied in it."""
        stated = super().effective_precision
        return TENSOR_FLOAT if stated == "float32" and any(self._allowed()) else stated

    def cast(self, dtype: str) -> TorchCudaModel:
        """Another copy of the same model, in `dtype`."""
        return TorchCudaModel(self._source, precision=dtype)

    def _allowed(self) -> tuple[bool, bool]:
        """Whether products of matrices, and convolutions, may be made in TensorFloat-32."""
        import torch

        if self._tensor_float is not None:
            return self._tensor_float, self._tensor_float
        return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32

    def _forward(self, feeds: Feeds) -> Any:
        with _multiplying(*self._allowed()):
            return super()._forward(feeds)

    def _place(self, tensor: Any) -> Any:
        return tensor.to("cuda")


@contextlib.contextmanager
def _multiplying(matrices: bool, convolutions: bool) -> Iterator[None]:
    """TensorFloat-32 allowed or not; torch has one setting for the whole process."""
    import torch

    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matrices, convolutions
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def _eager() -> tuple[Any, ...]:
    from regraft.runtime.torch_factory import TorchFactoryRuntime
    from regraft.runtime.torch_transformers import TransformersRuntime

    return TorchFactoryRuntime(), TransformersRuntime()
