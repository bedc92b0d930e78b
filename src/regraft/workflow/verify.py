"""verify with the scan before it: what could execute code is scanned, then loaded and compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from regraft.deployment.verify import verify as compare
from regraft.workflow.bench import permit_by_scan

if TYPE_CHECKING:
    from regraft.deployment.loading import AnyModel
    from regraft.record.evidence import Evidence
    from regraft.record.store import Store


def verify(
    reference: AnyModel,
    candidate: AnyModel,
    *,
    store: Store | None = None,
    offline: bool = False,
    **options: Any,
) -> Evidence:
    """Compare a candidate with its reference, in noise floors.

    Args:
        reference, candidate, store, offline, options: as `regraft.deployment.verify.verify`, which says what
            they mean.
    Returns:
        evidence of kind `verify`, outcome equivalent, diverges or undecided.
    Raises:
        As there.
    """
    permit = permit_by_scan(store, offline)
    return compare(reference, candidate, store=store, offline=offline, permit=permit, **options)
