"""torch-aot: a network that AOTInductor compiled to a shared library: native code, which needs a permit."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.errors import Damaged, Unsupported
from regraft.runtime.opaque_model import OpaqueModel, as_asked, said
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
    from regraft.runtime.interface import Array, LoadOptions, Model
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

    def load(self, files: VerifiedFiles, path: str, options: LoadOptions) -> Model:
        """Open the library."""
        import_torch(path)
        return as_asked(AotInductorModel(files.read(path), threads=options.threads, where=path), options.precision)


class AotInductorModel(OpaqueModel):
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
    made_from = "the exported program that it was compiled from"

    def __init__(self, content: bytes, *, threads: int | None = None, where: str = "") -> None:
        import torch

        self._threads = threads
        inductor: Any = torch._inductor
        with tempfile.TemporaryDirectory(prefix="regraft-") as folder:
            path = Path(folder) / "model.pt2"
            path.write_bytes(content)
            try:
                self._network = inductor.aoti_load_package(str(path))
                metadata: Mapping[str, str] = self._network.get_metadata()
            except Exception as error:
                raise Damaged(f"torch cannot open the compiled network: {said(error)}", where=where) from error
        if METADATA not in metadata:
            raise Unsupported(
                "nothing in it says what its inputs are called",
                where=where,
                hint="compile it with regraft convert --to aotinductor",
            )
        super().__init__(*read_signature(metadata[METADATA], where), where=where)

    def _run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """What it returns has the program's names, which are not stated beside the inputs."""
        tensors = {
            port.name: tensor_from_array(feeds[port.name], port.dtype).contiguous() for port in self._signature.inputs
        }
        with running_with(self._threads):
            try:
                result = self._network(**tensors)
            except Exception as error:
                raise self._stopped("the compiled network", error, feeds) from error
        return {name: array_from_tensor(tensor) for name, tensor in named_tensors(result)}

    def close(self) -> None:
        """The library stays open until the process ends: torch has no way to close it."""
