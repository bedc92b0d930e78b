"""tvm: a network that Apache TVM compiled to native code, in a process of its own; it needs a permit."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.errors import BadFeeds, Damaged, MissingExtra, Unsupported
from regraft.package.formats.tvm import read_stated, stated_in
from regraft.package.reader import BytesReader
from regraft.runtime.interface import Signature
from regraft.runtime.isolated import IsolatedModel
from regraft.runtime.isolated_worker import Recipe
from regraft.runtime.launch import is_confined
from regraft.runtime.opaque_model import OpaqueModel, as_asked, said
from regraft.runtime.processor import why_not_here
from regraft.runtime.stated import read_signature

if TYPE_CHECKING:
    from regraft.package.package import Package
    from regraft.runtime.interface import Array, LoadOptions, Model
    from regraft.runtime.verified import VerifiedFiles

_FUNCTION = "main"
_CPU, _POOLED = 1, 2
"""Of DLPack's device types, and of the allocators of TVM's virtual machine."""
_LIBRARIES = ("libtvm_runtime.so", "libtvm_runtime_extra.so")
"""The virtual machine, and what compiled code calls by name, as to sort."""
_ALIGNMENT = 64
"""Bytes; tvm::runtime::kAllocAlignment."""


class TvmRuntime:
    """Loads libraries of TVM, `.so`."""

    name = "tvm"

    def can_load(self, package: Package, path: str, options: LoadOptions) -> bool:
        """An ELF file with TVM's symbols."""
        _, recognised = package.probe(path)
        return options.factory is None and recognised is not None and recognised.name == "tvm"

    def load(self, files: VerifiedFiles, path: str, options: LoadOptions) -> Model:
        """Hand the permitted bytes to a process of its own."""
        return as_asked(isolated_tvm(files.read(path), threads=options.threads, where=path), options.precision)


def isolated_tvm(content: bytes, *, threads: int | None = None, where: str = "") -> Model:
    """A compiled library as a model in a process of its own; in the sandbox, which is one, in this.

    Args:
        content: the library; its native code will run.
        threads: None for as many as TVM takes.
        where: how errors name it.
    Raises:
        As `TvmModel`; Crashed: the process died.
    """
    stated_by(content, where)  # before a process is started for what cannot run
    if is_confined():  # it may start no other process
        return model_of(content, threads=threads, where=where)
    arguments = {"threads": threads, "where": where}
    return IsolatedModel(Recipe("regraft.runtime.tvm_model:model_of", content, arguments), where=where)


def stated_by(content: bytes, where: str) -> tuple[Signature, str]:
    """What a library says of its ports and its precision, read from its bytes, once its target is this processor.

    Raises:
        Unsupported: it says nothing, or was compiled for another processor, which would stop at an instruction.
        Damaged: what it says cannot be read.
    """
    text = stated_in(BytesReader(content, where=where))
    if not text:
        raise Unsupported(
            "nothing in it says what its inputs are called, nor for which processor it is",
            where=where,
            hint="compile it with regraft convert --to tvm",
        )
    target = read_stated(text, where).target
    if why := why_not_here(target.triple, target.features):
        raise Unsupported(
            f"it was compiled for {target.cpu} ({target.triple}), and {why}",
            where=where,
            hint="convert its source on this machine: regraft convert SOURCE --to tvm",
        )
    return read_signature(text, where)


def model_of(content: bytes, *, threads: int | None = None, where: str = "") -> TvmModel:
    """Build the model in its own process, where nothing of torch is needed: TVM's bindings import it where they can."""
    absent: Any = None  # an import that fails; it would take 2 s and 200 MB
    sys.modules.setdefault("torch", absent)
    if threads is not None:
        os.environ["TVM_NUM_THREADS"] = str(threads)
    return TvmModel(content, where=where)


class TvmModel(OpaqueModel):
    """A compiled network on the CPU, in this very process, by TVM's runtime alone: 5 MB beside a compiler of 260.

    Args:
        content: the library.
        where: how errors name it.
    Raises:
        MissingExtra: TVM is not installed.
        Damaged: TVM cannot open it: it was compiled by another version, for instance; or what it says of its own
            signature is none.
        Unsupported: it is for another processor, or nothing in it says what its inputs are called.
    """

    runtime = "tvm"
    made_from = "the network that it was compiled from"

    def __init__(self, content: bytes, *, where: str = "") -> None:
        super().__init__(*stated_by(content, where), where=where)
        ffi = _bindings(where)
        self._tensor = ffi.from_dlpack
        with tempfile.TemporaryDirectory(prefix="regraft-") as folder:
            path = Path(folder) / "model.so"
            path.write_bytes(content)
            try:
                machine = ffi.load_module(str(path))["vm_load_executable"]()
                machine["vm_initialization"](_CPU, 0, _POOLED)
                self._function: Any = machine[_FUNCTION]
            except Exception as error:
                raise Damaged(f"TVM cannot open the library: {said(error)}", where=where) from error

    def _run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        import numpy as np

        if self._function is None:
            raise Unsupported("the model is closed", where=self.where)
        _require_legal(self.signature, feeds, self.where)
        try:
            found = self._function(*(self._tensor(_aligned(value)) for value in feeds.values()))
            values = [np.from_dlpack(one).copy() for one in ([found] if hasattr(found, "shape") else found)]
        except Exception as error:
            raise self._stopped("TVM", error, feeds) from error
        return self._named(values)

    def close(self) -> None:
        """Let go of the library."""
        self._function = None


def _bindings(where: str) -> Any:
    """TVM's bindings, with the libraries that execute its bytecode."""
    package = importlib.util.find_spec("tvm")
    if package is None or not package.submodule_search_locations:
        raise MissingExtra("apache-tvm", extra="tvm", where=where)
    import tvm_ffi

    folder = Path(package.submodule_search_locations[0]) / "lib"
    try:
        for library in _LIBRARIES:
            ctypes.CDLL(str(folder / library), ctypes.RTLD_GLOBAL)
    except OSError as error:
        raise Unsupported(f"TVM's runtime cannot be opened: {said(error)}", where=where) from error
    return tvm_ffi


def _require_legal(signature: Signature, feeds: Mapping[str, Array], where: str) -> None:
    """Refuse an index outside of its table: TVM's code does not look, and would read memory that is not the network's.

    Raises:
        BadFeeds: names the input and its range.
    """
    for name, (lowest, highest) in signature.ranges.items():
        value = feeds.get(name)
        if value is not None and value.size and not (lowest <= value.min() and value.max() <= highest):
            raise BadFeeds(f"input {name!r} holds values outside of {lowest} … {highest}", where=where)


def _aligned(value: Array) -> Array:
    """A copy at an address that vector instructions take: TVM compiles for such, NumPy promises 16 bytes."""
    import numpy as np

    memory = np.empty(value.nbytes + _ALIGNMENT, "uint8")
    start = -memory.ctypes.data % _ALIGNMENT
    copy = memory[start : start + value.nbytes].view(value.dtype).reshape(value.shape)
    copy[...] = value
    return copy
