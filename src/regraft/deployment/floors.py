"""Where what is measured of a reference goes: to the disk, by the digests of its files; out of memory, if bounded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from regraft.errors import UsageError
from regraft.record.cache import open_cache
from regraft.record.digest import digest_bytes
from regraft.record.evidence import DigestKind

if TYPE_CHECKING:
    from regraft.compare.kept import FloorCache
    from regraft.deployment.loading import Opened
    from regraft.runtime.spill import Spill


def kept_floors(reference: Opened, *, threads: int | None, has_own_code: bool = False) -> FloorCache | None:
    """Where the floors of a reference are kept; None where its digests do not say all that it computes.

    Code of the user's own, and models that are loaded already, may change without a digest that does.

    Args:
        reference: opened and loaded.
        threads: of each pass, on which the order of sums depends.
        has_own_code: the user's code builds the network.
    """
    subjects, model = reference.subjects, reference.model
    has_own_code = has_own_code or reference.package is None
    if model is None or has_own_code or any(one.digest is not DigestKind.COMPUTED for one in subjects):
        return None
    cache = open_cache("floors")
    if cache is None:
        return None
    from regraft.compare.kept import FloorCache

    settings = {"path": reference.path, "model": type(model).__name__, "threads": str(threads)}
    settings["precision"] = model.effective_precision
    return FloorCache(cache, digest_bytes("\n".join(sorted(one.sha256 for one in subjects)).encode()), settings)


def spill_within(memory_mb: int | None, *models: Opened) -> Spill | None:
    """A file for traces that keeps this process within a bound, as do the weights of models that lie in files.

    Args:
        memory_mb: MiB; None for no bound.
        models: that are compared.
    Raises:
        UsageError: a bound that is no size.
    """
    if memory_mb is None:
        return None
    if memory_mb < 1:
        raise UsageError("a bound on memory is a number of MiB, from 1 upwards", where=f"memory_mb={memory_mb}")
    from regraft.runtime.spill import Spill

    spill = Spill(limit_bytes=memory_mb << 20)
    for one in models:
        own: Any = getattr(getattr(one.model, "weights", None), "spill", None)
        if own is not None:
            own.kept_bytes, own.limit_bytes = spill.kept_bytes, spill.limit_bytes
    return spill
