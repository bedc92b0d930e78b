"""A package whose code the user vouches for, opened for a verb: its model lives in the sandbox."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from regraft.deployment.loading import Opened
from regraft.package.package import Package, open_package
from regraft.package.reference import ModelRef, parse_reference
from regraft.package.sources.interface import SourceOptions
from regraft.record.permit import Scope
from regraft.workflow.load import permitted

if TYPE_CHECKING:
    from regraft.deployment.loading import AnyModel
    from regraft.record.store import Store


@contextlib.contextmanager
def opened_with_code(
    model: AnyModel,
    *,
    runtime: str | None = None,
    threads: int | None = None,
    precision: str | None = None,
    factory: str | None = None,
    store: Store | None = None,
    offline: bool = False,
) -> Iterator[AnyModel]:
    """Scan, and load in the sandbox what needs code of its package; everything else is yielded as it is.

    Args:
        model: a reference or open package; what is loaded already, the user's own code (`py:`), and weights with a
            factory are not looked at.
        runtime, threads, precision, store, offline: as `load`.
    Raises:
        As `load`, with `trust_code`.
    """
    ref = _reference(model)
    if ref is None or factory is not None:
        yield model
        return
    from regraft.workflow.sandboxed import load_sandboxed

    with (
        open_package(ref, options=SourceOptions(offline=offline, store=store)) as package,
        permitted(package, runtime=runtime, trust_code=True, store=store, offline=offline) as allowed,
    ):
        if allowed.permit is None or allowed.permit.scope is not Scope.CODE:
            yield model
            return
        subjects = tuple(package.subjects(package.manifest()))
        loaded = load_sandboxed(
            package, allowed.permit, path=allowed.path, runtime=runtime, threads=threads, precision=precision
        )
        try:
            yield Opened(subjects, loaded, package=package, path=allowed.path, permit=allowed.permit)
        finally:
            loaded.close()


def _reference(model: AnyModel) -> ModelRef | Package | None:
    if isinstance(model, Package):
        return model
    if not isinstance(model, str | os.PathLike | ModelRef):
        return None
    ref = model if isinstance(model, ModelRef) else parse_reference(model)
    return None if ref.scheme in ("py", "trace") else ref
