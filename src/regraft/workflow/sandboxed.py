"""A model whose loading runs code of its package: in the sandbox, from verified copies of its files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from regraft.errors import Damaged
from regraft.runtime.isolated import IsolatedModel
from regraft.runtime.isolated_worker import Recipe
from regraft.runtime.verified import VerifiedFiles
from regraft.trust.sandbox import Sandbox

if TYPE_CHECKING:
    from regraft.package.package import Package
    from regraft.record.permit import Permit
    from regraft.runtime.pooling import Pooling
    from regraft.runtime.text import TextEncoder

_LOAD = "regraft.runtime.isolated_worker:load_from_package"


def load_sandboxed(package: Package, permit: Permit, *, path: str, **options: Any) -> IsolatedModel:
    """Load a model in a process that sees libraries and a copy of the package, and nothing else.

    Args:
        package: open package.
        permit: leave to run its code.
        path: the file of the model.
        options: as `regraft.runtime.load`: runtime, threads, precision, head.
    Returns:
        the model; its arrays travel as numbers, never as pickles. `close` it when done.
    Raises:
        PermitRefused: this machine cannot confine a process, or the permit is for other bytes.
        DigestMismatch: a file changed since the scan.
        Crashed: it died while it was loaded; often because the sandbox denied what its code wanted.
        Unsupported, Damaged, MissingExtra: as `regraft.runtime.load`.
    """
    sandbox = Sandbox()
    try:
        _copy(VerifiedFiles(package, permit), sandbox)
        inside = f"#{package.ref.inside}" if package.ref.inside else ""
        arguments = {
            "ref": f"{sandbox.package}{inside}", "permit": msgspec.to_builtins(permit), "store": None, "offline": True,
            "path": path, **options,
        }  # fmt: skip
        return IsolatedModel(Recipe(_LOAD, arguments=arguments), where=str(package.ref), launch=sandbox)
    except BaseException:
        sandbox.close()
        raise


def load_text_sandboxed(
    package: Package, permit: Permit, *, path: str, pooling: Pooling | None = None, **options: Any
) -> TextEncoder:
    """As `load_sandboxed`, with tokenizer and pooling around it: those are data, and stay in this process.

    Raises:
        As there.
    """
    from regraft.runtime.text import encoder_around

    model = load_sandboxed(package, permit, path=path, head=False, **options)
    try:
        return encoder_around(model, VerifiedFiles(package, permit), path, pooling=pooling)
    except BaseException:
        model.close()
        raise


def _copy(files: VerifiedFiles, sandbox: Sandbox) -> None:
    for name in files.paths():
        place = sandbox.package / name
        if not place.resolve().is_relative_to(sandbox.package):
            raise Damaged("leads out of the package", where=name)
        place.parent.mkdir(parents=True, exist_ok=True)
        files.copy(name, place)
