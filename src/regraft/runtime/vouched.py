"""Loading in a process that measures or computes features, where the package's own code may have to run."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from regraft.record.permit import Permit, Scope

if TYPE_CHECKING:
    from regraft.package.package import Package
    from regraft.runtime.interface import Model
    from regraft.runtime.text import TextEncoder


def runs_code(permit: Permit | None) -> bool:
    """Does loading under this permit run code of the package, which the user vouches for?"""
    return permit is not None and permit.scope is Scope.CODE


def load_vouched(package: Package, permit: Permit | None, *, code_loader: str, path: str, **options: Any) -> Model:
    """As `runtime.load`; under leave to run code by the function that is named for it.

    Args:
        package, permit, path, options: as there.
        code_loader: `module:function`, which loads in the sandbox; the sandbox is no part of this room.
    Raises:
        As `runtime.load`, and what that function raises.
    """
    from regraft.runtime import load

    if not code_loader or not runs_code(permit):
        return load(package, permit, path=path, **options)
    module, _, name = code_loader.partition(":")
    model: Model = getattr(importlib.import_module(module), name)(package, permit, path=path, **options)
    return model


def load_text_vouched(
    package: Package, permit: Permit | None, *, code_loader: str, path: str, head: bool = False, **options: Any
) -> TextEncoder:
    """As `runtime.text.load_text_encoder`; the network likewise.

    Raises:
        As `load_vouched`, and as `runtime.text.encoder_around`.
    """
    from regraft.runtime.text import encoder_around, load_text_encoder
    from regraft.runtime.verified import VerifiedFiles

    if not code_loader or not runs_code(permit):
        return load_text_encoder(package, permit, path=path, head=head, **options)
    model = load_vouched(package, permit, code_loader=code_loader, path=path, head=head, **options)
    try:
        return encoder_around(model, VerifiedFiles(package, permit), path)
    except BaseException:
        model.close()
        raise
