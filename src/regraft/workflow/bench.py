"""bench with the scan before it: what could execute code is scanned, then measured."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Unpack

from regraft.deployment.bench import BenchOptions
from regraft.deployment.bench import bench_each as measure_each
from regraft.package.package import Package
from regraft.package.reference import ModelRef
from regraft.record.evidence import Evidence
from regraft.record.permit import Permit
from regraft.runtime.permission import PermitSource
from regraft.workflow.engine.patience import make_as_deployed
from regraft.workflow.load import scanned_permit

if TYPE_CHECKING:
    from regraft.record.store import Store


def bench(
    refs: str | os.PathLike[str] | ModelRef | Sequence[str | os.PathLike[str] | ModelRef],
    *,
    store: Store | None = None,
    offline: bool = False,
    **options: Unpack[BenchOptions],
) -> Evidence:
    """Measure latency, throughput, CPU time, load, memory and size of one or several models.

    Args:
        refs, store, offline, options: as `regraft.deployment.bench.bench`, which says what they mean.
    Returns:
        evidence of kind `bench`; about several packages its first subject is the set of them.
    Raises:
        As there.
    """
    several = [refs] if isinstance(refs, str | os.PathLike | ModelRef) else refs
    return bench_each(several, store=store, offline=offline, **options)[0]


def bench_each(
    refs: Sequence[str | os.PathLike[str] | ModelRef],
    *,
    store: Store | None = None,
    offline: bool = False,
    **options: Unpack[BenchOptions],
) -> list[Evidence]:
    """As `bench`: the joint evidence, then, when there are several packages, one about each of them alone."""
    make_as_deployed(os.environ)
    return measure_each(refs, store=store, offline=offline, permit=permit_by_scan(store), **options)


def permit_by_scan(store: Store | None) -> PermitSource:
    """Leave to load a package that comes from scanning it now; the scan is kept in the store."""

    def permit(package: Package, _: str | None) -> Permit | None:
        return scanned_permit(package, store=store)

    return permit
