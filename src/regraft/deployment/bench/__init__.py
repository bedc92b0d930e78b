"""bench: how fast, how large, how much memory? Several models and runtimes, interleaved in one run."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, TypeVar, Unpack

import msgspec

from regraft.compare.noise import UNIT_ROUNDOFF
from regraft.deployment.bench.evidence import evidence_of_run
from regraft.deployment.bench.inputs import data_subject, feeds_file, split_feeds
from regraft.deployment.bench.messages import Size, Start
from regraft.deployment.bench.run import Run, Settings, measure
from regraft.deployment.bench.subject import Refused, Variant, prepare, told_apart, with_settings
from regraft.deployment.budget import DeviceBudget, read_budget
from regraft.errors import UsageError
from regraft.package.reference import ModelRef
from regraft.record.evidence import Draft, Evidence
from regraft.runtime import require_runtime
from regraft.runtime.permission import PermitSource

if TYPE_CHECKING:
    from regraft.record.store import Store
    from regraft.runtime.interface import Feeds

_T = TypeVar("_T", int, str)
PRECISIONS = (*UNIT_ROUNDOFF, "int8")
"""Names that a runtime may compute in."""
MAX_LIMIT_S = 86400.0
MAX_THREADS = 1024
"""Above this a runtime is busy for minutes with starting them."""


class BenchOptions(TypedDict, total=False):
    """The options of `bench` that say what is measured, and how."""

    runtimes: Sequence[str] | None
    feeds: Feeds | Sequence[str] | Path | None
    batch_sizes: Sequence[int]
    lengths: Sequence[int]
    runs: int
    starts: int
    threads: int | Sequence[int] | None
    precision: str | Sequence[str] | None
    compare: bool
    seed: int
    budget: DeviceBudget | str | os.PathLike[str] | None
    time_limit_s: float
    load_limit_s: float
    pass_limit_s: float


def bench(
    refs: str | os.PathLike[str] | ModelRef | Sequence[str | os.PathLike[str] | ModelRef],
    *,
    runtimes: Sequence[str] | None = None,
    feeds: Feeds | Sequence[str] | Path | None = None,
    batch_sizes: Sequence[int] = (1, 32),
    lengths: Sequence[int] = (),
    runs: int = 200,
    starts: int = 2,
    threads: int | Sequence[int] | None = None,
    precision: str | Sequence[str] | None = None,
    compare: bool = True,
    seed: int = 0,
    store: Store | None = None,
    offline: bool = False,
    budget: DeviceBudget | str | os.PathLike[str] | None = None,
    time_limit_s: float = 20.0,
    load_limit_s: float = 300.0,
    pass_limit_s: float = 60.0,
    permit: PermitSource | None = None,
) -> Evidence:
    """Measure latency, throughput, CPU time, energy, load, memory and size of models, and what speed costs in error.

    Each model runs in processes of its own, and the models take turns, so that a change of the machine meets
    all of them. A package is measured as it is used: from strings with its own tokenizer, or from pictures with its
    own preparation, to the logits of its head, or to vectors. A model that crashes or hangs is an inconclusive row;
    the others go on.

    Args:
        refs: packages, or `py:module:factory` of the user's own.
        runtimes: measure each package in each of these; None for the first that can load it.
        feeds: input name → array for one pass (its first axis is then the only batch size), a file of them
            (.safetensors, .npz, .csv), or texts; None for built-in texts, made-up pictures, or values made up
            from the signature.
        batch_sizes: rows of a pass; each is a row of the result.
        lengths: tokens of every text, or the size of every other symbolic dimension; each with each batch size. Empty
            for texts as they are.
        runs: passes to time for each row.
        starts: processes for each model, one after the other; the runs are shared among them.
        threads: intra-op threads, or several such settings; None for the runtime's default.
        precision: to demand, or several; a runtime that cannot honour it is a row that was not measured. The precision
            that is really used stands beside each number in any case.
        compare: give the error of each model against the first, in noise floors, beside its speed.
        seed: of the order of the turns, of the texts and of made-up values.
        store: where packages are looked up and the single passes are kept.
        offline: no network.
        budget: of the device, or its file; judged with the intervals.
        time_limit_s: for the timed passes of one row; fewer than `runs` are made then.
        load_limit_s: a process that takes longer to load has hung.
        pass_limit_s: as does one that takes longer for a single pass.
        permit: leave to load what could execute code; None takes it from the scans in the store.
    Returns:
        evidence of kind `bench`. About several packages its first subject is the set of them, see `bench_each`.
    Raises:
        UsageError: an option makes no sense; no runtime or precision has such a name.
        RegraftError: none of the packages can be opened.
    Source: order-statistic intervals as in `runtime.quantiles`; several processes, turns, and a warm-up that is
        found and not guessed: Kalibera and Jones, Rigorous benchmarking in reasonable time, ISMM 2013.
    """
    options = BenchOptions(
        runtimes=runtimes, feeds=feeds, batch_sizes=batch_sizes, lengths=lengths, runs=runs, starts=starts,
        threads=threads, precision=precision, compare=compare, seed=seed, budget=budget,
        time_limit_s=time_limit_s, load_limit_s=load_limit_s, pass_limit_s=pass_limit_s,
    )  # fmt: skip
    several = [refs] if isinstance(refs, str | os.PathLike | ModelRef) else refs
    return bench_each(several, store=store, offline=offline, permit=permit, **options)[0]


def bench_each(
    refs: Sequence[str | os.PathLike[str] | ModelRef],
    *,
    store: Store | None = None,
    offline: bool = False,
    permit: PermitSource | None = None,
    **options: Unpack[BenchOptions],
) -> list[Evidence]:
    """As `bench`: the joint evidence, then, when there are several packages, one about each of them alone.

    All come from the same interleaved run, so their numbers may be compared.
    """
    draft = Draft("bench")
    budget = options.get("budget")
    if budget is not None and not isinstance(budget, DeviceBudget):
        budget = read_budget(Path(budget), describes=True)
    texts, arrays, file = split_feeds(options.get("feeds"))
    with feeds_file(arrays, file) as kept:
        settings = _settings(options, texts, kept, store, offline)
        if budget is not None:
            settings = _with_budget(settings, budget)
        run = _measured(refs, options, settings, store, permit)
        data = [data_subject(kept, texts)] if kept is not None or texts else []
    draft.materials += data
    packages = list(dict.fromkeys(live.variant.subjects[0].sha256 for live in run.lives))
    joint = evidence_of_run(run, draft, budget, store=store)
    if len(packages) + len(run.refused) < 2:
        return [joint]
    each = []
    for package in packages:
        own = Draft("bench")
        own.materials += data
        each.append(evidence_of_run(run, own, budget, store=store, only=package))
    return [joint, *each]


def _measured(
    refs: Sequence[str | os.PathLike[str] | ModelRef],
    options: BenchOptions,
    settings: Settings,
    store: Store | None,
    permit: PermitSource | None,
) -> Run:
    if not refs:
        raise UsageError("nothing to measure", hint="regraft bench REF…")
    offline, runtimes = settings.request.offline, tuple(dict.fromkeys(options.get("runtimes") or (None,)))
    threads, precisions = _several(options.get("threads")), _several(options.get("precision"))
    _require_known(runtimes, precisions)
    if any(count is not None and not 1 <= count <= MAX_THREADS for count in threads):
        raise UsageError(f"threads are 1 to {MAX_THREADS}")
    each = {str(ref): ref for ref in refs}.values()  # the same one twice would be one row with two answers
    found = [one for ref in each for one in prepare(ref, runtimes, store=store, offline=offline, permit=permit)]
    refused = [one for one in found if isinstance(one, Refused)]
    variants = [one for one in found if isinstance(one, Variant)]
    if not variants:
        raise refused[0].error
    return measure(with_settings(told_apart(variants), threads, precisions), refused, settings)


def _require_known(runtimes: Iterable[str | None], precisions: Iterable[str | None]) -> None:
    """A name that nothing has is the user's slip, and no row that was not measured."""
    for runtime in runtimes:
        if runtime is not None:
            require_runtime(runtime)
    for precision in precisions:
        if precision is not None and precision not in PRECISIONS:
            raise UsageError(f"there is no precision {precision!r}", hint=f"there are: {', '.join(PRECISIONS)}")


def _several(given: _T | Sequence[_T] | None) -> list[_T | None]:
    """A setting, or several of them, each once."""
    if given is None or isinstance(given, str | int):
        return [given]
    return list(dict.fromkeys(given)) or [None]


def _settings(
    options: BenchOptions, texts: tuple[str, ...], feeds_file: Path | None, store: Store | None, offline: bool
) -> Settings:
    batch_sizes = tuple(dict.fromkeys(options.get("batch_sizes", (1, 32))))
    lengths: tuple[int | None, ...] = tuple(dict.fromkeys(options.get("lengths", ()))) or (None,)
    runs, starts = options.get("runs", 200), options.get("starts", 2)
    limits = options.get("time_limit_s", 20.0), options.get("load_limit_s", 300.0), options.get("pass_limit_s", 60.0)
    counts = (*batch_sizes, runs, starts, *(length for length in lengths if length is not None))
    if not batch_sizes or min(counts) < 1:
        raise UsageError("batch sizes, lengths, runs and starts are at least 1")
    if not all(0 < limit <= MAX_LIMIT_S for limit in limits):
        raise UsageError(f"time limits are more than 0 and at most {MAX_LIMIT_S:.0f} seconds")
    if feeds_file is not None and lengths != (None,):
        raise UsageError("arrays have the length that they have", hint="leave out --length, or --feeds")
    request = Start(
        ModelRef("path", ""),
        feeds_file=str(feeds_file) if feeds_file else None,
        texts=texts,
        store=str(store.root) if store is not None else None,
        offline=offline,
        seed=options.get("seed", 0),
    )
    sizes = tuple(Size(batch, length) for batch in batch_sizes for length in lengths)
    return Settings(request, sizes, runs, min(starts, runs), *limits, options.get("compare", True))


def _with_budget(settings: Settings, budget: DeviceBudget) -> Settings:
    """Also measured at the batch that the limits are for, and this processor, where another is described."""
    lengths = dict.fromkeys(size.length for size in settings.sizes)
    wanted = {limit.batch for limit in budget.limits if limit.batch is not None}
    judged = [Size(batch, length) for batch in wanted for length in lengths]
    sizes = tuple(dict.fromkeys((*settings.sizes, *judged)))
    return msgspec.structs.replace(settings, sizes=sizes, describes=budget.machine is not None)


__all__ = ["BenchOptions", "bench", "bench_each"]
