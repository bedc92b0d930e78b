"""verify with the scan before it: what could execute code is scanned, then loaded and compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from regraft.compare.int8 import MARGIN
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
    trust_code: bool = False,
    isolate: bool = False,
    time_limit_s: float | None = None,
    data: str | None = None,
    columns: dict[str, Any] | None = None,
    margin: float = MARGIN,
    seed: int = 0,
    **options: Any,
) -> Evidence:
    """Compare a candidate with its reference, in noise floors.

    Args:
        reference, candidate, store, offline, options: as `regraft.deployment.verify.verify`, which says what
            they mean.
        trust_code: the user vouches for code that the two packages bring; it runs in the sandbox, and nowhere else.
        isolate: compare in a process of its own, so that a runtime that crashes is evidence and no end; reference
            and candidate are references then.
        time_limit_s: with `isolate`, wall time after which that process is ended.
        data: labelled rows of the task, on which decisions are compared: what judges a candidate in eight bits. See
            `task_data`.
        columns: fields of `DataSpec` beside its reference: `text`, `label`, `where`, `labels`, `held_out`.
        margin: accuracy that the candidate may lose there, as a share, from 0 to below 1.
        seed: of made-up feeds, and of the split of the data.
    Returns:
        evidence of kind `verify`, outcome equivalent, diverges or undecided.
    Raises:
        As there.
    """
    if isolate:
        from regraft.workflow.isolation import verify_apart

        found: Any = (reference, candidate)
        options |= {"data": data, "columns": columns, "margin": margin, "seed": seed, "trust_code": trust_code}
        return verify_apart(*found, store=store, offline=offline, time_limit_s=time_limit_s, **options)
    if data is not None:
        from regraft.adaptation.data import DataSpec
        from regraft.workflow.task_data import task_data

        spec = DataSpec(ref=data, **(columns or {}))
        options["task"] = task_data(reference, spec, margin=margin, seed=seed, store=store, offline=offline)
    options |= {"store": store, "offline": offline, "permit": permit_by_scan(store), "seed": seed}
    if not trust_code:
        return compare(reference, candidate, **options)
    from regraft.workflow.trusted import opened_with_code

    common: dict[str, Any] = {"store": store, "offline": offline, "threads": options.get("threads")}
    first: dict[str, Any] = {"runtime": options.get("reference_runtime"), "factory": options.get("factory")}
    second: dict[str, Any] = {"runtime": options.get("runtime"), "factory": options.get("candidate_factory")}
    with opened_with_code(reference, **common, **first) as ours, opened_with_code(candidate, **common, **second) as its:
        return compare(ours, its, **options)
