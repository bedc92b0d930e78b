"""bundle with the scan and the inspection before it: what is handed over carries at least these."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.deployment.bundle import bundle as make
from regraft.package.package import Package, open_package
from regraft.package.product import require_free
from regraft.package.reference import ModelRef
from regraft.package.sources.interface import SourceOptions
from regraft.record.evidence import Evidence
from regraft.record.passport import read_passport
from regraft.record.store import open_store
from regraft.trust.scan import scan
from regraft.workflow.bench import permit_by_scan
from regraft.workflow.inspect import inspect

if TYPE_CHECKING:
    from regraft.record.store import Store


def bundle(
    ref: str | os.PathLike[str] | ModelRef | Package,
    *,
    layout: str,
    out: Path,
    store: Store | None = None,
    offline: bool = False,
    **options: Any,
) -> Evidence:
    """Hand a package over: in the layout of a model server, a tracking server, a registry, or as a plain folder.

    What the store does not know yet is found out first: is it safe, and what is it.

    Args:
        ref, layout, out, store, offline, options: as `regraft.deployment.bundle.bundle`, which says what they mean;
            the store is the user's own when none is given.
    Returns:
        evidence of kind `bundle`; its first subject is the bundle.
    Raises:
        As there.
    """
    require_free(Path(out))
    kept = store or open_store()
    package = open_package(ref, options=SourceOptions(offline=offline, store=kept))
    try:
        known = {record.evidence.kind for record in read_passport(kept, package.manifest().digest).records}
        if "scan" not in known:
            kept.put_evidence(scan(package, store=kept))
        if "inspect" not in known:
            kept.put_evidence(inspect(package, store=kept, compute_digest=True).evidence)
        permit = permit_by_scan(kept)
        return make(package, layout=layout, out=Path(out), store=kept, offline=offline, permit=permit, **options)
    finally:
        if package is not ref:
            package.close()
