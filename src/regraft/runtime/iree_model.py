"""iree: a network that IREE compiled to native code, in a process of its own; it needs a permit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from regraft.errors import Damaged, MissingExtra, Unsupported
from regraft.runtime.isolated import IsolatedModel
from regraft.runtime.isolated_worker import Recipe
from regraft.runtime.launch import is_confined
from regraft.runtime.opaque_model import OpaqueModel, as_asked, said
from regraft.runtime.stated import read_signature

if TYPE_CHECKING:
    from regraft.package.package import Package
    from regraft.runtime.interface import Array, LoadOptions, Model
    from regraft.runtime.verified import VerifiedFiles

REFLECTION = "regraft.signature"
"""Attribute of the compiled function under which its ports and its precision stand, as JSON."""


class IreeRuntime:
    """Loads modules of IREE, `.vmfb`."""

    name = "iree"

    def can_load(self, package: Package, path: str, options: LoadOptions) -> bool:
        """A zip that begins with IREE's bytecode."""
        _, recognised = package.probe(path)
        return options.factory is None and recognised is not None and recognised.name == "iree"

    def load(self, files: VerifiedFiles, path: str, options: LoadOptions) -> Model:
        """Hand the permitted bytes to a process of its own."""
        return as_asked(isolated_iree(files.read(path), threads=options.threads, where=path), options.precision)


def isolated_iree(content: bytes, *, threads: int | None = None, where: str = "") -> Model:
    """A compiled module as a model in a process of its own; in the sandbox, which is one, in this.

    Args:
        content: the `.vmfb`; its native code will run.
        threads: 1, or None for as many as IREE takes.
        where: how errors name it.
    Raises:
        As `IreeModel`; Crashed: the process died.
    """
    if is_confined():  # it may start no other process
        return IreeModel(content, threads=threads, where=where)
    arguments = {"threads": threads, "where": where}
    return IsolatedModel(Recipe("regraft.runtime.iree_model:IreeModel", content, arguments), where=where)


class IreeModel(OpaqueModel):
    """A compiled network on the CPU, in this very process.

    Args:
        content: the module.
        threads: 1 runs it inline, None on the threads that IREE chooses.
        where: how errors name it.
    Raises:
        MissingExtra: IREE's runtime is not installed.
        Damaged: IREE cannot open it: it was compiled for another processor or another IREE, for instance; or what it
            says of its own signature is none.
        Unsupported: another number of threads, or nothing in it says what its inputs are called.
    """

    runtime = "iree"
    made_from = "the ONNX graph that it was compiled from"

    def __init__(self, content: bytes, *, threads: int | None = None, where: str = "") -> None:
        try:
            import iree.runtime as iree
        except ImportError as error:
            raise MissingExtra("iree-base-runtime", extra="iree", where=where) from error
        if threads not in (None, 1):
            raise Unsupported("IREE computes on one thread or on all", where=where, hint="--threads 1")
        try:
            context = iree.SystemContext(config=iree.Config("local-sync" if threads == 1 else "local-task"))
            module = iree.VmModule.copy_buffer(context.instance, content)
            context.add_vm_module(module)
        except (RuntimeError, ValueError) as error:
            raise Damaged(f"IREE cannot open the module: {said(error)}", where=where) from error
        found = {name: module.lookup_function(name).reflection.get(REFLECTION) for name in module.function_names}
        named = [(name, stated) for name, stated in found.items() if stated and not name.endswith("$async")]
        if not named:
            raise Unsupported(
                "nothing in it says what its inputs are called",
                where=where,
                hint="compile it with regraft convert --to iree",
            )
        super().__init__(*read_signature(named[0][1], where), where=where)
        self._function: Any = context.modules[module.name][named[0][0]]

    def _run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        import numpy as np

        if self._function is None:
            raise Unsupported("the model is closed", where=self.where)
        try:
            found = self._function(*(np.ascontiguousarray(value) for value in feeds.values()))
            values = [np.asarray(one) for one in (found if isinstance(found, tuple) else (found,))]
        except (RuntimeError, ValueError) as error:
            raise self._stopped("IREE", error, feeds) from error
        return self._named(values)

    def close(self) -> None:
        """Let go of the module."""
        self._function = None
