"""Floors of a reference that can be found again: by the digests of its files, not by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regraft.record.cache import open_cache
from regraft.record.digest import digest_bytes
from regraft.record.evidence import DigestKind

if TYPE_CHECKING:
    from regraft.compare.kept import FloorCache
    from regraft.deployment.loading import Opened


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
