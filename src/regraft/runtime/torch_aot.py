"""torch-aot: a network that AOTInductor compiled to a shared library: native code, which needs a permit."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.errors import Damaged, Unsupported
from regraft.package.formats import Port
from regraft.runtime.feeding import checked_feeds
from regraft.runtime.interface import Signature, Tap
from regraft.runtime.stated import read_signature
from regraft.runtime.torch_tensors import (
    array_from_tensor,
    import_torch,
    named_tensors,
    running_with,
    tensor_from_array,
)

if TYPE_CHECKING:
    from regraft.package.package import Package
    from regraft.runtime.interface import Array, Feeds, LoadOptions, Reduce
    from regraft.runtime.verified import VerifiedFiles

METADATA = "regraft.signature"
"""Key in the metadata of a package under which its ports and its precision stand, as JSON."""


class AotInductorRuntime:
    """Loads `.pt2` packages of AOTInductor."""

    name = "torch-aot"

    def can_load(self, package: Package, path: str, options: LoadOptions) -> bool:
        """An archive with a compiled network."""
        _, recognised = package.probe(path)
        return options.factory is None and recognised is not None and recognised.name == "aotinductor"

    def load(self, files: VerifiedFiles, path: str, options: LoadOptions) -> AotInductorModel:
        """Open the library."""
        import_torch(path)
        model = AotInductorModel(files.read(path), threads=options.threads, where=path)
        if options.precision not in (None, model.effective_precision):
            raise Unsupported(
                f"it was compiled for {model.effective_precision} and cannot be told {options.precision}", where=path
            )
        return model


class AotInductorModel:
    """A compiled network.

    Args:
        content: the package; it is unpacked into a temporary folder and its library opened.
        threads: intra-op threads during a pass; None for torch's own number.
        where: how errors name it.
    Raises:
        Damaged: torch cannot open it: it was compiled for another processor or another torch, for instance; or what it
            says of its own signature is none.
        Unsupported: nothing in it says what its inputs are called.
    """

    runtime = "torch-aot"

    def __init__(self, content: bytes, *, threads: int | None = None, where: str = "") -> None:
        import torch

        self.where = where
        self.allows_nan = False
        self._threads = threads
        inductor: Any = torch._inductor
        with tempfile.TemporaryDirectory(prefix="regraft-") as folder:
            path = Path(folder) / "model.pt2"
            path.write_bytes(content)
            try:
                self._network = inductor.aoti_load_package(str(path))
                metadata: Mapping[str, str] = self._network.get_metadata()
            except Exception as error:
                said = " ".join(str(error).split())[:300]
                raise Damaged(f"torch cannot open the compiled network: {said}", where=where) from error
        if METADATA not in metadata:
            raise Unsupported(
                "nothing in it says what its inputs are called",
                where=where,
                hint="compile it with regraft convert --to aotinductor",
            )
        self._signature, self._precision = read_signature(metadata[METADATA], where)

    @property
    def signature(self) -> Signature:
        """As its maker wrote it into the package."""
        return self._signature

    @property
    def effective_precision(self) -> str:
        """What it was compiled for."""
        return self._precision

    def __call__(self, feeds: Feeds) -> dict[str, Array]:
        """One pass."""
        checked = checked_feeds(self._signature, feeds, where=self.where, allows_nan=self.allows_nan)
        tensors = {
            port.name: tensor_from_array(checked[port.name], port.dtype).contiguous() for port in self._signature.inputs
        }
        with running_with(self._threads):
            try:
                result = self._network(**tensors)
            except Exception as error:
                raise Unsupported(
                    f"the compiled network stopped: {str(error).strip()[:300]}",
                    where=self.where,
                    hint="feeds: " + ", ".join(f"{name} {value.shape}" for name, value in feeds.items()),
                ) from error
        return {name: array_from_tensor(tensor) for name, tensor in named_tensors(result)}

    def trace(self, feeds: Feeds, *, taps: Sequence[str] | None = None, reduce: Reduce | None = None) -> Iterator[Tap]:
        """Not for compiled code.

        Raises:
            Unsupported: always.
        """
        raise self._no()

    def segment(self, inputs: Sequence[str], outputs: Sequence[str]) -> AotInductorModel:
        """Not for compiled code.

        Raises:
            Unsupported: always.
        """
        raise self._no()

    def cast(self, dtype: str) -> AotInductorModel:
        """Not for compiled code.

        Raises:
            Unsupported: always.
        """
        raise self._no()

    def close(self) -> None:
        """The library stays open until the process ends: torch has no way to close it."""

    def _no(self) -> Unsupported:
        return Unsupported(
            "compiled code has no operators to look at",
            where=self.where,
            hint="look at the exported program that it was compiled from",
        )


def stated_signature(inputs: Sequence[Port], precision: str) -> str:
    """What a package says of itself, as JSON."""
    ports = [[port.name, port.dtype, None if port.shape is None else list(port.shape)] for port in inputs]
    return json.dumps({"inputs": ports, "precision": precision})
