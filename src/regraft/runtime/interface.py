"""What a model and a runtime are: named arrays in, named arrays out, and the tensors in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

import msgspec

from regraft.package.formats import Port

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from regraft.package.package import Package
    from regraft.runtime.verified import VerifiedFiles

    Array: TypeAlias = NDArray[np.generic]
    Feeds: TypeAlias = Mapping[str, Array]
    Reduce: TypeAlias = Callable[[Array], "TapStatistics"]


class Signature(msgspec.Struct, frozen=True):
    """Named inputs and outputs with dtype and symbolic shape.

    Attributes:
        inputs: in the order of the model's own signature.
        outputs: empty where only a run can tell them.
        ranges: integer input → (lowest, highest) legal value, where the model says it (size of a vocabulary).
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...] = ()
    ranges: dict[str, tuple[int, int]] = {}


class TapStatistics(msgspec.Struct, frozen=True):
    """What `reduce` keeps of a tap: enough for floors and plots, at a cost that does not grow with the trace.

    All in the tap's own unit; computed in float64 over all elements.
    """

    shape: tuple[int, ...]
    dtype: str
    rms: float
    peak: float
    mean: float


class Tap(msgspec.Struct, frozen=True):
    """One intermediate tensor of a pass.

    Attributes:
        name: unique within the trace.
        operator: what computed it (`Linear`, `MatMul`, …).
        scope: module path or exporter metadata; empty where nobody knows.
        order: position in the order of execution.
        value: the tensor, None when `reduce` kept statistics only.
        kept: what `reduce` returned, None without `reduce`.
        inputs: tensors that the operator consumed, by their names in the trace; None where nobody knows.
    """

    name: str
    operator: str
    scope: str
    order: int
    value: Array | None = None
    kept: TapStatistics | None = None
    inputs: tuple[str, ...] | None = None


class Model(Protocol):
    """A package that a runtime has loaded. What a runtime cannot do raises `Unsupported`; nothing is emulated."""

    runtime: str
    """Short name of the runtime: `torch`, `onnxruntime`, `openvino`, `litert`, `jax`, `keras`, `numpy`, or `trace`."""
    where: str
    """How errors name the model."""
    allows_nan: bool
    """False: NaN in a feed is an error, because it is nearly always an accident. Set it to try NaN on purpose."""

    @property
    def signature(self) -> Signature:
        """Inputs and outputs."""

    @property
    def effective_precision(self) -> str:
        """What it really computes in: `float32`, `bfloat16`, `float64`, `int8`, …; not what was asked for."""

    def __call__(self, feeds: Feeds) -> dict[str, Array]:
        """One pass. Input name → array in the signature's dtype; output name → array.

        Raises:
            BadFeeds: an input is missing, unknown, or of the wrong dtype, rank or size, or holds NaN.
        """

    def trace(self, feeds: Feeds, *, taps: Sequence[str] | None = None, reduce: Reduce | None = None) -> Iterator[Tap]:
        """One pass that yields its intermediate tensors in order of execution, outputs included.

        Args:
            feeds: as for a call.
            taps: names to keep, those that no pass makes are left out; None for all.
            reduce: keep only this of each tensor, so that memory stays bounded.
        """

    def segment(self, inputs: Sequence[str], outputs: Sequence[str]) -> Model:
        """The part of the model between taps: its inputs and outputs are named by taps."""

    def cast(self, dtype: str) -> Model:
        """The same weights and graph, computed in `dtype` (`float64` for the exact run)."""

    def close(self) -> None:
        """Free what the runtime holds."""


class LoadOptions(msgspec.Struct, frozen=True):
    """What a user may ask of a runtime.

    Attributes:
        threads: intra-op threads; None for the runtime's default.
        precision: computation precision to demand; a runtime that cannot honour it raises `Unsupported`.
        factory: `module:factory`, the user's own code that builds the network for weights without an architecture.
        head: with the task head that the package declares; False for the backbone alone, whose output is features.
    """

    threads: int | None = None
    precision: str | None = None
    factory: str | None = None
    head: bool = True


class Runtime(Protocol):
    """A family member that executes models. One module a member, listed in `runtime/__init__.py`."""

    name: str
    """What a user calls it (`runtime="torch"`); members may share a name."""

    def can_load(self, package: Package, path: str, options: LoadOptions) -> bool:
        """Is the file at `path` one that this member executes under these options? From headers alone."""

    def load(self, files: VerifiedFiles, path: str, options: LoadOptions) -> Model:
        """Load one model file.

        Args:
            files: the package; it hands out bytes only where they are inert or a permit covers them.
            path: the weights or graph file.
            options: what the user asks for.
        Raises:
            Unsupported: it cannot be loaded, or not as asked; the message carries the library's own.
            Damaged: the bytes are not what the format wants.
            PermitRefused: the bytes may execute code and no permit covers them.
            MissingExtra: the library is not installed.
        """
