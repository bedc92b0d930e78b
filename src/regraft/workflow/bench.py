"""bench with the scan before it: what could execute code is scanned, then measured."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Unpack

import msgspec

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

_IN_SANDBOX = "regraft.workflow.sandboxed:load_sandboxed"


def bench(
    refs: str | os.PathLike[str] | ModelRef | Sequence[str | os.PathLike[str] | ModelRef],
    *,
    store: Store | None = None,
    offline: bool = False,
    trust_code: bool = False,
    **options: Unpack[BenchOptions],
) -> Evidence:
    """Measure latency, throughput, CPU time, load, memory and size of one or several models.

    Args:
        refs, store, offline, options: as `regraft.deployment.bench.bench`, which says what they mean.
        trust_code: the user vouches for code that the packages bring; it runs in the sandbox, and passes are timed from
            outside of it.
    Returns:
        evidence of kind `bench`; about several packages its first subject is the set of them.
    Raises:
        As there.
    """
    several = [refs] if isinstance(refs, str | os.PathLike | ModelRef) else refs
    return bench_each(several, store=store, offline=offline, trust_code=trust_code, **options)[0]


def bench_each(
    refs: Sequence[str | os.PathLike[str] | ModelRef],
    *,
    store: Store | None = None,
    offline: bool = False,
    trust_code: bool = False,
    **options: Unpack[BenchOptions],
) -> list[Evidence]:
    """As `bench`: the joint evidence, then, when there are several packages, one about each of them alone."""
    make_as_deployed(os.environ)
    permit = permit_by_scan(store, trust_code=trust_code)
    return measure_each(refs, store=store, offline=offline, permit=permit, **options)


class ScannedLeave(msgspec.Struct, frozen=True):
    """Leave to load a package that comes from scanning it now; the scan is kept in the store.

    Attributes:
        store: None keeps no scan.
        trust_code: the user vouches for code of the package.
        code_loader: what loads under leave to run it; empty without.
    """

    store: Any
    trust_code: bool = False
    code_loader: str = ""

    def __call__(self, package: Package, _: str | None) -> Permit | None:
        """Scan. Raises: PermitRefused."""
        return scanned_permit(package, store=self.store, trust_code=self.trust_code)


def permit_by_scan(store: Store | None, *, trust_code: bool = False) -> PermitSource:
    """Leave by scanning; with `trust_code` also to run code, in the sandbox."""
    return ScannedLeave(store, trust_code, _IN_SANDBOX if trust_code else "")
