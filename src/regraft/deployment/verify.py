"""verify: is the candidate still the same network as the reference, or is the difference more than rounding?"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from regraft.compare.measure import Tolerance
from regraft.compare.noise import UNIT_ROUNDOFF
from regraft.compare.recall import recalling
from regraft.deployment.comparison import Comparison
from regraft.deployment.floors import spill_within
from regraft.deployment.loading import AnyModel, LoadRequest, opened
from regraft.deployment.task import TaskData
from regraft.deployment.texts import both_from_texts
from regraft.deployment.verify_evidence import impossible
from regraft.errors import LimitExceeded, Unsupported, UsageError
from regraft.record.evidence import Draft, Evidence

if TYPE_CHECKING:
    from regraft.deployment.bench.subject import PermitSource
    from regraft.record.store import Store
    from regraft.runtime.interface import Feeds


def verify(
    reference: AnyModel,
    candidate: AnyModel,
    *,
    feeds: Feeds | Sequence[Feeds] | Sequence[str] | Path | None = None,
    task: TaskData | None = None,
    store: Store | None = None,
    seed: int = 0,
    atol: float | None = None,
    rtol: float | None = None,
    precision: str | None = None,
    runtime: str | None = None,
    reference_runtime: str | None = None,
    factory: str | None = None,
    candidate_factory: str | None = None,
    threads: int | None = None,
    localise: bool = True,
    layers: bool = True,
    reduce: Path | None = None,
    coverage: bool = False,
    memory_mb: int | None = None,
    offline: bool = False,
    permit: PermitSource | None = None,
) -> Evidence:
    """Compare a candidate (converted, compiled, re-implemented) with its reference, in noise floors.

    Both run on the same feeds, in several sizes and kinds of values. Each output's error is taken against the
    reference in float64 and divided by the error that the reference's own float32 run has; the verdict follows
    from thresholds that were measured on benign conversions.

    Args:
        reference: what counts as right: a reference, an open package, or a loaded model.
        candidate: what is in question; likewise.
        feeds: the user's own inputs, tried before made-up ones: arrays by name, a list of such, texts for a
            text package, or a file of arrays.
        task: labelled rows, on which decisions are compared; they judge a candidate that has no noise floor. Without
            feeds, some of them are fed, too.
        store: where packages and scans are looked up.
        seed: of made-up feeds and of jitter.
        atol, rtol: fixed limits that decide in place of noise floors; either may be left out and is 0 then.
        precision: what the candidate is meant to compute in; None means as the reference, and anything lower
            is a finding. Runtimes that can be told are told.
        runtime: of the candidate; None for the first that can load it.
        reference_runtime: of the reference.
        factory: `module:factory` that builds the reference's network for weights without an architecture.
        candidate_factory: the same for the candidate.
        threads: intra-op threads of both.
        localise: also say where in the network a divergence arises, why, and how far each layer is off.
        layers: the last of these also where no operator differs.
        reduce: folder to write the smallest part and input that still diverge to, where the outputs do; it must not
            exist, or be empty.
        coverage: also plant faults and count which of them these feeds would have shown, where the two are the same.
        memory_mb: MiB that this process may hold: traces are put to a temporary file, and what does not fit all the
            same is not looked at, which makes the evidence inconclusive and says what would do. None for no bound.
        offline: no network.
        permit: leave for packages whose loading can execute code; None takes their newest scan in the store.
    Returns:
        evidence of kind `verify`, outcome equivalent, diverges or undecided.
    Raises:
        UsageError: tolerances below zero, or feeds that make no sense.
        NotFound and what opening a package raises. What cannot be loaded or run is inconclusive evidence.
    """
    tolerance = _tolerance(atol, rtol)
    if reduce is not None:
        _check_empty(reduce)
    if precision is not None and precision not in UNIT_ROUNDOFF and precision != "int8":
        raise UsageError(f"{precision!r} is no precision", hint=f"there are: {', '.join(UNIT_ROUNDOFF)}, int8")
    common = LoadRequest(threads=threads, store=store, offline=offline, permit=permit)
    first = msgspec.structs.replace(common, runtime=reference_runtime, factory=factory)
    second = msgspec.structs.replace(
        common, runtime=runtime, factory=candidate_factory, precision=None if precision == "int8" else precision
    )
    draft = Draft(
        "verify",
        parameters={
            "seed": seed, "atol": atol, "rtol": rtol, "precision": precision, "runtime": runtime,
            "reference_runtime": reference_runtime, "factory": factory, "candidate_factory": candidate_factory,
        },
    )  # fmt: skip
    with recalling(), opened(reference, first) as ours, opened(candidate, second) as theirs:
        draft.subject += theirs.subjects
        draft.materials += (*ours.subjects, *(task.materials if task is not None else ()))
        comparison = Comparison(draft, tolerance, precision, seed, spill_within(memory_mb, ours, theirs), task)
        given = task.sample() if feeds is None and task is not None else feeds
        try:
            pair = both_from_texts(ours, theirs)
            comparison.run(*pair, given, localise=localise, layers=layers, coverage=coverage, threads=threads)
        except (Unsupported, MemoryError, LimitExceeded) as error:
            draft.find(impossible(error, ""))
        if reduce is not None:
            comparison.reduce(reduce)
        return comparison.finish()


def _check_empty(folder: Path) -> None:
    """A folder for a small case is not there yet, or empty: better known before minutes of comparing."""
    is_free = folder.is_dir() and not any(folder.iterdir()) if folder.exists() else folder.parent.is_dir()
    if not is_free or not os.access(folder if folder.exists() else folder.parent, os.W_OK):
        raise UsageError(
            "the smallest case goes to a folder that is empty or new, in one that can be written",
            where=str(folder),
            hint="--reduce DIR",
        )


def _tolerance(atol: float | None, rtol: float | None) -> Tolerance | None:
    if atol is None and rtol is None:
        return None
    tolerance = Tolerance(atol or 0.0, rtol or 0.0)
    if not all(0 <= limit < math.inf for limit in (tolerance.atol, tolerance.rtol)):
        raise UsageError("a tolerance is a finite number from 0 upwards", where=f"atol={atol} rtol={rtol}")
    return tolerance
