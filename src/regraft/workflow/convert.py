"""convert with the scan before it: what could execute code is scanned, then loaded and converted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.deployment.convert import Conversion
from regraft.deployment.convert import convert as make
from regraft.workflow.bench import permit_by_scan

if TYPE_CHECKING:
    from regraft.deployment.loading import AnyModel
    from regraft.record.store import Store


def convert(
    ref: AnyModel, *, to: str, out: Path, store: Store | None = None, offline: bool = False, **options: Any
) -> Conversion:
    """Convert a package for another runtime, and verify the result against the source.

    Args:
        ref, to, out, store, offline, options: as `regraft.deployment.convert.convert`, which says what they mean.
    Returns:
        the path of the new package, and its evidence.
    Raises:
        As there.
    """
    permit = permit_by_scan(store)
    return make(ref, to=to, out=out, store=store, offline=offline, permit=permit, **options)
