"""Leave to load a package, from the scan evidence that a store holds about exactly its bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from regraft.errors import PermitRefused
from regraft.package.package import Package
from regraft.record.digest import Digest
from regraft.record.passport import read_passport
from regraft.record.permit import Permit, permit_from_scan
from regraft.record.store import Store

PermitSource: TypeAlias = Callable[[Package, str | None], Permit | None]
"""How leave to load a package in a runtime is come by. One that gives leave to run code of the package has an attribute
`code_loader`, the function that loads under it, as `module:function`."""


def code_loader_of(source: PermitSource | None) -> str:
    """What loads under leave to run code; empty where nobody vouches for any."""
    return str(getattr(source, "code_loader", ""))


def leave_to_load(
    package: Package, path: str, *, source: PermitSource | None, store: Store | None, runtime: str | None = None
) -> Permit | None:
    """Leave to load a file of a package; None where its format can only hold data and nobody vouches for code.

    Args:
        package: open package.
        path: of the model.
        source: None takes it from the newest scan of these bytes in the store.
        store: where scans are looked up.
        runtime: that will load it.
    Raises:
        PermitRefused: there is none.
    """
    from regraft.runtime import needs_permit

    if not needs_permit(package, path) and not code_loader_of(source):
        return None
    if source is not None:
        return source(package, runtime)
    return stored_permit(package, package.manifest().digest, store)


def stored_permit(package: Package, digest: Digest, store: Store | None) -> Permit:
    """Leave from the newest scan in the store.

    Args:
        package: what is to be loaded.
        digest: its package digest, computed from the bytes.
        store: None knows of no scan.
    Raises:
        PermitRefused: there is none, or it does not allow it.
    """
    records = read_passport(store, digest).records if store is not None else ()
    scan = next((record for record in records if record.evidence.kind == "scan"), None)
    if scan is None:
        raise PermitRefused(
            "loading it can execute code, and no scan of these bytes is known",
            where=str(package.ref),
            hint=f"regraft scan {package.ref}",
        )
    return permit_from_scan(scan, digest)
